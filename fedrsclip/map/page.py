"""The page of a map: the scene, its classes over it, and what they cover; one file, no network."""

import base64
import math
import re
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrsclip.map.result import NO_DATA, MapResult
from fedrsclip.page.rendering import render_page

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_MOST_CELLS = 9_000_000
"""Cells that the page holds at most; of a larger map it shows every second, third, ..."""
_NO_DATA_COLOUR = "#8a8a8a"
_NONE = 2**16 - 1
"""Stands for no data where a class is two bytes."""
_LONGEST_CRS = 40
_QUALITY = 80


@dataclass(frozen=True)
class Row:
    """A class that the map has, the largest first.

    Attributes
    ----------
    number : int
        Its place in ``class_names``.
    name, colour : str
        Of the class.
    cells : str
        How many.
    area, share : str
        In square kilometres, and in per cent of what has data.
    bar : float
        Its share of the largest class's area, in per cent.
    certainty : str
        Mean probability of its cells, in per cent.
    """

    number: int
    name: str
    colour: str
    cells: str
    area: str
    share: str
    bar: float
    certainty: str


def render(result: MapResult) -> str:
    """Return the page ``map.html`` of a map.

    Its size is that of the scene's picture, a few hundred kB, and at most three bytes per cell,
    usually far less, for up to nine million cells.
    """
    rows, columns = result.classes.shape
    step = math.ceil(math.sqrt(max(1, result.classes.size / _MOST_CELLS)))
    no_data = int(np.count_nonzero(result.classes == NO_DATA))
    classes = _rows(result)
    shown = {row.number for row in classes}
    content = {
        "title": result.title,
        "about": result.classifier,
        "scene": _scene(result),
        "aspect": result.scene.shape[1] / result.scene.shape[0],
        "classes": classes,
        "absent": [name for k, name in enumerate(result.class_names) if k not in shown],
        "no_data": no_data,
        "no_data_share": _percent(no_data, rows * columns),
        "cells": _cells(result, step),
        "data": {
            "rows": -(-rows // step),
            "columns": -(-columns // step),
            "step": step,
            "shape": (rows, columns),
            "reach": result.scene_cells,
            "transform": result.transform,
            "metres": result.metres_across if math.isfinite(result.metres_across) else None,
            "digits": _digits(result.cell_size),
            "crs": _crs(result.crs),
            "names": list(result.class_names),
            "colours": list(result.colours),
            "no_data": _NO_DATA_COLOUR,
        },
        "facts": _facts(result),
        "settings": list(result.settings.items()),
    }
    return render_page(_TEMPLATES / "map.html", content, [_TEMPLATES / "map.js"])


def _rows(result: MapResult) -> list[Row]:
    has_data = result.classes != NO_DATA
    classes = result.classes[has_data]  # (N,)
    number = len(result.class_names)
    counts = np.bincount(classes, minlength=number)
    sums = np.bincount(classes, result.probability[has_data], minlength=number)
    total, largest = sum(result.areas_km2), max(result.areas_km2, default=0.0)
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda k: -result.areas_km2[k])
    return [
        Row(
            number=k,
            name=result.class_names[k],
            colour=result.colours[k],
            cells=f"{counts[k]:,}",
            area=_square_kilometres(result, result.areas_km2[k]),
            share=_percent(result.areas_km2[k], total),
            bar=round(100 * result.areas_km2[k] / largest, 2) if largest > 0 else 0.0,
            certainty=f"{100 * sums[k] / counts[k]:.0f}",
        )
        for k in order
    ]


def _cells(result: MapResult, step: int) -> str:
    """Return the cells as the script reads them: compressed planes in base64.

    The planes are a class's low byte, its high one, and its probability in whole per cent, as it
    is shown.
    """
    middle = step // 2
    classes = _each(result.classes, step, middle)
    has_data = classes != NO_DATA
    codes = np.where(has_data, classes, _NONE).astype(np.uint16)
    certain = np.where(has_data, _each(result.probability, step, middle), 0)
    per_cent = np.rint(100 * certain).astype(np.uint8)
    planes = np.stack([codes & 0xFF, codes >> 8, per_cent]).astype(np.uint8)
    return base64.b64encode(zlib.compress(planes.tobytes())).decode()


def _each(cells: NDArray[np.generic], step: int, middle: int) -> NDArray[np.generic]:
    """Return the middle cell of each block of ``step`` x ``step``; blocks may be cut off."""
    rows, columns = (
        np.minimum(np.arange(0, length, step) + middle, length - 1) for length in cells.shape
    )
    return cells[np.ix_(rows, columns)]


def _scene(result: MapResult) -> str:
    """Return the scene's picture as an address, transparent where it has no data."""
    from PIL import Image

    alpha = np.where(result.scene_valid, 255, 0).astype(np.uint8)
    pixels = np.dstack([result.scene, alpha])
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def _digits(cell_size: tuple[float, float]) -> int:
    """Return the decimals with which a hundredth of a cell is still told."""
    return int(np.clip(math.ceil(-math.log10(min(map(abs, cell_size)) / 100)), 0, 8))


def _crs(crs: str) -> str:
    """Return a CRS in few words, of WKT the name."""
    named = re.search(r'"([^"]+)"', crs)
    return named[1] if named and len(crs) > _LONGEST_CRS else crs


def _facts(result: MapResult) -> list[tuple[str, str]]:
    rows, columns = result.classes.shape
    left, bottom, right, top = (f"{edge:.{_digits(result.cell_size)}f}" for edge in result.bounds)
    width, height = result.cell_size
    return [
        ("coordinate system", _crs(result.crs)),
        ("west, south, east, north", f"{left}, {bottom}, {right}, {top}"),
        ("cells", f"{rows:,} rows, {columns:,} columns"),
        ("a cell", f"{width:g} x {height:g} in units of the coordinate system"),
        ("classified", f"{_square_kilometres(result, sum(result.areas_km2))} km²"),
    ]


def _square_kilometres(result: MapResult, area: float) -> str:
    """Return an area, with the decimals that give the largest three digits that count."""
    largest = max(result.areas_km2, default=0.0)
    decimals = int(np.clip(2 - math.floor(math.log10(largest)), 0, 9)) if largest > 0 else 0
    return f"{area:,.{decimals}f}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole > 0 else "0.0"
