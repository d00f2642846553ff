"""A panel of the page: a figure with its meaning and its numbers, or why there is none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedrsclip.report.svg import Canvas, to_svg

_NOT_AS_EXPECTED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Table:
    """A header and rows of text; the first column names its row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Drawn:
    """What a drawing function returns.

    Attributes
    ----------
    canvas : Canvas
        The figure.
    description : str
        What it shows, for those who do not see it.
    table : Table
        Its numbers.
    lead : str
        How to read it.
    size : tuple of int
        Pixels in which it was drawn.
    """

    canvas: Canvas
    description: str
    table: Table
    lead: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Panel:
    """What the page shows under one title; ``absent`` says why nothing is drawn."""

    name: str
    title: str
    lead: str = ""
    svg: str = ""
    table: Table | None = None
    width: int = 0
    absent: str = ""


def panel(name: str, title: str, draw: Callable[[], Drawn | str]) -> Panel:
    """Draw, or say why not: what a damaged file has cost must not cost the rest of the page.

    Parameters
    ----------
    name : str
        The panel's anchor; begins the ids of its figure.
    title : str
        Its heading.
    draw : Callable
        Returns a drawing, or a sentence if there is nothing to draw.
    """
    try:
        drawn = draw()
        if isinstance(drawn, str):
            return Panel(name, title, absent=drawn)
        svg = to_svg(drawn.canvas, name, title, drawn.description)
    except _NOT_AS_EXPECTED as error:
        return Panel(name, title, absent=f"Not drawn, a file holds something else ({error!r}).")
    return Panel(name, title, drawn.lead, svg, drawn.table, drawn.size[0])
