"""How this project's figures look: colours, axes, curves, bars and heat maps."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip.report.labels import FONT, elided, width_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Okabe and Ito's colours, told apart also by those who see fewer. Each is a colour of its own in
# the figure and becomes a CSS variable in the page, which chooses it again for a dark screen.
INK, MUTED, GRID, SURFACE, ON_HEAT = "#111213", "#606770", "#dfe3e8", "#fdfdfc", "#fefeff"
BLUE, VERMILLION, GREEN, ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
PURPLE, SKY, GREY, HEAT = "#cc79a7", "#56b4e9", "#7a818b", "#0a6cad"

VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    SURFACE: "var(--surface)",
    ON_HEAT: "var(--on-heat)",
    BLUE: "var(--blue)",
    VERMILLION: "var(--vermillion)",
    GREEN: "var(--green)",
    ORANGE: "var(--orange)",
    PURPLE: "var(--purple)",
    SKY: "var(--sky)",
    GREY: "var(--grey)",
    HEAT: "var(--heat)",
}

SERIES = (VERMILLION, BLUE, GREEN, PURPLE, ORANGE, SKY, GREY, INK)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "h")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
DASHED = (0, (5, 3))

HALF = (400, 270)
"""Pixels of a figure that takes half of a wide page, and all of a phone's."""

_STYLE: Any = {
    # Text stays text: the page's font, selectable, and a tenth of the size of outlines.
    "svg.fonttype": "none",
    "font.family": FONT,
    # Names come from people: a dollar in them begins no formula.
    "text.parse_math": False,
    "font.size": 12,
    "path.simplify": False,
    "axes.unicode_minus": False,
}
_TITLE_LETTER = 8.0
"""Points that a letter of a title takes in width."""
_TITLE = 24
_LETTER = 6.6
"""Pixels of a letter in a label of a heat map, on average."""
_MANY, _WIDEST = 64, 1200
_SMALLEST_SQUARE, _SMALLEST_LABEL = 2.0, 9.0
"""Pixels: of more than a hundred classes only some are named, so that a name can be read."""
_STRONG = 0.65
_NUMBERED = 1000
"""Squares up to which each has its number written in it."""
_NUMBERED_SIDE = 14


@dataclass
class Canvas:
    """A figure that is drawn, and what its marks say.

    Attributes
    ----------
    figure : Figure
        To draw on; it belongs to no window.
    tips : dict[str, Sequence[str]]
        By an artist's gid the text of each of its marks, in order.
    """

    figure: "Figure"
    tips: dict[str, Sequence[str]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Its width in pixels."""
        return round(self.figure.get_figwidth() * 72)

    def axes(self, *, x: str = "", y: str = "", grid: str = "y") -> "Axes":
        """Return the axes of the whole figure, without what is no data: frame, ticks, background.

        Parameters
        ----------
        x, y : str
            The axes' labels.
        grid : str
            Along which axis values can be read off: ``x``, ``y``, ``both``, or empty.
        """
        axes = self.figure.add_subplot()
        axes.set_gid("main")
        axes.patch.set_visible(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, colors=MUTED, labelsize=11)
        axes.set_xlabel(x, color=MUTED, fontsize=11)
        axes.set_ylabel(y, color=MUTED, fontsize=11)
        axes.set_axisbelow(True)
        if grid:
            axes.grid(axis=grid, color=GRID, linewidth=1)  # type: ignore[arg-type]
        return axes

    def name(self, artist: "Artist", gid: str, tips: Sequence[str]) -> None:
        """Name an artist and say what each of its marks stands for."""
        artist.set_gid(gid)
        self.tips[gid] = tips

    def legend(self, columns: int = 3) -> None:
        """Put the legend above the axes, where it covers nothing."""
        handles, labels = self.figure.axes[0].get_legend_handles_labels()
        if handles:
            self.figure.legend(
                handles,
                labels,
                loc="outside upper left",
                ncols=columns,
                frameon=False,
                labelcolor=INK,
                fontsize=11,
                handlelength=2.2,
                columnspacing=1.2,
                borderaxespad=0.1,
                borderpad=0.2,
            )

    def entitle(self, title: str) -> None:
        """Put a title above all, for a picture that stands alone."""
        from matplotlib.font_manager import FontProperties

        lines = wrap(title, int(72 * self.figure.get_figwidth() / _TITLE_LETTER))
        title = "\n".join(lines)
        self.figure.set_figheight(self.figure.get_figheight() + len(lines) * _TITLE / 72)
        if self.figure.legends:
            # Beside a legend of the figure, matplotlib would set a title of the figure over it.
            (legend,) = self.figure.legends
            legend.set_title(title, FontProperties(size=13))
            legend.set_alignment("left")
            legend.get_title().set_color(INK)
        else:
            self.figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=13)


@contextmanager
def drawing() -> Iterator[None]:
    """Set what all figures share, while they are drawn and written."""
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield


def canvas(width: float, height: float) -> Canvas:
    """Return an empty figure of a size in pixels."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=2 / 72)
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout=layout)
    figure.patch.set_visible(False)
    return Canvas(figure)


def round_axis(axes: "Axes", first: int, last: int) -> None:
    """Make the x axis one of rounds."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    room = max(0.4, 0.02 * (last - first))
    axes.set_xlim(first - room, last + room)


def curve(
    axes: "Axes", x: Sequence[float], y: Sequence[float], color: str, marker: str, **more: Any
) -> "Line2D":
    """Draw a line with markers that stand off from it."""
    style: dict[str, Any] = {
        "linewidth": 2,
        "markersize": 6.5,
        "markeredgecolor": SURFACE,
        "markeredgewidth": 1,
    }
    (line,) = axes.plot(x, y, color=color, marker=marker, clip_on=False, **(style | more))
    return line


@dataclass(frozen=True)
class Bars:
    """Bars of one kind: their name, and how they look also without colour."""

    name: str
    color: str
    hatch: str = ""
    width: float = 0.7
    offset: float = 0.0

    def draw(
        self,
        drawn: Canvas,
        axes: "Axes",
        x: Sequence[float],
        heights: Sequence[float],
        tips: Sequence[str],
        low: Sequence[float] | float = 0,
    ) -> None:
        """Draw a bar at each ``x``; its mark is called by the bars' name and ``x``."""
        bars = axes.bar(
            [place + self.offset for place in x],
            heights,
            self.width,
            low,
            color=self.color,
            hatch=self.hatch,
            label=self.name,
            edgecolor=SURFACE,
            linewidth=0,
        )
        for place, bar, tip in zip(x, bars, tips, strict=True):
            drawn.name(bar, f"{self.name.split()[0]}-{place}", [tip])


@dataclass(frozen=True)
class Cell:
    """A square of a heat map: place, text in it, share of the full colour, and what it says."""

    row: int
    column: int
    text: str
    share: float
    color: str
    tip: str


def heat_map(
    cells: Sequence[Cell], rows: Sequence[str], columns: Sequence[str], *, x: str = "", y: str = ""
) -> Canvas:
    """Draw a square per cell, as strong as its number is large; those left out stay empty."""
    side = _side(max(len(rows), len(columns)))
    size = min(11.0, max(side / 1.3, _SMALLEST_LABEL))
    row_labels, column_labels = _labels(rows, side), _labels(columns, side)
    left = 40 + _LETTER * max(map(width_of, row_labels))
    below = 26 + 0.87 * _LETTER * max(map(width_of, column_labels))
    drawn = canvas(round(left + side * len(columns) + 16), round(below + side * len(rows) + 10))
    axes = drawn.axes(x=x, y=y, grid="")
    _squares(axes, drawn, cells)
    axes.set(
        xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5), aspect="equal", anchor="NW"
    )
    axes.set_xticks(
        range(len(columns)), column_labels, rotation=60, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(rows)), row_labels)
    axes.tick_params(colors=INK, labelsize=size, pad=3)
    _lines(axes, len(rows), len(columns))
    for cell in cells if len(cells) <= _NUMBERED and side >= _NUMBERED_SIDE else ():
        axes.text(
            cell.column,
            cell.row,
            cell.text,
            ha="center",
            va="center_baseline",
            fontsize=min(side / 2.4, 11 if len(cell.text) <= 3 else side / 3),
            color=ON_HEAT if cell.share > _STRONG else INK,
        )
    return drawn


def _side(count: int) -> float:
    """Return the pixels of a square, fewer where there are many."""
    if count <= _MANY:
        return 30 if count <= 16 else 24 if count <= 32 else 18
    return max(_WIDEST / count, _SMALLEST_SQUARE)


def _labels(names: Sequence[str], side: float) -> list[str]:
    """Return the names, long ones without their middle; of squares too small for all, some."""
    step = math.ceil(_SMALLEST_LABEL / side)
    return [elided(name) if place % step == 0 else "" for place, name in enumerate(names)]


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
