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
            mode = image.mode
            if mode in _EIGHT_BIT_MODES:
                return image.convert("RGB")
    except Exception as error:  # Decoders fed with broken bytes raise whatever comes to pass.
        raise DataError(f"not readable as an image ({type(error).__name__})") from error
    raise DataError(f"pixels of mode {mode} are not supported: convert it to 8-bit RGB")
