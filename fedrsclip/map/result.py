"""What a map says, as data: what is drawn, counted and handed to Python."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_DATA = -1
"""The class of cells that have none."""


@dataclass(frozen=True)
class MapResult:
    """A classified scene.

    Attributes
    ----------
    title : str
        The scene's name.
    class_names : Sequence[str]
        The classes, by number.
    colours : Sequence[str]
        ``#rrggbb`` of each.
    classes : NDArray[np.int32]
        ``(rows, cols)``, each cell's most probable class; :data:`NO_DATA` where there is none.
    probability : NDArray[np.float32]
        ``(rows, cols)``, that class's probability; NaN where there is none.
    cell_size : tuple of float
        Width and height of a cell, in units of ``crs``.
    crs : str
        E.g. ``EPSG:32632``; WKT where no authority names it.
    bounds : tuple of float
        Left, bottom, right and top of the cells in ``crs``; those of the last column and row may
        reach beyond the scene. Of a turned scene, those of the box around it.
    areas_km2 : Sequence[float]
        Of each class, on the ellipsoid.
    scene : NDArray[np.uint8]
        ``(h, w, 3)``, the scene itself, at most 1600 pixels a side.
    scene_valid : NDArray of bool
        ``(h, w)``, where it has data.
    classifier : str
        What classified, in words.
    settings : Mapping[str, str]
        How, by name.
    scene_cells : tuple of float
        Width and height of the scene in cells, as ``(71.4, 60.0)`` where the last column reaches
        beyond it.
    transform : tuple of float
        ``(a, b, c, d, e, f)``: a cell's corner in ``crs`` is ``a * column + b * row + c``,
        ``d * column + e * row + f``.
    metres_across : float
        Length of the scene's middle row on the ground, on the ellipsoid; NaN or infinite where it
        leaves the earth.
    """

    title: str
    class_names: Sequence[str]
    colours: Sequence[str]
    classes: NDArray[np.int32]
    probability: NDArray[np.float32]
    cell_size: tuple[float, float]
    crs: str
    bounds: tuple[float, float, float, float]
    areas_km2: Sequence[float]
    scene: NDArray[np.uint8]
    scene_valid: NDArray[np.bool_]
    classifier: str
    settings: Mapping[str, str]
    scene_cells: tuple[float, float]
    transform: tuple[float, float, float, float, float, float]
    metres_across: float
