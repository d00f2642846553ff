"""Who takes part is fixed by seed, round and partitions alone."""

import pytest

from server_app.sampling import sample

pytestmark = pytest.mark.unit

EVERYONE = list(range(10))


def draw(server_round: int, seed: int = 0, **options: object) -> list[int]:
    settings: dict[str, object] = {"fraction": 0.4, "available": EVERYONE} | options
    return sample(EVERYONE, seed=seed, server_round=server_round, **settings)  # type: ignore[arg-type]


def test_the_same_round_draws_the_same_partitions() -> None:
    assert draw(3) == draw(3)
    assert draw(3) == sample(EVERYONE[::-1], 0.4, seed=0, server_round=3, available=set(EVERYONE))


def test_rounds_and_seeds_differ() -> None:
    assert len({tuple(draw(r)) for r in range(20)}) > 10
    assert len({tuple(draw(1, seed=seed)) for seed in range(20)}) > 10


def test_everyone_takes_part_about_equally_often() -> None:
    counts = [sum(p in draw(r) for r in range(1000)) for p in EVERYONE]
    assert min(counts) > 330
    assert max(counts) < 470


def test_all_in_ascending_order_with_fraction_one() -> None:
    assert draw(1, fraction=1.0) == EVERYONE


def test_an_absent_client_is_replaced_and_the_others_stay() -> None:
    before = draw(5)
    absent = before[0]
    after = draw(5, available=[p for p in EVERYONE if p != absent])
    assert absent not in after
    assert len(after) == 4
    assert set(before) - {absent} <= set(after)


def test_at_least_one_and_at_least_the_minimum() -> None:
    assert len(draw(1, fraction=0.01)) == 1
    assert len(draw(1, fraction=0.01, minimum=3)) == 3
    assert len(draw(1, available=[2])) == 1
