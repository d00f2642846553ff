"""How much of a scene each class takes."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Area:
    """What one class, or what no class, takes.

    Attributes
    ----------
    cells : int
        Cells of the map.
    km2 : float
        On the ellipsoid.
    """

    cells: int
    km2: float


def area_of(classes: NDArray[np.int32], km2: NDArray[np.float32], number: int) -> Area:
    """Return what the cells of one number take.

    Parameters
    ----------
    classes : NDArray[np.int32]
        ``(rows, cols)``.
    km2 : NDArray[np.float32]
        ``(rows, cols)``, of each cell.
    number : int
        A class, or what stands for none.
    """
    where = classes == number
    return Area(int(where.sum()), float(km2[where].sum(dtype=np.float64)))


def table(class_names: Sequence[str], found: Sequence[Area], others: dict[str, Area]) -> str:
    """Return a CSV of classes by area, and below them of what has none.

    Shares are of what was classified.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["class", "cells", "km2", "share"])
    whole = sum(area.km2 for area in found)
    named = sorted(zip(class_names, found, strict=True), key=lambda one: -one[1].km2)
    for name, area in named:
        writer.writerow([name, area.cells, f"{area.km2:.6f}", f"{area.km2 / whole:.6f}"])
    for name, area in others.items():
        if area.cells:
            writer.writerow([f"({name})", area.cells, f"{area.km2:.6f}", ""])
    return text.getvalue()
