"""Windows cover every cell, lie in the scene, and only cells that they see whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrsclip.map.grid import Grid
from fedrsclip.map.settings import Windows, windows
from fedrsclip_core.errors import ConfigError

pytestmark = pytest.mark.unit


@given(step=st.integers(1, 9), across=st.integers(1, 4), more=st.integers(0, 60))
def test_each_cell_is_covered_by_windows_that_see_all_of_it(
    step: int, across: int, more: int
) -> None:
    tile, length = step * across, step * across + more
    grid = Grid(length, length, tile, step)
    covered = np.zeros(grid.rows, int)
    for top in grid.tops:
        assert 0 <= top <= length - tile
        cells = grid.cells(top, length)
        assert cells.start < cells.stop
        assert top <= cells.start * step
        assert min(cells.stop * step, length) <= top + tile
        covered[cells] += 1
    assert covered.min() >= 1
    assert covered.max() <= across + 1
    assert (grid.rows - 1) * step < length <= grid.rows * step
    assert grid.tops == sorted(set(grid.tops))


@pytest.mark.parametrize(
    ("tile", "overlap", "expected"),
    [
        (None, 0.5, Windows(64, 32)),
        (None, "0", Windows(64, 64)),
        (None, 0.67, Windows(63, 21)),
        (None, "0.66", Windows(63, 21)),
        ("96", 0.67, Windows(96, 32)),
        ("224px", 0.75, Windows(224, 56)),
        ("120m", 0.5, Windows(12, 6)),
        ("0.5 km", 0, Windows(50, 50)),
        ("125 m", 0.5, Windows(12, 6)),
    ],
)
def test_windows_in_pixels_and_metres(tile: str | None, overlap: float, expected: Windows) -> None:
    assert windows(tile, overlap, 64, 10.0) == expected


@pytest.mark.parametrize(
    ("tile", "overlap", "sentence"),
    [
        ("65", 0.5, "does not divide into whole steps: give tile=64"),
        ("large", 0.5, "give pixels, as tile=224, or metres"),
        ("-5", 0.5, "give pixels"),
        ("30m", 0.5, "4 pixels of this scene: at least 8"),
        ("64.5", 0, "whole steps"),
        ("64", 0.3, "overlap is '0.3': give 0, 0.5, 0.67"),
        ("64", 1, "overlap is '1'"),
        ("64", "half", "overlap is 'half'"),
        ("64", "nan", "overlap is 'nan'"),
        ("64", "-0.5", "overlap is '-0.5'"),
    ],
)
def test_settings_that_mean_nothing(tile: str, overlap: float, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        windows(tile, overlap, 64, 10.0)
