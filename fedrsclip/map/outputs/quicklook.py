"""One picture of a map: the scene, its classes beside it, and what the colours mean."""

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrsclip.map.result import NO_DATA, MapResult
from fedrsclip.report.drawing import INK, MUTED, drawing
from fedrsclip.report.labels import elided, show_all_signs, silent, width_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 100
_SIDE = 700
"""Pixels of the longer side of each half."""
_GAP, _LINE, _TITLE, _NARROWEST, _MARGIN, _INDENT = 16, 24, 60, 460, 14, 22
_LETTER, _TITLE_LETTER, _SWATCH = 6.2, 10, 14
"""Pixels."""
_NAMED = 30
"""Classes in the legend at most, those of the largest areas."""
_NOTHING = (222, 224, 227)


@dataclass(frozen=True)
class _Sheet:
    """A figure whose places are pixels from its lower left corner."""

    figure: "Figure"
    width: int
    height: int

    def picture(self, pixels: NDArray[np.uint8], x: int, y: int, size: tuple[int, int]) -> None:
        """Draw a picture of a size in pixels."""
        box = (x / self.width, y / self.height, size[0] / self.width, size[1] / self.height)
        axes = self.figure.add_axes(box)
        axes.set_axis_off()
        axes.imshow(pixels, interpolation="antialiased", aspect="auto")

    def swatch(self, colour: str, x: int, y: float) -> None:
        """Draw a square of a colour, its middle at the height ``y``."""
        from matplotlib.patches import Rectangle

        place = (x / self.width, (y - _SWATCH / 2) / self.height)
        size = (_SWATCH / self.width, _SWATCH / self.height)
        square = Rectangle(place, *size, color=colour, transform=self.figure.transFigure)
        self.figure.add_artist(square)

    def text(self, text: str, x: int, y: float, size: float, colour: str = INK) -> None:
        """Write a line, its middle at the height ``y``."""
        place = (x / self.width, y / self.height)
        self.figure.text(*place, text, va="center", color=colour, fontsize=size)


def quicklook(result: MapResult) -> bytes:
    """Return a PNG of a map."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = result.scene.shape[:2]
    shrink = _SIDE / max(height, width)
    height, width = max(1, round(height * shrink)), max(1, round(width * shrink))
    across = max(_NARROWEST, 2 * width + _GAP)
    names = _legend(result)
    longest = max(width_of(name) for _, name in names)
    columns = max(1, across // round(_INDENT + _LETTER * longest + _GAP))
    below = _LINE * -(-len(names) // columns) + _MARGIN
    full = (across + 2 * _MARGIN, _TITLE + height + below + _MARGIN)
    with drawing(), silent():
        figure = Figure(figsize=(full[0] / _DPI, full[1] / _DPI), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(figure)
        sheet = _Sheet(figure, *full)
        for number, pixels in enumerate((_scene(result), _classes(result))):
            left = _MARGIN + number * (width + _GAP)
            sheet.picture(pixels, left, below + _MARGIN, (width, height))
        top = full[1] - _MARGIN
        sheet.text(_cut(result.title, across // _TITLE_LETTER), _MARGIN, top - 6, 11)
        about = _cut(result.classifier, round(across / _LETTER))
        sheet.text(about, _MARGIN, top - 26, 7.5, MUTED)
        for place, (colour, name) in enumerate(names):
            x = _MARGIN + (place % columns) * (across // columns)
            y = below - _LINE * (place // columns) - _LINE / 2
            sheet.swatch(colour, x, y)
            sheet.text(name, x + _INDENT, y, 7.5)
        show_all_signs(figure, escape=True)
        file = BytesIO()
        figure.savefig(file, format="png")
    return file.getvalue()


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _legend(result: MapResult) -> list[tuple[str, str]]:
    """Return colours and labels of the classes that there are, by area."""
    whole = sum(result.areas_km2) or 1.0
    order = [k for k in np.argsort(result.areas_km2)[::-1] if result.areas_km2[k] > 0]
    shown = order if len(order) <= _NAMED else order[: _NAMED - 1]
    labels = [
        (
            result.colours[k],
            f"{elided(result.class_names[k])}  {100 * result.areas_km2[k] / whole:.1f} %",
        )
        for k in shown
    ]
    if len(order) > len(shown):
        labels.append(("#ffffff", f"and {len(order) - len(shown)} more"))
    if (result.classes == NO_DATA).any():
        labels.append(("#{:02x}{:02x}{:02x}".format(*_NOTHING), "no data"))
    return labels


def _scene(result: MapResult) -> NDArray[np.uint8]:
    nothing = np.array(_NOTHING, np.uint8)
    return np.where(result.scene_valid[..., None], result.scene, nothing)


def _classes(result: MapResult) -> NDArray[np.uint8]:
    """Return the cells' colours at the scene's size, its last cells cut as it is."""
    table = np.array([_NOTHING, *(_rgb(colour) for colour in result.colours)], np.uint8)
    height, width = result.scene.shape[:2]
    across, down = result.scene_cells
    rows = ((np.arange(height) + 0.5) * down / height).astype(int)
    cols = ((np.arange(width) + 0.5) * across / width).astype(int)
    return np.asarray(table[result.classes[np.ix_(rows, cols)] + 1])


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5))
