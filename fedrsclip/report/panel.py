"""A panel of the page: a figure with its meaning and its numbers, or why there is none."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from xml.etree import ElementTree

from fedrsclip.report.drawing import VARIABLES, Canvas
from fedrsclip.report.labels import show_all_signs, silent

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_HREF = f"{{{_XLINK}}}href"
NOT_AS_EXPECTED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What drawing raises if a damaged file holds something else."""
_PNG_DPI, _MARGIN = 180, 24


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
    """

    canvas: Canvas
    description: str
    table: Table
    lead: str


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
    except NOT_AS_EXPECTED as error:
        return Panel(name, title, absent=f"Not drawn, a file holds something else ({error!r}).")
    return Panel(name, title, drawn.lead, svg, drawn.table, drawn.canvas.width)


def to_png(drawn: Canvas, title: str) -> bytes:
    """Return a figure as a picture on white, with its title above."""
    from PIL import Image, ImageOps

    drawn.entitle(title)
    drawn.figure.patch.set(visible=True, facecolor="white")
    show_all_signs(drawn.figure, escape=True)
    picture = BytesIO()
    with silent():
        drawn.figure.savefig(picture, format="png", dpi=_PNG_DPI)
    framed = BytesIO()
    ImageOps.expand(Image.open(picture).convert("RGB"), _MARGIN, "white").save(framed, "png")
    return framed.getvalue()


def to_plain_svg(drawn: Canvas) -> bytes:
    """Return a figure as a picture on white that stands alone; after ``to_png`` with its title."""
    from matplotlib import rc_context

    show_all_signs(drawn.figure, escape=False)
    picture = BytesIO()
    with rc_context({"svg.hashsalt": "picture"}), silent():
        drawn.figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    return picture.getvalue()


def to_svg(drawn: Canvas, name: str, title: str, description: str) -> str:
    """Return a figure as an ``svg`` element whose colours are the page's.

    Parameters
    ----------
    drawn : Canvas
        The figure.
    name : str
        Begins every id, so that figures on one page do not meet.
    title, description : str
        What a screen reader says.
    """
    from matplotlib import rc_context

    show_all_signs(drawn.figure, escape=False)
    picture = BytesIO()
    # The salt makes the ids that matplotlib draws by lot the same for the same figure.
    with rc_context({"svg.hashsalt": name}), silent():
        drawn.figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(picture.getvalue())
    _clean(root)
    _say_scales(root, drawn)
    _say_tips(root, drawn.tips)
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _of_page(key, value, name))
    _announce(root, name, title, description)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _clean(root: ElementTree.Element) -> None:
    """Take away what would reach beyond the figure, or says nothing."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
            child.tail = None
        if not (parent.text or "").strip():
            parent.text = None
    for attribute in ("width", "height", "version"):
        del root.attrib[attribute]


def _of_page(key: str, value: str, name: str) -> str:
    """Return an attribute with the page's colours, and ids of this figure alone."""
    if key == "id":
        return f"{name}-{value}"
    if key == _HREF:
        return value.replace("#", f"#{name}-")
    for color, variable in VARIABLES.items():
        value = value.replace(color, variable)
    return value.replace("url(#", f"url(#{name}-")


def _say_scales(root: ElementTree.Element, drawn: Canvas) -> None:
    """Write into the group of the axes where its limits lie: ``pixel pixel value value``."""
    (axes,) = drawn.figure.axes
    group = _named(root, str(axes.get_gid()))
    height = drawn.figure.get_figheight() * 72
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    left, bottom = axes.transData.transform((x0, y0))
    right, top = axes.transData.transform((x1, y1))
    group.set("data-x", f"{left:.3f} {right:.3f} {x0:.9g} {x1:.9g}")
    group.set("data-y", f"{height - bottom:.3f} {height - top:.3f} {y0:.9g} {y1:.9g}")
    group.set("data-scales", f"{axes.get_xscale()} {axes.get_yscale()}")


def _say_tips(root: ElementTree.Element, tips: Mapping[str, Sequence[str]]) -> None:
    for gid, texts in tips.items():
        for mark, text in zip(_marks(_named(root, gid)), texts, strict=True):
            ElementTree.SubElement(mark, f"{{{_SVG}}}title").text = text


def _named(root: ElementTree.Element, gid: str) -> ElementTree.Element:
    return next(group for group in root.iter(f"{{{_SVG}}}g") if group.get("id") == gid)


def _marks(group: ElementTree.Element) -> list[ElementTree.Element]:
    """Return a line's markers, or what a collection or patch draws; no definitions."""
    uses = list(group.iter(f"{{{_SVG}}}use"))
    return uses or list(_drawn_paths(group))


def _drawn_paths(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for child in element:
        if child.tag == f"{{{_SVG}}}path":
            yield child
        elif child.tag != f"{{{_SVG}}}defs":
            yield from _drawn_paths(child)


def _announce(root: ElementTree.Element, name: str, title: str, description: str) -> None:
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-description")
    for index, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}")
        element.set("id", f"{name}-{'title' if tag == 'title' else 'description'}")
        element.text = text
        root.insert(index, element)
