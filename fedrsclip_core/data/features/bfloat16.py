"""Features that were computed in bfloat16, kept in the two bytes each number has there."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BFLOAT16 = np.dtype(np.uint16)
"""As numpy has no bfloat16, its bits: the upper half of a float32's."""


def bits_of(numbers: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of numbers of bfloat16.

    Raises
    ------
    ValueError
        If some are none, and would be rounded.
    """
    whole = np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)
    if (whole & 0xFFFF).any():
        raise ValueError("these are no numbers of bfloat16: they would be rounded")
    return (whole >> 16).astype(np.uint16)


def unit_rows(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows of bfloat16 ``(N, dim)`` at length one, as the image encoder scales them."""
    numbers = (bits.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(numbers / np.linalg.norm(numbers, axis=-1, keepdims=True), dtype=np.float32)
