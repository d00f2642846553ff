"""Made-up maps, as if a scene had been classified."""

from typing import Any

import numpy as np

from fedrsclip.map.colours import class_colours
from fedrsclip.map.result import NO_DATA, MapResult

CELL_AREA = 0.0025


def made_up(
    rows: int = 12, columns: int = 16, names: tuple[str, ...] = ("forest", "harbor"), **other: Any
) -> MapResult:
    """Return a map whose cells are drawn at random, the first of them without data."""
    rng = np.random.default_rng(7)
    classes = rng.integers(len(names), size=(rows, columns), dtype=np.int32)
    probability = rng.uniform(0.3, 1, (rows, columns)).astype(np.float32)
    if classes.size > 1:
        classes[0, 0] = NO_DATA
    return of_cells(classes, probability, names, **other)


def of_cells(classes: Any, probability: Any, names: tuple[str, ...], **other: Any) -> MapResult:
    """Return the map of some cells of 50 m in UTM zone 32."""
    rows, columns = classes.shape
    side = 8 if classes.size < 10_000 else 1  # pixels of a cell in the picture
    scene = np.zeros((rows * side, columns * side, 3), np.uint8)
    scene[..., 0] = np.linspace(40, 200, columns * side)
    scene[..., 1] = np.linspace(200, 40, rows * side)[:, None]
    has_data = np.kron(classes != NO_DATA, np.ones((side, side), bool))
    counts = np.bincount(classes[classes != NO_DATA], minlength=len(names))
    return MapResult(
        **{
            "title": "scene.tif",
            "class_names": names,
            "colours": class_colours(len(names)),
            "classes": classes,
            "probability": np.where(classes == NO_DATA, np.nan, probability).astype(np.float32),
            "cell_size": (50.0, 50.0),
            "crs": "EPSG:32632",
            "bounds": (500_000.0, 5_400_000.0 - 50 * rows, 500_000.0 + 50 * columns, 5_400_000.0),
            "areas_km2": (counts * CELL_AREA).tolist(),
            "scene": scene,
            "scene_valid": has_data,
            "classifier": "first, round 10, global, 2 classes, demo_clip",
            "settings": {"tile": "64 px", "overlap": "0.5"},
            "scene_cells": (columns, rows),
            "metres_across": 50.0 * columns,
            "transform": (50.0, 0.0, 500_000.0, 0.0, -50.0, 5_400_000.0),
        }
        | other
    )
