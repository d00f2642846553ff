"""How far one client can move what is shared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrsclip_core.config.schema import StrategyConfig
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.config.validation import STRATEGY_PARAMETERS
from fedrsclip_core.wire.messages import MOST_IMAGES, TRAIN, RoundReply
from fedrsclip_core.wire.records import NUM_EXAMPLES
from server_app.admission import Client
from server_app.aggregation import AGGREGATORS, Aggregator, build
from server_app.influence import UPDATE_RATIO, Limits, capped, shortened
from tests.unit.server.fake_runs import counts, go, one_array, start_prompt
from tests.unit.server.fakes import Fakes, identity, small_config

pytestmark = pytest.mark.unit

COUNTS = st.lists(st.integers(1, MOST_IMAGES), min_size=1, max_size=12)
SHARES = st.floats(0.01, 1)
START = np.ones((2, 3), np.float32)


def updates(*lengths: float) -> dict[str, dict[str, np.ndarray]]:
    """Return what clients send whose updates have these lengths, in different directions."""
    directions = np.random.default_rng(0).normal(size=(len(lengths), *START.shape))
    return {
        f"client-{index}": {SHARED_PROMPT: START + np.float32(length) * one / np.linalg.norm(one)}
        for index, (length, one) in enumerate(zip(lengths, directions, strict=True))
    }


def lengths_of(sent: dict[str, dict[str, np.ndarray]]) -> list[float]:
    return [float(np.linalg.norm(one[SHARED_PROMPT] - START)) for one in sent.values()]


# --- weights ----------------------------------------------------------------------------------


@given(COUNTS, SHARES)
def test_no_weight_is_more_than_its_share_and_the_light_ones_stay(
    given_counts: list[int], share: float
) -> None:
    weights = capped(given_counts, share)
    largest = max(share, 1 / len(weights))
    assert max(weights) <= largest * sum(weights) * (1 + 1e-9)
    if share * len(weights) > 1:
        assert all(
            weight == count or weight == max(weights)
            for weight, count in zip(weights, given_counts, strict=True)
        )
        assert all(w <= c for w, c in zip(weights, given_counts, strict=True))


@given(COUNTS)
def test_without_a_bound_weights_are_the_counts_in_every_bit(given_counts: list[int]) -> None:
    weights = capped(given_counts, 1.0)
    assert weights == given_counts
    assert all(type(weight) is int for weight in weights)


@pytest.mark.parametrize(
    ("given_counts", "share", "expected"),
    [
        ([10, 10, 10**7], 0.5, [10, 10, 20]),
        ([10, 10, 10**7, 10**7], 0.3, [10, 10, 15, 15]),
        ([10, 30], 0.5, [1, 1]),
        ([70], 0.5, [1]),
        ([5, 6, 7], 0.5, [5, 6, 7]),
    ],
)
def test_the_heaviest_are_cut(given_counts: list[int], share: float, expected: list[float]) -> None:
    assert capped(given_counts, share) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("num_clients", "share"), [(1, 1.0), (2, 0.5), (3, 0.5), (4, 0.5), (5, 0.4), (20, 0.1)]
)
def test_what_a_deployment_allows_depends_on_the_number_of_clients(
    num_clients: int, share: float
) -> None:
    replies = {
        str(index): RoundReply(10**7 if index == 0 else 10, 0.0, {SHARED_PROMPT: START})
        for index in range(num_clients)
    }
    limits = Limits.of(StrategyConfig(), simulation=False)
    found, _ = limits.contributions(replies, {SHARED_PROMPT: START})
    assert found[0].weight / sum(one.weight for one in found) == pytest.approx(share)


def test_a_simulation_has_no_bounds_of_its_own_but_those_that_are_set() -> None:
    assert Limits.of(StrategyConfig(), simulation=True) == Limits(False, 1.0, None)
    strategy = StrategyConfig(weights="equal", max_weight_share=0.2, max_update_ratio=2.0)
    for simulation in (True, False):
        assert Limits.of(strategy, simulation=simulation) == Limits(True, 0.2, 2.0)


# --- updates ----------------------------------------------------------------------------------


def test_a_long_update_is_shortened_and_keeps_its_direction() -> None:
    sent = updates(1.0, 1.2, 500.0, 0.8)
    kept, notes = shortened(sent, {SHARED_PROMPT: START}, 3.0)
    assert lengths_of(kept) == pytest.approx([1.0, 1.2, 3.3, 0.8], rel=1e-4)
    before, after = (x["client-2"][SHARED_PROMPT] - START for x in (sent, kept))
    np.testing.assert_allclose(after / np.linalg.norm(after), before / np.linalg.norm(before), 1e-3)
    assert all(kept[name] == sent[name] for name in ("client-0", "client-1", "client-3"))
    assert notes == [
        "the update of shared_prompt by client client-2 is 500 long, the round's median 1.1: it "
        "counts as 3.3"
    ]


@pytest.mark.parametrize("lengths", [(1.0, 500.0), (500.0,), (0.0, 0.0, 0.0), (1.0, 2.0, 2.9)])
def test_usual_updates_and_those_of_two_stay(lengths: tuple[float, ...]) -> None:
    sent = updates(*lengths)
    kept, notes = shortened(sent, {SHARED_PROMPT: START}, 3.0)
    assert not notes
    assert all(kept[name][SHARED_PROMPT] is sent[name][SHARED_PROMPT] for name in sent)


# --- in a run ---------------------------------------------------------------------------------


def test_a_claim_of_many_images_moves_a_deployed_run_by_half_and_is_named() -> None:
    fakes = Fakes(small_config(num_rounds=1), scripts={(TRAIN, 2): counts({NUM_EXAMPLES: 10**7})})
    fakes.identities[2] = {"num_train": 10**7, "label_counts": ()}
    lines: list[str] = []
    moved = go(fakes, lines, deployed=True).shared[SHARED_PROMPT] - start_prompt(fakes.config)
    np.testing.assert_allclose(moved, (1 * 10 + 2 * 20 + 3 * 30) / 60, atol=1e-5)
    doubts = [line for line in lines if line.startswith("warning: ")]
    assert doubts == [
        "warning: client client-2 tells of 10000000 train images, the median of the others is 15: "
        "it has at most 50% of the average; if that cannot be, ask that site"
    ]


def test_a_claim_of_many_test_images_is_named() -> None:
    clients = [Client(p, identity(p, small_config())) for p in range(3)]
    object.__setattr__(clients[0].identity, "num_test", 5000)
    (doubt,) = Limits.of(StrategyConfig(), simulation=False).doubts(clients)
    assert "client-0 tells of 5000 test images" in doubt
    assert "accuracies over all test images are mostly its own" in doubt


def test_a_far_prompt_within_the_absolute_bound_is_shortened_in_a_deployed_run() -> None:
    far = one_array(SHARED_PROMPT, lambda v: v + np.float32(100))
    lines: list[str] = []
    fakes = Fakes(small_config(num_rounds=1), scripts={(TRAIN, 1): far})
    moved = go(fakes, lines, deployed=True).shared[SHARED_PROMPT] - start_prompt(fakes.config)
    # The honest clients move it by 1 and 3: the median of the three is 3, twice that is 6.
    np.testing.assert_allclose(moved, (1 * 10 + 6 * 20 + 3 * 30) / 60, rtol=1e-4)
    assert any("round 1: the update of shared_prompt by client client-1" in line for line in lines)


def test_equal_weights() -> None:
    config = small_config(num_rounds=1)
    config.strategy.weights = "equal"
    moved = go(Fakes(config)).shared[SHARED_PROMPT] - start_prompt(config)
    np.testing.assert_allclose(moved, 2.0, atol=1e-5)


# --- under each aggregator --------------------------------------------------------------------


def moved_by_a_liar(name: str, limits: Limits) -> float:
    """Return how far one of ten moves the aggregate, in lengths of the round's median update."""
    honest = updates(*np.linspace(0.8, 1.2, 9))
    lie = {SHARED_PROMPT: START + np.float32(400)}
    start = {SHARED_PROMPT: START}

    def aggregated(sent: dict[str, dict[str, np.ndarray]]) -> np.ndarray:
        withstand = 1 if "num_malicious_nodes" in STRATEGY_PARAMETERS[name] else None
        config = StrategyConfig(name=name, num_malicious_nodes=withstand)
        aggregator = Aggregator(build(config))
        replies = {
            client: RoundReply(MOST_IMAGES if shared is lie else 100, 0.0, shared)
            for client, shared in sent.items()
        }
        grid = Fakes(small_config()).grid()
        aggregator.configure(1, start, list(range(len(sent))), grid)
        contributions, _ = limits.contributions(replies, start)
        shapes = {SHARED_PROMPT: (2, 3)}
        return aggregator.aggregate(1, contributions, shapes)[SHARED_PROMPT]

    difference = aggregated({**honest, "client-9": lie}) - aggregated(honest)
    return float(np.linalg.norm(difference))


@pytest.mark.flower
@pytest.mark.parametrize("name", AGGREGATORS)
def test_no_aggregator_is_moved_farther_than_the_bounds_allow(name: str) -> None:
    # A fifth of the weights times two lengths, and a fifth of what the honest ones have moved.
    bounded = moved_by_a_liar(name, Limits.of(StrategyConfig(), simulation=False))
    assert bounded < 0.2 * (UPDATE_RATIO + 1)


@pytest.mark.flower
@pytest.mark.parametrize("name", ["fedavg", "fedprox", "fedavgm"])
def test_without_the_bounds_a_mean_is_the_liars(name: str) -> None:
    alone = moved_by_a_liar(name, Limits(False, 1.0, None))
    assert alone > 0.99 * np.linalg.norm(np.full(START.shape, 400.0))
