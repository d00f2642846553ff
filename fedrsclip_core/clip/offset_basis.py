"""Directions of CLIP's feature space that its public weights name, for offsets on few numbers.

An image's features are the visual projection of what the last layer pooled, so they vary along the
projection's leading left singular vectors. Class offsets that lie in the span of the first ``r``
cost ``r`` numbers a class, and every client finds the same vectors in the same weights.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.clip.weights import read_tensors
from fedrsclip_core.errors import ConfigError

_PROJECTION = "visual_projection.weight"


@lru_cache(maxsize=2)
def offset_basis(files: ClipFiles, size: int) -> NDArray[np.float32]:
    """Return the first ``size`` orthonormal directions ``(size, dim)``, computed once.

    Raises
    ------
    ConfigError
        If the projection has fewer.
    ModelError
        If the weights cannot be read.
    """
    projection = read_tensors(files.folder, [_PROJECTION])[_PROJECTION].double().numpy()
    if size > min(projection.shape):
        raise ConfigError(
            f"prompt.shared_offsets asks for {size} directions but the CLIP in {files.folder} has "
            f"{min(projection.shape)}: ask for no more"
        )
    return leading_directions(projection, size)


def leading_directions(matrix: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Return the first left singular vectors ``(size, rows)``, their largest entries positive.

    A singular vector's sign is arbitrary; sites with different libraries must agree on it.
    """
    vectors = np.linalg.svd(matrix, full_matrices=False)[0].T[:size]  # (size, rows)
    largest = np.abs(vectors).argmax(axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])
    return np.asarray(vectors * signs[:, None], dtype=np.float32)
