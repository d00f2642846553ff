"""Which class is taken for which: the matrix as a picture and a table, and its worst pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrsclip.report.drawing import HEAT, VERMILLION, Canvas, Cell, heat_map
from fedrsclip.report.panel import Table
from fedrsclip_core.runs.units import percent

_WORST = 10


@dataclass(frozen=True)
class Pair:
    """Two classes, and how many images of the first were taken for the second."""

    true: str
    answered: str
    images: int
    of: int

    @property
    def share(self) -> str:
        """Of all images of the class, in per cent."""
        return percent(self.images / self.of)


def confusion_map(matrix: NDArray[np.int64], names: Sequence[str]) -> Canvas:
    """Draw images by true and answered class ``(n_cls, n_cls)``: blue is right, red is wrong."""
    of = matrix.sum(axis=1)
    cells = [
        Cell(
            row,
            column,
            str(matrix[row, column]),
            0.1 + 0.9 * matrix[row, column] / of[row],
            HEAT if row == column else VERMILLION,
            f"{names[row]} taken for {names[column]}: {matrix[row, column]} of {of[row]}",
        )
        for row, column in np.argwhere(matrix).tolist()
    ]
    return heat_map(cells, names, names, x="answered", y="true class")


def confusion_table(matrix: NDArray[np.int64], names: Sequence[str]) -> Table:
    """Return the matrix as text."""
    rows = [(name, *map(str, row)) for name, row in zip(names, matrix.tolist(), strict=True)]
    return Table(("true \\ answered", *names), rows)


def confused(matrix: NDArray[np.int64], names: Sequence[str]) -> list[Pair]:
    """Return the pairs of classes that are confused most often, most first."""
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:_WORST]
    of = matrix.sum(axis=1)
    places = [divmod(int(place), len(names)) for place in order]
    return [
        Pair(names[row], names[column], int(wrong[row, column]), int(of[row]))
        for row, column in places
        if wrong[row, column]
    ]
