"""RGB images as the image tower takes them, in the bits of transformers' CLIPImageProcessorPil.

That one goes through a dozen arrays in float64 for each image. Here Pillow resizes and crops, and
as there are 256 numbers in a channel, what rescaling and normalizing make of each is looked up.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

_CHANNELS = 3


class ImagePreparation:
    """Resize, crop, rescale and normalize, as far as the settings say so; may be used in threads.

    Parameters
    ----------
    settings : Mapping[str, Any]
        In the normal form of :func:`~fedrsclip_core.clip.preprocessing.read_preprocessing`.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._size = settings.get("size")
        self._resample = settings.get("resample")
        self._crop = settings.get("crop_size")
        self._table = _table(settings)  # (3, 256)

    def __call__(self, image: "Image") -> NDArray[np.float32]:
        """Return the pixels ``(3, height, width)`` of an RGB image."""
        if self._size is not None:
            image = image.resize(_resized(image.size, self._size), self._resample)
        if self._crop is not None:
            image = _cropped(image, self._crop["width"], self._crop["height"])
        numbers = np.asarray(image)  # (height, width, 3)
        pixels = np.empty((_CHANNELS, *numbers.shape[:2]), np.float32)
        for channel, values in enumerate(self._table):
            np.take(values, numbers[..., channel], out=pixels[channel], mode="clip")
        return pixels


def _table(settings: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return what becomes of 0 to 255 in each channel ``(3, 256)``.

    As in transformers: rescaled in float64, normalized in float32.
    """
    numbers = np.arange(256, dtype=np.float64) * settings.get("rescale_factor", 1.0)
    table = np.tile(numbers.astype(np.float32), (_CHANNELS, 1))
    if "image_mean" in settings:
        mean, std = (np.array(settings[f"image_{name}"], np.float32) for name in ("mean", "std"))
        table = (table - mean[:, None]) / std[:, None]
    return table


def _resized(size: tuple[int, int], wanted: Mapping[str, int]) -> tuple[int, int]:
    """Return width and height after resizing."""
    if "shortest_edge" not in wanted:
        return wanted["width"], wanted["height"]
    edge, (width, height) = wanted["shortest_edge"], size
    if width <= height:
        return edge, int(edge * height / width)
    return int(edge * width / height), edge


def _cropped(image: "Image", width: int, height: int) -> "Image":
    """Return the middle; what lies beyond the image is black."""
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
