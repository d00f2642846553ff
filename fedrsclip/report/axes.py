"""How axes of this project's figures look."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedrsclip.report.palette import GRID, INK, MUTED, SURFACE
from fedrsclip.report.svg import Canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

HALF = (400, 270)
"""Pixels of a figure that takes half of a wide page, and all of a phone's."""


def plain(axes: "Axes", *, x: str = "", y: str = "", grid: str = "y") -> "Axes":
    """Take away what is no data: frame, ticks, background."""
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, colors=MUTED, labelsize=11)
    axes.set_xlabel(x, color=MUTED, fontsize=11)
    axes.set_ylabel(y, color=MUTED, fontsize=11)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=1)  # type: ignore[arg-type]
    return axes


def legend(axes: "Axes", columns: int = 3) -> None:
    """Put the legend above the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure = axes.get_figure(root=True)
    if handles and figure is not None:
        figure.legend(
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


def rounds(axes: "Axes", first: int, last: int) -> None:
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
