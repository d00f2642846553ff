"""Decode one image file, or say what is wrong with it."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from fedrsclip_core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def decode(file: Path | bytes) -> "Image":
    """Return an image as RGB.

    Raises
    ------
    DataError
        If it is truncated, no image at all, or has more than 8 bits per channel.
    """
    from PIL import Image

    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as image:
            return to_rgb(image)
    except DataError:
        raise
    except Exception as error:  # Decoders fed with broken bytes raise whatever comes to pass.
        raise DataError(f"not readable as an image ({type(error).__name__})") from error


def to_rgb(image: "Image") -> "Image":
    """Return an image as RGB.

    Raises
    ------
    DataError
        If it has more than 8 bits per channel.
    """
    if image.mode not in _EIGHT_BIT_MODES:
        raise DataError(f"pixels of mode {image.mode} are not supported: convert it to 8-bit RGB")
    return image.convert("RGB")
