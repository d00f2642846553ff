"""A colour for each class, as far from each other as can be, also for those who see fewer."""

import numpy as np
from numpy.typing import NDArray

_FIRST = (
    *("#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#f0e442"),
    # Dark enough to be no nodata, light enough to be no shadow.
    "#5b3a8c",
)
"""Okabe and Ito's colours without black, and one more."""
_LEVELS = (24, 66, 108, 150, 192, 234)
"""Of red, green and blue that further colours are chosen from."""
_MIDDLE, _SPREAD = 0.62, 0.3
"""Lightness of these, from 0 to 1."""

# Linear RGB as seen without long, middle or short cones (Machado, Oliveira and Fernandes 2009).
_SEEN = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    ]
)
# Ottosson's OKLab, in which distances are what is seen.
_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def class_colours(count: int) -> list[str]:
    """Return ``count`` colours as ``#rrggbb``; the first of more are the same.

    Each next one is, of a grid without greys, which no data has, and without what is nearly black
    or white, the farthest from all before it. The distance of two is that of full colour vision or
    of its three deficiencies, whichever is least. After all of the grid they repeat.
    """
    first = np.array([[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in _FIRST])
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS, indexing="ij"), -1).reshape(-1, 3)
    grid = grid[np.ptp(grid, axis=1) > _LEVELS[1] - _LEVELS[0]]
    grid = grid[np.abs(_as_seen(grid)[:, 0, 0] - _MIDDLE) < _SPREAD]
    seen = _as_seen(grid)  # (N, 4, 3)
    distance = np.min([_distances(seen, one) for one in _as_seen(first)], axis=0)  # (N,)
    chosen = list(first)
    while len(chosen) < min(count, len(grid)):
        best = int(distance.argmax())
        chosen.append(grid[best])
        distance = np.minimum(distance, _distances(seen, seen[best]))
    names = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in chosen]
    return [names[k % len(names)] for k in range(count)]


def _distances(seen: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the least of the distances by the four kinds of vision ``(N,)``."""
    return np.asarray(np.linalg.norm(seen - one, axis=-1).min(axis=1))


def _as_seen(rgb: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return OKLab by each kind of vision ``(N, 4, 3)``."""
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.einsum("vij,nj->nvi", _SEEN, linear), 0, 1)
    return np.asarray(np.cbrt(seen @ _TO_CONES.T) @ _TO_LAB.T)
