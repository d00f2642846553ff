"""Regions of one class as polygons, in GeoJSON's longitudes and latitudes."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip.map.grid import Grid
from fedrsclip.map.ground import Ground
from fedrsclip.map.result import MapResult

Ring = NDArray[np.float64]
"""Corners ``(N, 2)``, the first again at the end."""
_DIGITS = 7
"""Of degrees: about a centimetre."""


def write_regions(
    path: Path, result: MapResult, km2: NDArray[np.float32], grid: Grid, ground: Ground
) -> int:
    """Write all regions as they are found; return how many there are.

    A region is what cells of one class that share sides make. Its properties are ``class``,
    ``probability`` (the mean over its cells), ``cells`` and ``area_km2``.

    Parameters
    ----------
    path : Path
        The GeoJSON (RFC 7946).
    result : MapResult
        The cells.
    km2 : NDArray[np.float32]
        ``(rows, cols)``, the area of each.
    grid : Grid
        Where they are in the scene.
    ground : Ground
        Where that is.
    """
    labels = labelled(result.classes)
    flat = labels.ravel()
    cells = np.bincount(flat)
    probability = np.bincount(flat, np.nan_to_num(result.probability).ravel())
    areas = np.bincount(flat, km2.ravel())
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for label, rings in _polygons(labels, result.classes >= 0):
            properties = {
                "class": result.class_names[int(result.classes.flat[label])],
                "probability": round(float(probability[label] / cells[label]), 4),
                "cells": int(cells[label]),
                "area_km2": round(float(areas[label]), 9),
            }
            feature = {
                "type": "Feature",
                "properties": properties,
                "geometry": {"type": "Polygon", "coordinates": _on_earth(rings, grid, ground)},
            }
            file.write(("," if count else "") + "\n" + json.dumps(feature, ensure_ascii=False))
            count += 1
        file.write("\n]}\n")
    return count


def labelled(classes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return for each cell the first cell of its region, by their place row after row.

    Parameters
    ----------
    classes : NDArray[np.int32]
        ``(rows, cols)``.
    """
    index = np.arange(classes.size, dtype=np.int32).reshape(classes.shape)
    beside = classes[:, 1:] == classes[:, :-1]
    below = classes[1:] == classes[:-1]
    one = np.concatenate([index[:, :-1][beside], index[:-1][below]])
    other = np.concatenate([index[:, 1:][beside], index[1:][below]])
    root = index.ravel().copy()
    while True:
        a, b = root[one], root[other]
        apart = a != b
        if not apart.any():
            return root.reshape(classes.shape)
        one, other, a, b = one[apart], other[apart], a[apart], b[apart]
        # The larger root is hung below the smaller, then every cell below its root's root.
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(higher := root[root], root):
            root = higher


def _polygons(
    labels: NDArray[np.int32], known: NDArray[np.bool_]
) -> Iterator[tuple[int, Sequence[Ring]]]:
    """Yield each region's label and rings, in columns and rows of cells."""
    from rasterio.features import shapes  # type: ignore[import-untyped]

    for shape, label in shapes(labels, mask=known, connectivity=4):
        yield int(label), [np.array(ring, np.float64) for ring in shape["coordinates"]]


def _on_earth(rings: Sequence[Ring], grid: Grid, ground: Ground) -> list[list[list[float]]]:
    """Return rings in degrees, the outer against the clock and the holes with it."""
    turned = []
    for number, ring in enumerate(rings):
        # The last cells may reach beyond the scene; the regions do not.
        columns = np.minimum(ring[:, 0] * grid.step, grid.width)
        rows = np.minimum(ring[:, 1] * grid.step, grid.height)
        place: Any = np.stack(ground.wgs84(columns, rows), axis=1).round(_DIGITS)
        against = _signed_area(place) > 0
        turned.append((place if against == (number == 0) else place[::-1]).tolist())
    return turned


def _signed_area(ring: Ring) -> float:
    x, y = (ring - ring[0]).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
