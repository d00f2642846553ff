"""From base to new classes: which are which, and what is measured."""

from collections.abc import Sequence

import pytest

from fedrsclip.bench import base_to_new as protocol
from fedrsclip.bench.base_to_new import split_classes, with_harmonic
from fedrsclip.bench.cells import Cell
from fedrsclip.bench.description import Description, describe
from fedrsclip.bench.figures import Row
from fedrsclip.bench.runner import Failures

pytestmark = pytest.mark.unit


def test_base_is_the_first_half_of_the_sorted_names() -> None:
    assert split_classes(["d", "a", "c", "b"]) == (["a", "b"], ["c", "d"])
    assert split_classes(["c", "b", "a"]) == (["a", "b"], ["c"])


def test_harmonic_mean() -> None:
    results = {"zero_shot": {"test": 0.5}, "last": {"test": {"global": 0.6}}}
    row = with_harmonic({"zero_shot": 0.25, "global": 0.3}, results)
    assert row["harmonic_zero_shot"] == pytest.approx(100 / 3)
    assert (row["new_global"], row["harmonic_global"]) == (30, pytest.approx(40))


def test_a_mode_that_is_not_there_stays_empty() -> None:
    results = {"zero_shot": {"test": 0.0}, "last": {"test": {"global": None}}}
    row = with_harmonic({"zero_shot": 0.0}, results)
    assert row["harmonic_zero_shot"] == 0
    assert row["new_global"] is row["harmonic_global"] is None


class FakeRunner:
    def __init__(self, description: Description) -> None:
        self.description = description
        self.cells: list[Cell] = []

    def run(self, cells: Sequence[Cell], *_: object) -> tuple[list[Row], Failures]:
        self.cells = list(cells)
        return [], {}


@pytest.mark.parametrize(
    ("grid", "others"),
    [
        (["bench=demo", "bench.settings=[uniform]"], "refuse"),
        (["bench=uc_merced_base_to_new", "data.path=/images"], "ignore"),
    ],
)
def test_a_cell_sees_base_classes_only(grid: list[str], others: str) -> None:
    """Of a folder the others are ignored; the embedded scenes are painted as asked for."""
    words = ["bench.protocol=base_to_new", "bench.methods=[promptfl]", "bench.reference=null"]
    runner = FakeRunner(describe([*grid, *words, "bench.seeds=[3]"]))
    protocol.base_to_new(runner)  # type: ignore[arg-type]
    assert runner.cells
    for cell in runner.cells:
        names = cell.config.data.class_names
        assert names == sorted(names)
        assert cell.config.data.other_classes == others
