"""Find images of one place within a class, also where one is shifted against the other.

The measure is phase correlation: of two grey thumbnails only the phases of their spectra are
kept, and the product is transformed back. Two views of one place give a single sharp peak, at
their shift. A perceptual hash, which compares pixel by pixel, misses shifted views.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.data.splits import Indices, joined

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 64
"""Pixels of a thumbnail's side."""

THRESHOLD = 0.6
"""Peak from which on two images count as one place; 1 is the same image. In UC Merced the
confirmed pairs have 0.72 and more, all others less than 0.47."""

Thumbnails = NDArray[np.float32]


def thumbnail(image: "Image") -> Thumbnails:
    """Return an image in grey, ``(SIDE, SIDE)``."""
    from PIL import Image

    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def near_duplicates(thumbnails: Thumbnails) -> list[Indices]:
    """Return groups of images that show the same place.

    Parameters
    ----------
    thumbnails : NDArray[np.float32]
        ``(N, SIDE, SIDE)``.

    Returns
    -------
    list[NDArray[np.int64]]
        Of at least two images each, ascending.
    """
    phases = _phases(thumbnails)
    pairs: list[tuple[int, int]] = []
    for i in range(len(phases) - 1):
        product = phases[i] * phases[i + 1 :].conj()
        peaks = np.fft.irfft2(product, s=(SIDE, SIDE)).max(axis=(1, 2))
        pairs += [(i, i + 1 + int(k)) for k in np.flatnonzero(peaks >= THRESHOLD)]
    return [group for group in joined(len(phases), pairs) if len(group) > 1]


def _phases(thumbnails: Thumbnails) -> NDArray[np.complex64]:
    """Spectra of unit modulus; the rim is faded out, because it is where views differ."""
    window = np.hanning(SIDE + 2)[1:-1]
    faded = (thumbnails - thumbnails.mean(axis=(1, 2), keepdims=True)) * np.outer(window, window)
    spectra = np.fft.rfft2(faded.astype(np.float32))
    phases: NDArray[np.complex64] = (spectra / (np.abs(spectra) + 1e-6)).astype(np.complex64)
    return phases
