"""How far a single client can move what is shared: its weight and the length of its update."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from fedrsclip_core.config.schema import EQUAL, StrategyConfig
from fedrsclip_core.config.shared_tensors import SharedTensors
from fedrsclip_core.wire.messages import RoundReply
from server_app.admission import Client

UPDATE_RATIO = 2.0
"""Longest update over the median one in a deployment; see docs/deployment/attacks.md."""
_FEWEST = 3
"""Clients without which a median says nothing: of two, either may be the liar."""
_ABSURD = 10.0
"""Times the median of the others' images from which a count is worth a question."""
_FEW = 10.0
"""Images that are usual also where the others have fewer."""


@dataclass(frozen=True)
class Contribution:
    """What the aggregator gets of one client."""

    shared: SharedTensors
    weight: float


@dataclass(frozen=True)
class Limits:
    """What ``strategy`` allows one client.

    Attributes
    ----------
    equal_weights : bool
        Whether examples do not count.
    share : float or None
        Largest part of all weights; ``None``: half, or twice an equal part if that is less.
    update_ratio : float or None
        Longest update over the median one; ``None``: any.
    """

    equal_weights: bool
    share: float | None
    update_ratio: float | None

    @classmethod
    def of(cls, strategy: StrategyConfig, *, simulation: bool) -> "Limits":
        """Read them; where nothing is set a simulation, whose clients are its own, has none."""
        share, ratio = strategy.max_weight_share, strategy.max_update_ratio
        if simulation and share is None:
            share = 1.0
        if not simulation and ratio is None:
            ratio = UPDATE_RATIO
        return cls(strategy.weights == EQUAL, share, ratio)

    def contributions(
        self, replies: Mapping[str, RoundReply], sent: SharedTensors
    ) -> tuple[list[Contribution], list[str]]:
        """Return what the aggregator gets, in the order of the replies, and a line per shortening.

        Parameters
        ----------
        replies : Mapping[str, RoundReply]
            Checked train replies by client name.
        sent : SharedTensors
            What they have started from.
        """
        counts = [1 if self.equal_weights else reply.num_examples for reply in replies.values()]
        share = self._share(len(counts))
        updated = {name: reply.shared for name, reply in replies.items()}
        notes: list[str] = []
        if self.update_ratio is not None:
            updated, notes = shortened(updated, sent, self.update_ratio)
        weights = capped(counts, share)
        return list(map(Contribution, updated.values(), weights)), notes

    def doubts(self, clients: Sequence[Client]) -> Iterator[str]:
        """Yield a line for each count of images far above those of the others."""
        for part in ("train", "val", "test"):
            counts = [getattr(client.identity, f"num_{part}") for client in clients]
            for index, client in enumerate(clients):
                others = counts[:index] + counts[index + 1 :]
                usual = max(_FEW, median(others)) if others else counts[index]
                if counts[index] > _ABSURD * usual:
                    yield (
                        f"client {client.name} tells of {counts[index]} {part} images, the median "
                        f"of the others is {usual:g}: {self._consequence(part, len(clients))}; "
                        "if that cannot be, ask that site"
                    )

    def _consequence(self, part: str, num_clients: int) -> str:
        if part != "train":
            return f"accuracies over all {part} images are mostly its own"
        if self.equal_weights:
            return "all clients weigh the same"
        return f"it has at most {self._share(num_clients):.0%} of the average"

    def _share(self, num_clients: int) -> float:
        return usual_share(num_clients) if self.share is None else self.share


def usual_share(num_clients: int) -> float:
    """Return the largest part of all weights that one client may have in a deployment."""
    return min(0.5, 2 / max(1, num_clients))


def capped(counts: Sequence[int], share: float) -> list[float]:
    """Return weights of which none is more than a part of their sum, the heaviest cut to that.

    Parameters
    ----------
    counts : Sequence[int]
        Weights above 0.
    share : float
        Where it leaves the clients less than everything, 1 over their number and below, all
        weigh the same.
    """
    if share >= 1:
        return list(counts)
    ordered = sorted(counts, reverse=True)
    if share * len(counts) > 1:
        for heavy, heaviest in enumerate(ordered):
            # So many have this weight when each of them is a share of the sum.
            limit = share * sum(ordered[heavy:]) / (1 - heavy * share)
            if heaviest <= limit:
                return [min(count, limit) for count in counts]
    return [1] * len(counts)


def shortened(
    updated: Mapping[str, SharedTensors], sent: SharedTensors, ratio: float
) -> tuple[dict[str, SharedTensors], list[str]]:
    """Shorten what is far longer than usual in this round, each tensor for itself.

    A round's usual length is the median over its clients: it falls by a factor of a hundred in
    the course of a run, and most clients have to lie to move it.

    Parameters
    ----------
    updated : Mapping[str, SharedTensors]
        What came back, by client.
    sent : SharedTensors
        What went out.
    ratio : float
        Longest update over the median one.

    Returns
    -------
    tuple[dict[str, SharedTensors], list[str]]
        What counts, by client, and a line for each client that was cut.
    """
    kept = {name: dict(tensors) for name, tensors in updated.items()}
    notes: list[str] = []
    if len(kept) < _FEWEST:
        return dict(updated), notes
    for tensor, start in sent.items():
        lengths = {name: _length(tensors[tensor], start) for name, tensors in kept.items()}
        usual = median(lengths.values())
        for name, length in lengths.items():
            if length <= ratio * usual:
                continue
            factor = np.float32(ratio * usual / length)
            kept[name][tensor] = start + factor * (kept[name][tensor] - start)
            notes.append(
                f"the update of {tensor} by client {name} is {length:.3g} long, the round's median "
                f"{usual:.3g}: it counts as {ratio * usual:.3g}"
            )
    return dict(kept), notes


def _length(tensor: np.ndarray, start: np.ndarray) -> float:
    return float(np.linalg.norm(tensor.astype(np.float64) - start))
