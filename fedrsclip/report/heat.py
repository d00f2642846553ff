"""Heat maps: a square per number, as strong as the number is large."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrsclip.report.axes import plain
from fedrsclip.report.palette import GRID, INK, MUTED, ON_HEAT
from fedrsclip.report.svg import Canvas, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LETTER = 6.6
"""Pixels of a letter in a label, on average."""
_STRONG = 0.65


@dataclass(frozen=True)
class Cell:
    """A square: place, text in it, share of the full colour, and what it says."""

    row: int
    column: int
    text: str
    share: float
    color: str
    tip: str


def heat_map(
    cells: Sequence[Cell], rows: Sequence[str], columns: Sequence[str], *, x: str = "", y: str = ""
) -> tuple[Canvas, tuple[int, int]]:
    """Draw cells; those that are left out stay empty.

    Returns
    -------
    tuple[Canvas, tuple[int, int]]
        The figure and its size in pixels.
    """
    side = 30 if len(columns) <= 16 else 24 if len(columns) <= 32 else 18
    left = 40 + _LETTER * max(map(len, rows))
    below = 26 + 0.87 * _LETTER * max(map(len, columns))
    size = (round(left + side * len(columns) + 16), round(below + side * len(rows) + 10))
    drawn = canvas(*size)
    axes = plain(drawn.axes(), x=x, y=y, grid="")
    _squares(axes, drawn, cells)
    axes.set(
        xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5), aspect="equal", anchor="NW"
    )
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(colors=INK, labelsize=11, pad=3)
    _lines(axes, len(rows), len(columns))
    if side >= 24:
        for cell in cells:
            ink = ON_HEAT if cell.share > _STRONG else INK
            axes.text(
                cell.column,
                cell.row,
                cell.text,
                ha="center",
                va="center_baseline",
                fontsize=10 if side < 30 or len(cell.text) > 3 else 11,
                color=ink,
            )
    return drawn, size


def share_of(values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each number as a share of the largest; what is there is never invisible."""
    largest = values.max(initial=0)
    return np.where(values > 0, 0.12 + 0.88 * values / max(largest, 1), 0.0)


def _squares(axes: "Axes", drawn: Canvas, cells: Sequence[Cell]) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    corners = np.array([(-0.46, -0.46), (0.46, -0.46), (0.46, 0.46), (-0.46, 0.46)])
    squares = PolyCollection(
        [corners + np.array([cell.column, cell.row]) for cell in cells],
        facecolors=[to_rgba(cell.color, cell.share) for cell in cells],
        linewidths=0,
    )
    axes.add_collection(squares)
    drawn.name(squares, "cells", [cell.tip for cell in cells])


def _lines(axes: "Axes", rows: int, columns: int) -> None:
    axes.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color=GRID, linewidth=1, zorder=0)
    axes.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color=GRID, linewidth=1, zorder=0)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
