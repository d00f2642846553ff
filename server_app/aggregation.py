"""Flower's aggregators by name, and how one round is handed to them."""

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    Bulyan,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    Strategy,
)
from numpy.typing import NDArray

from fedrsclip_core.config.schema import StrategyConfig
from fedrsclip_core.config.shared_tensors import NAMES, SHARED_PROMPT, Shapes, SharedTensors
from fedrsclip_core.config.validation import STRATEGY_PARAMETERS
from fedrsclip_core.errors import ConfigError, RunError, WireError
from fedrsclip_core.wire.messages import TRAIN
from fedrsclip_core.wire.records import (
    CONFIG,
    PROXIMAL_MU,
    aggregation_content,
    pack_shared,
    unpack_shared,
)
from server_app.flower_internals import Run
from server_app.influence import Contribution

AGGREGATORS: Mapping[str, type[FedAvg]] = {
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedavgm": FedAvgM,
    "fedadam": FedAdam,
    "fedadagrad": FedAdagrad,
    "fedyogi": FedYogi,
    "fedmedian": FedMedian,
    "fedtrimmedavg": FedTrimmedAvg,
    "krum": Krum,
    "multikrum": MultiKrum,
    "bulyan": Bulyan,
}
"""Flower's class by ``strategy.name``."""

_STATE: Mapping[type[FedAvg], tuple[str, ...]] = {
    FedAvgM: ("current_arrays", "momentum_vector"),
    FedAdam: ("m_t", "v_t"),
    FedAdagrad: ("m_t", "v_t"),
    FedYogi: ("m_t", "v_t"),
}
"""What a strategy remembers from round to round, beyond its configuration."""


def build(config: StrategyConfig) -> FedAvg:
    """Build Flower's strategy; parameters that are ``None`` keep Flower's default.

    Raises
    ------
    ConfigError
        If the name is not in :data:`AGGREGATORS`.
    """
    if config.name not in AGGREGATORS:
        raise ConfigError(
            f"strategy.name is {config.name!r}: choose one of {', '.join(AGGREGATORS)}"
        )
    given = {name: getattr(config, name) for name in STRATEGY_PARAMETERS[config.name]}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    # Which nodes take part is decided before: the strategy must take all it is shown.
    return AGGREGATORS[config.name](
        fraction_train=1.0,
        min_train_nodes=1,
        min_evaluate_nodes=1,
        min_available_nodes=1,
        **options,
    )


class Aggregator:
    """One of Flower's strategies, shown exactly the chosen nodes and the checked replies.

    Parameters
    ----------
    strategy : Strategy
        The strategy (or the outermost wrapper) that does the mathematics.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy

    def configure(
        self, server_round: int, shared: SharedTensors, node_ids: Sequence[int], grid: Grid
    ) -> float:
        """Let the strategy prepare the round on exactly ``node_ids``.

        Its messages are not sent: the request has a schema of its own, into which the one value
        that a strategy adds is taken over.

        Returns
        -------
        float
            FedProx's ``proximal-mu``, 0 for other strategies.

        Raises
        ------
        RunError
            If it does not address exactly ``node_ids``.
        """
        with _quiet_flower():
            messages = list(
                self.strategy.configure_train(
                    server_round, pack_shared(shared), ConfigRecord(), _ChosenNodes(grid, node_ids)
                )
            )
        if sorted(message.metadata.dst_node_id for message in messages) != sorted(node_ids):
            raise RunError(
                f"{type(self.strategy).__name__} prepared {len(messages)} messages, not one for "
                f"each of the {len(node_ids)} chosen nodes"
            )
        values: Mapping[str, Any] = messages[0].content.config_records[CONFIG]
        return float(values.get(PROXIMAL_MU, 0.0))

    def aggregate(
        self, server_round: int, contributions: Iterable[Contribution], shapes: Shapes
    ) -> SharedTensors:
        """Reduce what came of checked replies, in partition order, to what is shared next.

        Returns
        -------
        SharedTensors
            Of ``shapes``, finite.

        Raises
        ------
        RunError
            If the strategy gives no or no finite result; its state is then as before.
        """
        # The strategies replace their state, they do not change it in place.
        before = copy.copy(self.strategy)
        try:
            with _quiet_flower(), np.errstate(all="ignore"):
                arrays, _ = self.strategy.aggregate_train(server_round, _as_messages(contributions))
                return _as_shared(arrays, shapes)
        except Exception as error:
            name = type(self.strategy).__name__
            self.strategy = before
            cause = str(error) if isinstance(error, RunError | WireError) else type(error).__name__
            raise RunError(f"{name} gave nothing to share: {cause}") from error

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what the strategy remembers, by attribute and tensor; empty before round 1."""
        return {
            f"{attribute}.{name}": array
            for attribute in _state_of(self.strategy)
            for name, array in self._remembered(attribute).items()
        }

    def _remembered(self, attribute: str) -> dict[str, NDArray[Any]]:
        kept = vars(self.strategy)
        value = kept[attribute]
        if value is None:
            return {}
        if isinstance(value, list):  # in the order of the arrays
            value = dict(zip(kept["current_arrays"], value, strict=True))
        if isinstance(value, ArrayRecord):
            value = {name: array.numpy() for name, array in value.items()}
        return {name: np.asarray(array) for name, array in value.items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Let the strategy remember what :meth:`state` gave.

        Raises
        ------
        RunError
            If another strategy gave it.
        """
        arrays: dict[str, dict[str, NDArray[Any]]] = {}
        for key, array in state.items():
            attribute, _, name = key.partition(".")
            # Checkpoints of versions that shared the prompt alone name no tensor.
            arrays.setdefault(attribute, {})[name or SHARED_PROMPT] = array
        unknown = arrays.keys() - set(_state_of(self.strategy))
        if unknown:
            raise RunError(
                f"{type(self.strategy).__name__} knows no {', '.join(sorted(unknown))}: the "
                "checkpoint is of another strategy"
            )
        for attribute, found in arrays.items():
            ordered = {name: found[name] for name in NAMES if name in found}
            setattr(self.strategy, attribute, _AS_ATTRIBUTE[attribute](ordered))


def _state_of(strategy: Strategy) -> tuple[str, ...]:
    return next((names for kind, names in _STATE.items() if type(strategy) is kind), ())


_AS_ATTRIBUTE: Mapping[str, Callable[[dict[str, NDArray[Any]]], Any]] = {
    "current_arrays": lambda arrays: ArrayRecord({n: Array(a) for n, a in arrays.items()}),
    "momentum_vector": lambda arrays: list(arrays.values()),
    "m_t": dict,
    "v_t": dict,
}


def _as_shared(arrays: ArrayRecord | None, shapes: Shapes) -> SharedTensors:
    if arrays is None:
        raise RunError("too few replies for it")
    # FedAdam and others compute in float64.
    values = {name: array.numpy().astype(np.float32) for name, array in arrays.items()}
    return unpack_shared(pack_shared(values), shapes)


def _as_messages(contributions: Iterable[Contribution]) -> list[Message]:
    return [Message(aggregation_content(one.shared, one.weight), 0, TRAIN) for one in contributions]


@contextmanager
def _quiet_flower() -> Iterator[None]:
    """Hold back the strategies' own lines about sampling: they know only the chosen nodes."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class _ChosenNodes(Grid):
    """A grid on which only the chosen nodes are online."""

    def __init__(self, grid: Grid, node_ids: Sequence[int]) -> None:
        self._grid = grid
        self._node_ids = list(node_ids)

    def get_node_ids(self) -> Iterable[int]:
        return self._node_ids

    @property
    def run(self) -> Run:
        return self._grid.run

    def set_run(self, run: Run) -> None:
        self._grid.set_run(run)

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return self._grid.create_message(*args, **kwargs)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self._grid.send_and_receive(messages, timeout=timeout)
