"""One picture of a map: the scene, its classes beside it, and what the colours mean."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from fedrsclip.map.result import NO_DATA, MapResult
from fedrsclip.report.drawing import INK, MUTED, drawing
from fedrsclip.report.labels import elided, show_all_signs, silent

_SIDE = 700
"""Pixels of the longer side of each half."""
_GAP, _LINE, _TITLE, _COLUMN, _MARGIN = 16, 24, 60, 230, 14
"""Pixels."""
_NAMED = 30
"""Classes in the legend at most, those of the largest areas."""
_NOTHING = (222, 224, 227)


def quicklook(result: MapResult) -> bytes:
    """Return a PNG of a map."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = result.scene.shape[:2]
    shrink = _SIDE / max(height, width)
    height, width = max(1, round(height * shrink)), max(1, round(width * shrink))
    names = _legend(result)
    across = max(_COLUMN * 2, 2 * width + _GAP)
    columns = max(1, across // _COLUMN)
    below = _LINE * -(-len(names) // columns) + _MARGIN
    full = (across + 2 * _MARGIN, _TITLE + height + below + _MARGIN)
    with drawing(), silent():
        figure = Figure(figsize=(full[0] / 100, full[1] / 100), dpi=100, facecolor="white")
        FigureCanvasAgg(figure)
        for number, pixels in enumerate((_scene(result), _classes(result))):
            left = _MARGIN + number * (width + _GAP)
            box = (
                left / full[0],
                (below + _MARGIN) / full[1],
                width / full[0],
                height / full[1],
            )
            axes = figure.add_axes(box)
            axes.set_axis_off()
            axes.imshow(pixels, interpolation="antialiased", aspect="auto")
        top = 1 - _MARGIN / full[1]
        figure.text(_MARGIN / full[0], top, elided(result.title), va="top", color=INK, fontsize=11)
        under = top - 20 / full[1]
        figure.text(
            _MARGIN / full[0], under, result.classifier[:120], va="top", color=MUTED, fontsize=7.5
        )
        for place, (colour, name) in enumerate(names):
            x = _MARGIN + (place % columns) * (across // columns)
            y = below - _LINE * (place // columns) - _LINE / 2
            _swatch(figure, colour, x / full[0], y / full[1], full)
            figure.text((x + 22) / full[0], y / full[1], name, va="center", color=INK, fontsize=7.5)
        show_all_signs(figure, escape=True)
        file = BytesIO()
        figure.savefig(file, format="png")
    return file.getvalue()


def _swatch(figure: object, colour: str, x: float, y: float, full: tuple[int, int]) -> None:
    from matplotlib.patches import Rectangle

    size = 14
    figure.patches.append(  # type: ignore[attr-defined]
        Rectangle(
            (x, y - size / 2 / full[1]),
            size / full[0],
            size / full[1],
            facecolor=colour,
            transform=figure.transFigure,  # type: ignore[attr-defined]
        )
    )


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
    across, down = result.scene_cells or result.classes.shape[::-1]
    rows = ((np.arange(height) + 0.5) * down / height).astype(int)
    cols = ((np.arange(width) + 0.5) * across / width).astype(int)
    return np.asarray(table[result.classes[np.ix_(rows, cols)] + 1])


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5))
