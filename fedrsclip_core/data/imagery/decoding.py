"""Decode one image file, or say what is wrong with it."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 2**25
"""Pixels that are decoded at most: 33 million, which take 256 MiB for a moment.

A CLIP sees 224 x 224 or 336 x 336 of them. A JPEG with more is decoded at a half, a quarter or an
eighth of its size, which its decoder does without ever holding the whole.
"""
_REDUCTIONS = (2, 4, 8)
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def decode(file: Path | bytes, reading: Reading = AS_THEY_ARE) -> "Image":
    """Return an image as RGB.

    Parameters
    ----------
    file : Path or bytes
        The file or its content.
    reading : Reading
        Which bands are seen, and how their numbers become 0 to 255.

    Raises
    ------
    DataError
        If it is truncated, no image at all, has more than 8 bits per channel, or too many pixels.
    """
    from PIL import Image

    if reading != AS_THEY_ARE:
        raise DataError(f"images cannot be read by {reading} yet")
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as image:
            _bound(image)
            return to_rgb(image)
    except DataError:
        raise
    except Image.DecompressionBombError as error:  # its own bound is five times as high
        raise _too_large(str(error).partition(" exceeds")[0].lower()) from error
    except Exception as error:  # Decoders fed with broken bytes raise whatever comes to pass.
        raise DataError(f"not readable as an image ({type(error).__name__})") from error


def _bound(image: "Image") -> None:
    """Let a JPEG be decoded smaller if it must be; refuse what then has too many pixels."""
    width, height = image.size
    if width * height <= LARGEST:
        return
    # All coefficients of a progressive JPEG are held, however small it is decoded.
    if image.format == "JPEG" and not image.info.get("progressive"):
        needed = (r for r in _REDUCTIONS if width * height <= LARGEST * r * r)
        reduction = next(needed, _REDUCTIONS[-1])
        image.draft(image.mode, (width // reduction, height // reduction))
    if image.width * image.height > LARGEST:
        raise _too_large(f"{width} x {height} pixels")


def _too_large(size: str) -> DataError:
    return DataError(
        f"too large ({size}; at most {LARGEST} are decoded): cut the scene into tiles, or save it "
        "smaller"
    )


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
