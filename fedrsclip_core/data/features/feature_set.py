"""Encoded images with their labels: all that training and evaluation see of the data."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FeatureSet:
    """Unit image features and class indices of one part of one client's data.

    Attributes
    ----------
    features : NDArray[np.float32]
        ``(N, dim)``, unit rows.
    labels : NDArray[np.int64]
        ``(N,)``, indices into the federation's class list.
    patches : NDArray[np.float16] or None
        Unit patch features ``(N, V, dim)``, if the method classifies with them.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    patches: NDArray[np.float16] | None = None

    def __len__(self) -> int:
        return len(self.labels)
