"""Matplotlib figures as inline SVG: colours and fonts are the page's, marks say their numbers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from fedrsclip.report.palette import VARIABLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_HREF = f"{{{_XLINK}}}href"
_FONT = re.compile(r"'?DejaVu Sans'?[^;]*")
_COLOR = re.compile(r"#[0-9a-f]{6}\b")
_REFERENCE = re.compile(r"#([\w.-]+)")
_DECIMALS = re.compile(r"-?\d+\.\d{3,}")
_STYLE: Any = {
    # Text stays text: the page's font, selectable, and a tenth of the size of outlines.
    "svg.fonttype": "none",
    "svg.hashsalt": "fedrsclip",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "path.simplify": False,
    "axes.unicode_minus": False,
}


@dataclass
class Canvas:
    """A figure that is drawn, and what its marks say.

    Attributes
    ----------
    figure : Figure
        To draw on.
    tips : dict[str, Sequence[str]]
        By an artist's gid the text of each of its marks, in order.
    """

    figure: "Figure"
    tips: dict[str, Sequence[str]] = field(default_factory=dict)

    def axes(self, name: str = "main") -> "Axes":
        """Return new axes over the whole figure; the SVG tells their scales."""
        axes = self.figure.add_subplot()
        axes.set_gid(name)
        return axes

    def name(self, artist: object, gid: str, tips: Sequence[str]) -> None:
        """Name an artist and say what each of its marks stands for."""
        artist.set_gid(gid)  # type: ignore[attr-defined]
        self.tips[gid] = tips


@contextmanager
def drawing() -> Iterator[None]:
    """Set what all figures share."""
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield


def canvas(width: float, height: float) -> Canvas:
    """Return an empty figure of a size in pixels; it belongs to no window."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=2 / 72)
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout=layout)
    figure.patch.set_visible(False)
    return Canvas(figure)


def to_svg(drawn: Canvas, name: str, title: str, description: str) -> str:
    """Return a figure as an ``svg`` element.

    Parameters
    ----------
    drawn : Canvas
        The figure.
    name : str
        Begins every id, so that figures on one page do not meet.
    title, description : str
        What a screen reader says.
    """
    text = StringIO()
    drawn.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(text.getvalue().encode())
    for unwanted in [e for e in root if e.tag.endswith("metadata")]:
        root.remove(unwanted)
    _scales(root, drawn)
    _tips(root, drawn.tips)
    _restyle(root)
    _prefix(root, name)
    _announce(root, name, title, description)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _scales(root: ElementTree.Element, drawn: Canvas) -> None:
    """Write into each group of axes where its limits lie: ``pixel pixel value value``."""
    groups = {e.get("id"): e for e in root.iter(f"{{{_SVG}}}g")}
    height = drawn.figure.get_figheight() * 72
    for axes in drawn.figure.axes:
        group = groups.get(axes.get_gid())
        if group is None:
            continue
        (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
        left, bottom = axes.transData.transform((x0, y0))
        right, top = axes.transData.transform((x1, y1))
        group.set("data-x", f"{left:.3f} {right:.3f} {x0:.9g} {x1:.9g}")
        group.set("data-y", f"{height - bottom:.3f} {height - top:.3f} {y0:.9g} {y1:.9g}")
        group.set("data-scales", f"{axes.get_xscale()} {axes.get_yscale()}")


def _tips(root: ElementTree.Element, tips: Mapping[str, Sequence[str]]) -> None:
    groups = {e.get("id"): e for e in root.iter(f"{{{_SVG}}}g")}
    for gid, texts in tips.items():
        marks = _marks(groups[gid])
        for mark, text in zip(marks, texts, strict=True):
            ElementTree.SubElement(mark, f"{{{_SVG}}}title").text = text


def _marks(group: ElementTree.Element) -> list[ElementTree.Element]:
    """Return a line's markers, or what a collection or patch draws; no definitions."""
    for defs in group.iter(f"{{{_SVG}}}defs"):
        for inner in defs.iter():
            inner.set("data-defined", "")
    uses = list(group.iter(f"{{{_SVG}}}use"))
    paths = [p for p in group.iter(f"{{{_SVG}}}path") if "data-defined" not in p.attrib]
    for element in group.iter():
        element.attrib.pop("data-defined", None)
    return uses or paths


def _restyle(root: ElementTree.Element) -> None:
    for parent in root.iter():
        if not (parent.text or "").strip():
            parent.text = None
        parent.tail = None
        for styles in [e for e in parent if e.tag.endswith("}style")]:
            parent.remove(styles)
        for name in ("style", "fill", "stroke"):
            if value := parent.get(name):
                value = _FONT.sub("var(--font)", value)
                parent.set(name, _COLOR.sub(lambda m: VARIABLES.get(m[0], m[0]), value))
        for name in ("d", "x", "y", "transform"):
            if value := parent.get(name):
                short = _DECIMALS.sub(lambda m: f"{float(m[0]):.2f}", value)
                parent.set(name, " ".join(short.split()))
        if parent.get("transform", "").startswith(("rotate(-0 ", "rotate(0 ")):
            del parent.attrib["transform"]


def _prefix(root: ElementTree.Element, name: str) -> None:
    """Put ``name`` before every id that somebody needs, and drop the others."""
    referred = {
        target
        for element in root.iter()
        for key in (_HREF, "clip-path", "style")
        for target in _REFERENCE.findall(element.get(key, ""))
    }
    for element in root.iter():
        if (own := element.get("id")) is not None:
            if own in referred or not re.fullmatch(r"[A-Za-z0-9]+_\d+", own):
                element.set("id", f"{name}-{own}")
            else:
                del element.attrib["id"]
        if target := element.get(_HREF):
            element.set(_HREF, target.replace("#", f"#{name}-"))
        for key in ("clip-path", "style"):
            if value := element.get(key):
                element.set(key, value.replace("url(#", f"url(#{name}-"))


def _announce(root: ElementTree.Element, name: str, title: str, description: str) -> None:
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-description")
    for index, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}")
        element.set("id", f"{name}-{'title' if tag == 'title' else 'description'}")
        element.text = text
        root.insert(index, element)
