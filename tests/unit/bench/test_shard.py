"""Parts of a grid: together they are the whole, and like cells are shared out evenly."""

from collections import Counter

import pytest

from fedrsclip.bench.cells import Cell, part_of
from fedrsclip.bench.description import describe
from fedrsclip.bench.runner import locked, refuse_others
from fedrsclip.bench.shard import Shard
from fedrsclip_core.errors import RunError

pytestmark = pytest.mark.unit


def cell(method: str, seed: int, variant: str = "", after: str = "") -> Cell:
    return Cell(f"{method}-{variant}{seed}", "uniform", method, seed, (), variant, after=after)


GRID = [cell(method, seed) for seed in range(6) for method in ("slow", "fast", "middle")]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 18, 25])
def test_each_cell_is_in_one_part(count: int) -> None:
    parts = [part_of(GRID, Shard(number, count)) for number in range(1, count + 1)]
    assert sorted(c.name for part in parts for c in part) == sorted(c.name for c in GRID)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for part in parts:
        assert part == [c for c in GRID if c in part]  # in the order of the grid


def test_each_part_has_as_many_cells_of_a_method() -> None:
    for number in (1, 2, 3):
        found = Counter(c.method for c in part_of(GRID, Shard(number, 3)))
        assert found == {"slow": 2, "fast": 2, "middle": 2}


def test_what_builds_on_a_cell_is_in_its_part() -> None:
    cells = []
    for seed in range(4):
        first = cell("promptfl", seed, "seen")
        cells += [first, cell("promptfl", seed, "1 epochs", after=first.name)]
    for number in (1, 2, 3):
        part = part_of(cells, Shard(number, 3))
        assert part
        assert {c.after for c in part if c.after} == {c.name for c in part if not c.after}


def test_a_part_has_its_own_lock_and_excludes_the_whole() -> None:
    whole, first, second = (
        describe(["bench=demo", *more]) for more in ([], ["bench.shard=1/2"], ["bench.shard=2/2"])
    )
    assert first.place.parent == first.folder == whole.place
    with locked(first.place), locked(second.place):
        refuse_others(first)
        with pytest.raises(RunError, match="shard-1-of-2 of demo is running in another process"):
            refuse_others(whole)
    with locked(whole.place):
        refuse_others(whole)
        with pytest.raises(RunError, match="the benchmark demo is running in another process"):
            refuse_others(second)
