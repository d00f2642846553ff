"""A scene at the size of a picture, made of the strips that are read anyway."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST = 1600
"""Pixels of the longer side at most."""
_SAMPLES = 2
"""Pixels of the scene in each direction, at most, whose mean a pixel is."""


@dataclass(frozen=True)
class PreviewRows:
    """Rows of a preview: ``(h, width, bands)`` and where they have data ``(h, width)``."""

    numbers: NDArray[np.float32]
    data: NDArray[np.bool_]


@dataclass(frozen=True)
class Preview:
    """Which pixels of a scene make a small picture of it.

    Parameters
    ----------
    scene_height, scene_width : int
        The scene's pixels.
    """

    scene_height: int
    scene_width: int

    @property
    def height(self) -> int:
        """The picture's rows."""
        return max(1, round(self.scene_height / self._factor))

    @property
    def width(self) -> int:
        """The picture's columns."""
        return max(1, round(self.scene_width / self._factor))

    def rows_before(self, row: int) -> int:
        """Return how many of the picture's rows begin above a row of the scene."""
        return int(np.searchsorted(self._rows[:, 0], row))

    def rows_of(self, top: int, numbers: NDArray[Any], data: NDArray[np.bool_]) -> PreviewRows:
        """Return the picture's rows that begin in a strip.

        Parameters
        ----------
        top : int
            The strip's first row.
        numbers : NDArray
            ``(h, scene_width, bands)``.
        data : NDArray[np.bool_]
            ``(h, scene_width)``.
        """
        first, end = self.rows_before(top), self.rows_before(top + len(data))
        rows = np.minimum(self._rows[first:end], top + len(data) - 1) - top  # (h, samples)
        total = np.zeros((end - first, self.width, numbers.shape[-1]), np.float32)
        count = np.zeros(total.shape[:2], np.float32)
        for some, seen in ((numbers[row], data[row]) for row in rows.T):
            for column in self._columns.T:
                known = np.take(seen, column, axis=1)
                one = np.take(some, column, axis=1)
                total += one if known.all() else np.where(known[..., None], one, 0)
                count += known
        share = count / (rows.shape[1] * self._columns.shape[1])
        total /= np.maximum(count, 1)[..., None]
        return PreviewRows(total, share >= 0.5)

    @property
    def _factor(self) -> float:
        return max(1.0, max(self.scene_height, self.scene_width) / LONGEST)

    @cached_property
    def _rows(self) -> NDArray[np.int_]:
        return _sampled(self.scene_height, self.height, self._samples)

    @cached_property
    def _columns(self) -> NDArray[np.int_]:
        return _sampled(self.scene_width, self.width, self._samples)

    @property
    def _samples(self) -> int:
        return min(_SAMPLES, math.ceil(self._factor))


def _sampled(length: int, count: int, samples: int) -> NDArray[np.int_]:
    """Return the pixels that each of ``count`` equal parts is made of ``(count, samples)``."""
    parts = np.arange(count)[:, None] + (np.arange(samples) + 0.5) / samples
    return np.asarray(parts * length / count, int)
