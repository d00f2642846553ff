"""Flower's aggregators: each runs, gives float32, and sees exactly what it should."""

from dataclasses import replace

import numpy as np
import pytest

from fedrsclip_core.config.schema import StrategyConfig
from fedrsclip_core.config.shared_tensors import (
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
    SharedTensors,
)
from fedrsclip_core.config.validation import STRATEGY_PARAMETERS
from fedrsclip_core.errors import ConfigError, RunError
from server_app.aggregation import AGGREGATORS, Aggregator, build
from server_app.influence import Contribution
from tests.unit.server.fakes import Fakes, small_config

pytestmark = [pytest.mark.unit, pytest.mark.flower]

SHAPES = {SHARED_PROMPT: (4, 8), SHARED_OFFSETS_U: (3, 2), SHARED_OFFSETS_V: (2, 6)}
START = {name: np.zeros(shape, dtype=np.float32) for name, shape in SHAPES.items()}
NODES = [11, 12, 13]


@pytest.fixture(autouse=True)
def _task() -> None:
    Fakes(small_config()).grid()  # without one, this process may create no messages


def replies(*values: float, weights: tuple[int, ...] = (10, 20, 30)) -> list[Contribution]:
    return [
        Contribution(
            {name: np.full(shape, value, np.float32) for name, shape in SHAPES.items()}, weight
        )
        for value, weight in zip(values, weights, strict=False)
    ]


def with_memory(name: str) -> StrategyConfig:
    """Return a configuration under which all that the strategy can remember counts."""
    options = {"fedavgm": {"server_momentum": 0.9}, "fedadam": {"beta_1": 0.9, "beta_2": 0.99}}
    return StrategyConfig(name=name, **options.get(name, {}))


def one_round(
    aggregator: Aggregator, shared: SharedTensors, server_round: int, *values: float
) -> SharedTensors:
    grid = Fakes(small_config()).grid()
    aggregator.configure(server_round, shared, NODES, grid)
    return aggregator.aggregate(server_round, replies(*values), SHAPES)


def bits(shared: SharedTensors) -> dict[str, bytes]:
    return {name: tensor.tobytes() for name, tensor in shared.items()}


def test_the_closed_tables_agree() -> None:
    assert AGGREGATORS.keys() == STRATEGY_PARAMETERS.keys()


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_aggregator_runs_and_gives_float32(name: str) -> None:
    aggregator = Aggregator(build(with_memory(name)))
    shared = START
    for server_round in (1, 2, 3):
        shared = one_round(aggregator, shared, server_round, 1.0, 2.0, 3.0)
        assert {name: tensor.shape for name, tensor in shared.items()} == SHAPES
        assert all(tensor.dtype == np.float32 for tensor in shared.values())
        assert all(np.isfinite(tensor).all() for tensor in shared.values())
    assert all(tensor.any() for tensor in shared.values())


@pytest.mark.parametrize("name", AGGREGATORS)
def test_a_restored_aggregator_goes_on_with_equal_bits(name: str) -> None:
    values = [(1.0, 2.0, 3.0), (2.5, -1.0, 0.5), (0.1, 0.2, 4.0), (3.0, 3.0, -2.0)]
    whole = Aggregator(build(with_memory(name)))
    shared = START
    for server_round, sent in enumerate(values, start=1):
        shared = one_round(whole, shared, server_round, *sent)
    first = Aggregator(build(with_memory(name)))
    assert first.state() == {}
    half = START
    for server_round, sent in enumerate(values[:2], start=1):
        half = one_round(first, half, server_round, *sent)
    second = Aggregator(build(with_memory(name)))
    second.restore({key: array.copy() for key, array in first.state().items()})
    for server_round, sent in enumerate(values[2:], start=3):
        half = one_round(second, half, server_round, *sent)
    assert bits(half) == bits(shared)
    assert first.state().keys() == second.state().keys()


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_the_state_matters(name: str) -> None:
    first, forgetful = (Aggregator(build(with_memory(name))) for _ in range(2))
    shared = one_round(first, START, 1, 1.0, 2.0, 3.0)
    assert first.state()
    remembered = bits(one_round(first, shared, 2, 1.0, 2.0, 5.0))
    forgotten = bits(one_round(forgetful, shared, 2, 1.0, 2.0, 5.0))
    assert all(remembered[name] != forgotten[name] for name in SHAPES)


def test_the_state_of_another_strategy_is_refused() -> None:
    other = Aggregator(build(with_memory("fedavgm")))
    one_round(other, START, 1, 1.0, 2.0, 3.0)
    with pytest.raises(RunError, match="FedAvg knows no current_arrays, momentum_vector"):
        Aggregator(build(StrategyConfig())).restore(other.state())


@pytest.mark.parametrize("name", ["fedavgm", "fedadam"])
def test_the_state_of_a_version_that_shared_the_prompt_alone_is_understood(name: str) -> None:
    """Such a checkpoint names the attribute only."""
    whole = Aggregator(build(with_memory(name)))
    shared = one_round(whole, START, 1, 1.0, 2.0, 3.0)
    earlier = {
        key.removesuffix(f".{SHARED_PROMPT}"): array
        for key, array in whole.state().items()
        if key.endswith(SHARED_PROMPT)
    }
    restored = Aggregator(build(with_memory(name)))
    restored.restore(earlier)
    grid = Fakes(small_config()).grid()
    restored.configure(2, {SHARED_PROMPT: shared[SHARED_PROMPT]}, NODES, grid)
    sent = [
        replace(reply, shared={SHARED_PROMPT: reply.shared[SHARED_PROMPT]})
        for reply in replies(2.5, -1.0, 0.5)
    ]
    alone = restored.aggregate(2, sent, {SHARED_PROMPT: SHAPES[SHARED_PROMPT]})
    expected = one_round(whole, shared, 2, 2.5, -1.0, 0.5)
    assert alone[SHARED_PROMPT].tobytes() == expected[SHARED_PROMPT].tobytes()


def test_fedavg_is_the_mean_weighted_by_examples() -> None:
    shared = one_round(Aggregator(build(StrategyConfig())), START, 1, 1.0, 2.0, 6.0)
    np.testing.assert_allclose(shared[SHARED_PROMPT], (1 * 10 + 2 * 20 + 6 * 30) / 60, rtol=1e-6)


def test_parameters_reach_flower_and_none_keeps_its_default() -> None:
    strategy = build(StrategyConfig(name="fedadam", eta=0.5))
    assert strategy.eta == 0.5  # type: ignore[attr-defined]
    assert strategy.beta_2 == 0.99  # type: ignore[attr-defined]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="fedavg, fedprox"):
        build(StrategyConfig(name="average"))


def test_fedprox_weight_is_read_from_the_strategy() -> None:
    grid = Fakes(small_config()).grid()
    prox = Aggregator(build(StrategyConfig(name="fedprox", proximal_mu=0.25)))
    assert prox.configure(1, START, NODES, grid) == 0.25
    assert Aggregator(build(StrategyConfig())).configure(1, START, NODES, grid) == 0.0


def test_fedavgm_momentum_continues_across_rounds() -> None:
    config = StrategyConfig(name="fedavgm", server_momentum=0.5, server_learning_rate=1.0)
    aggregator = Aggregator(build(config))
    first = one_round(aggregator, START, 1, 1.0, 1.0, 1.0)
    np.testing.assert_allclose(first[SHARED_PROMPT], 1.0, rtol=1e-6)
    # pseudo-gradient -1, momentum 0.5 * -1 - 1 = -1.5
    second = one_round(aggregator, first, 2, 2.0, 2.0, 2.0)
    np.testing.assert_allclose(second[SHARED_PROMPT], 2.5, rtol=1e-6)


def test_fedadam_moments_continue_across_rounds() -> None:
    continued = Aggregator(build(StrategyConfig(name="fedadam")))
    first = one_round(continued, START, 1, 1.0, 1.0, 1.0)
    second = one_round(continued, first, 2, 2.0, 2.0, 2.0)
    fresh = one_round(Aggregator(build(StrategyConfig(name="fedadam"))), first, 2, 2.0, 2.0, 2.0)
    assert not np.allclose(second[SHARED_PROMPT], fresh[SHARED_PROMPT])


def test_krum_takes_one_of_the_close_ones() -> None:
    config = StrategyConfig(name="krum", num_malicious_nodes=1)
    shared = one_round(Aggregator(build(config)), START, 1, 1.0, 1.1, 500.0)
    assert shared[SHARED_PROMPT].max() < 2


def test_a_result_that_is_not_finite_fails_and_leaves_the_state() -> None:
    aggregator = Aggregator(build(StrategyConfig(name="fedadam", eta=1e40)))
    grid = Fakes(small_config()).grid()
    aggregator.configure(1, START, NODES, grid)
    with pytest.raises(RunError, match="FedAdam gave nothing to share"):
        aggregator.aggregate(1, replies(1.0, 2.0, 3.0), SHAPES)
    assert aggregator.strategy.m_t is None  # type: ignore[attr-defined]


def test_too_few_replies_for_bulyan_fail() -> None:
    aggregator = Aggregator(build(StrategyConfig(name="bulyan", num_malicious_nodes=1)))
    with pytest.raises(RunError, match="Bulyan"):
        one_round(aggregator, START, 1, 1.0, 2.0, 3.0)
