"""How long a site is waited for, learned from how long it took before."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from fedrsclip_core.wire.messages import EVALUATE, TRAIN
from server_app.admission import Client
from server_app.exchange import LATE, TIMEOUT, UNREACHABLE, Reply, Wait

_FACTOR, _FLOOR = 4.0, 30.0
"""A site may take so many times its usual seconds, and these anyway: it asks every 3 seconds."""
_USUALLY = 1.5
_CRASHED = 90.0
"""Seconds in which Flower tells of a message whose process has died: a minute, and on its way."""
_ENOUGH, _KEPT = 2, 9
"""Replies from which a time is learned, and after which older ones no longer count."""

FINETUNE = "finetune"
"""The final evaluation where it trains, too: nothing is known of how long that takes."""

Seconds = Mapping[str, Mapping[str, Sequence[float]]]
"""How long replies took, by client and kind of message: what a checkpoint keeps of it."""


@dataclass
class _Past:
    """What is known of one client: its times by kind of message, and misses in a row."""

    seconds: dict[str, deque[float]]
    missed: int = 0

    @property
    def doubted(self) -> bool:
        return self.missed > 1 or (self.missed > 0 and not self.seconds)

    def usual(self, kind: str) -> float | None:
        """Return the median time; ``None`` until enough is known."""
        # An evaluation takes no longer than training, which includes one.
        for one in (kind, TRAIN) if kind == EVALUATE else (kind,):
            known = self.seconds.get(one, ())
            if len(known) >= _ENOUGH:
                return median(known)
        return None

    def add(self, kind: str, seconds: float) -> None:
        self.seconds.setdefault(kind, deque(maxlen=_KEPT)).append(seconds)


class Patience:
    """Learns each client's time, and for how long a round should wait for it.

    A client has ``upper`` seconds until two of its replies are known, then four times their
    median, at least half a minute and at most ``upper``; each time that it misses doubles this.
    A client that has missed twice in a row, or once and never answered, is no longer waited for
    once the others are there, but asked. One answer in time, be it a failure, makes that good.
    No wait is cut short that a round needs to reach the least number of replies.

    Parameters
    ----------
    upper : float
        Seconds, ``federation.round_timeout``.
    needed : int
        The least number of replies.
    simulation : bool
        Waits for everybody for ``upper`` seconds: what a simulation finds must not depend on how
        busy its machine is.
    """

    def __init__(self, upper: float, needed: int, *, simulation: bool) -> None:
        self._upper, self._needed, self._simulation = upper, needed, simulation
        self._past: dict[str, _Past] = {}

    def restore(self, seconds: Seconds) -> None:
        """Take over what an earlier attempt at the run has learned."""
        self._past = {
            name: _Past({kind: deque(times, maxlen=_KEPT) for kind, times in kinds.items()})
            for name, kinds in seconds.items()
        }

    def waits(self, kind: str, clients: Iterable[Client]) -> dict[int, Wait]:
        """Return for how long to wait for whom, by node id; all others have ``upper`` seconds."""
        if self._simulation:
            return {}
        asked = [(client.node_id, self._of(client.name)) for client in clients]
        reliable = sum(past.missed == 0 for _, past in asked)
        return {
            node_id: self._wait(kind, past)
            for node_id, past in asked
            if reliable - (past.missed == 0) >= self._needed
        }

    def learn(self, kind: str, client: Client, reply: Reply) -> str:
        """Take note of what came back; return what a person should know of it, if anything."""
        if self._simulation:
            return ""
        past = self._of(client.name)
        before = past.doubted
        if reply.reason in (TIMEOUT, LATE):
            past.missed += 1
        elif reply.reason != UNREACHABLE:
            past.missed = 0
            past.add(kind, reply.seconds)
        if past.doubted == before:
            return ""
        if before:
            return f"client {client.name} has answered in time again: rounds wait for it"
        return (
            f"client {client.name} was late again: it is asked, but rounds no longer wait for it "
            "until it answers in time"
        )

    def learn_late(self, kind: str, client: Client, seconds: float) -> None:
        """Take note of how long a reply took that came too late for its round.

        What the client took before says no longer what it takes.
        """
        self._of(client.name).seconds[kind] = deque([seconds] * _ENOUGH, maxlen=_KEPT)

    def state(self) -> dict[str, dict[str, list[float]]]:
        """Return what has been learned, to be kept in a checkpoint."""
        return {
            name: {kind: list(times) for kind, times in past.seconds.items()}
            for name, past in self._past.items()
            if past.seconds
        }

    def _of(self, name: str) -> _Past:
        return self._past.setdefault(name, _Past({}))

    def _wait(self, kind: str, past: _Past) -> Wait:
        own = past.usual(kind)
        usual = self._slowest(kind) if own is None and past.missed else own
        limit = self._upper
        if usual is not None:
            limit = min(limit, max(_FLOOR, _FACTOR * usual) * 2.0**past.missed)
        alone = _USUALLY * (own or 0.0) if past.doubted else None
        return Wait(limit, min(limit + _CRASHED, self._upper), alone)

    def _slowest(self, kind: str) -> float | None:
        """Return the usual time of the slowest client of which it is known."""
        known = [past.usual(kind) for past in self._past.values()]
        return max((one for one in known if one is not None), default=None)
