"""Reads the numbers back from a figure: from its marks' places through its axes."""

import re
from dataclasses import dataclass
from math import log10
from xml.etree import ElementTree

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def svg_of(page: str, panel: str) -> ElementTree.Element:
    """Return the figure of a panel."""
    article = page[page.index('<article class="panel') :]
    start = article.index(f'id="{panel}"')
    begin = article.index("<svg", start)
    end = article.index("</article>", start)
    assert begin < end, f"{panel} has no figure"
    return ElementTree.fromstring(article[begin : article.index("</svg>", begin) + len("</svg>")])


def group(svg: ElementTree.Element, name: str) -> ElementTree.Element:
    """Return the group of a named artist."""
    found = [e for e in svg.iter(f"{SVG}g") if (e.get("id") or "").endswith(f"-{name}")]
    assert len(found) == 1, f"{len(found)} groups are called {name}"
    return found[0]


def tips(svg: ElementTree.Element, name: str) -> list[str]:
    """Return what the marks of an artist say."""
    return [e.text or "" for e in group(svg, name).iter(f"{SVG}title")]


@dataclass(frozen=True)
class Axis:
    """Turns a place in the figure into a value."""

    first: float
    last: float
    low: float
    high: float
    scale: str

    def value(self, place: float) -> float:
        share = (place - self.first) / (self.last - self.first)
        if self.scale == "log":
            low, high = log10(self.low), log10(self.high)
            return float(10 ** (low + share * (high - low)))
        return self.low + share * (self.high - self.low)


def axes(svg: ElementTree.Element) -> tuple[Axis, Axis]:
    """Return both axes of a figure."""
    (found,) = [e for e in svg.iter(f"{SVG}g") if e.get("data-x")]
    scales = found.attrib["data-scales"].split()
    x, y = (
        Axis(*map(float, found.attrib[f"data-{way}"].split()), scale)  # type: ignore[arg-type]
        for way, scale in zip("xy", scales, strict=True)
    )
    return x, y


def markers(svg: ElementTree.Element, name: str) -> list[tuple[float, float]]:
    """Return the values at which a line's markers stand."""
    x, y = axes(svg)
    uses = group(svg, name).iter(f"{SVG}use")
    return [(x.value(float(u.attrib["x"])), y.value(float(u.attrib["y"]))) for u in uses]


def boxes(svg: ElementTree.Element, name: str) -> list[tuple[float, float, float, float]]:
    """Return the values between which an artist's shapes lie: left, right, bottom, top."""
    x, y = axes(svg)
    found = []
    for path, right, down in _shapes(group(svg, name)):
        numbers = [float(text) for text in _NUMBER.findall(path.attrib["d"])]
        xs = [place + right for place in numbers[::2]]
        ys = [place + down for place in numbers[1::2]]
        found.append((x.value(min(xs)), x.value(max(xs)), y.value(max(ys)), y.value(min(ys))))
    return found


def _shapes(element: ElementTree.Element) -> list[tuple[ElementTree.Element, float, float]]:
    """Return paths and by how much each is shifted; what is used is not drawn where it is."""
    paths = list(element.iter(f"{SVG}path"))
    uses = list(element.iter(f"{SVG}use"))
    if not uses:
        return [(path, 0.0, 0.0) for path in paths]
    named = {path.get("id"): path for path in paths}
    return [
        (named[use.attrib[f"{XLINK}href"][1:]], float(use.attrib["x"]), float(use.attrib["y"]))
        for use in uses
    ]


def middles(svg: ElementTree.Element, name: str) -> list[tuple[float, float]]:
    """Return the values in the middle of an artist's shapes."""
    return [((a + b) / 2, (c + d) / 2) for a, b, c, d in boxes(svg, name)]
