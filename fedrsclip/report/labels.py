"""Names as labels: long ones cut, in any script that an installed font has, else as escapes.

matplotlib's own font has the Latin, Greek, Cyrillic, Arabic and Hebrew scripts. What it lacks would
become a box.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING
from unicodedata import east_asian_width
from warnings import catch_warnings, filterwarnings

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Text

FONT = "DejaVu Sans"
"""Comes with matplotlib."""
_LONGEST = 36
"""Letters of a name in a figure; the table below it has the whole."""
_NO_LETTERS = ("Last Resort", "STIX", "cm", "DejaVu", "Noto Color Emoji", "Apple Color Emoji")
"""Fonts of boxes, of formulas, and of pictures that matplotlib cannot draw."""


def elided(name: str) -> str:
    """Return a name, without its middle if it is longer than a label may be."""
    half = (_LONGEST - 1) // 2
    return name if len(name) <= _LONGEST else f"{name[:half].rstrip()}…{name[-half:].lstrip()}"


def width_of(label: str) -> int:
    """Return the width that a label takes in a picture, in Latin letters."""
    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in escaped(label))


def escaped(label: str) -> str:
    """Return a label with escapes for the signs that no installed font has."""
    left = _covered(_foreign(label))[1]
    if not left:
        return label
    signs = (sign.encode("unicode_escape").decode() if sign in left else sign for sign in label)
    return elided("".join(signs))


def lacking(texts: Iterable[str]) -> list[str]:
    """Return the texts that have a sign which no installed font has."""
    return [text for text in texts if _covered(_foreign(text))[1]]


def show_all_signs(figure: "Figure", *, escape: bool) -> None:
    r"""Let each text of a figure use the fonts that have its signs.

    Parameters
    ----------
    figure : Figure
        Before it is drawn.
    escape : bool
        Whether signs that no font has are written as ``\u519c``; a browser may have a font.
    """
    from matplotlib.text import Text

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            _show_ticks(axis, escape)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        _show(text, escape)


@contextmanager
def silent() -> Iterator[None]:
    """Keep matplotlib's warnings of missing signs, which are dealt with, from the terminal."""
    with catch_warnings():
        filterwarnings("ignore", r"(?s)Glyph .* missing from")
        yield


def _show_ticks(axis: "Axis", escape: bool) -> None:
    # Texts of ticks are made anew from their labels whenever a figure is drawn.
    labels = [label.get_text() for label in axis.get_ticklabels()]
    shown = [escaped(label) if escape else label for label in labels]
    if shown != labels:
        axis.set_ticks(axis.get_ticklocs(), shown)


def _show(text: "Text", escape: bool) -> None:
    foreign = _foreign(text.get_text())
    if not foreign:
        return
    families, _ = _covered(foreign)
    text.set_fontfamily([FONT, *families])
    if escape:
        text.set_text(escaped(text.get_text()))


def _foreign(text: str) -> frozenset[str]:
    """Return the signs of a text that matplotlib's font lacks."""
    if text.isascii():
        return frozenset()
    return frozenset(sign for sign in text if ord(sign) not in _signs(_file()) and sign != "\n")


@cache
def _covered(signs: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Return the families that have some of the signs, and the signs that none has."""
    from matplotlib.font_manager import fontManager

    families: list[str] = []
    left = set(signs)
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
        if not left:
            break
        if entry.name.startswith(_NO_LETTERS) or entry.name in families:
            continue
        found = {sign for sign in left if ord(sign) in _signs(entry.fname)}
        if found:
            families.append(entry.name)
            left -= found
    return families, frozenset(left)


def _file() -> str:
    from matplotlib.font_manager import findfont

    return findfont(FONT)


@cache
def _signs(file: str) -> frozenset[int]:
    """Return the code points that a font file has; none of one that matplotlib cannot read."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(file).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()
