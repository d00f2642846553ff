"""Images are stored turned and mirrored; EXIF and TIFF say how."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION = 0x0112
"""The tag, in TIFF and EXIF."""


def exif_orientation(image: Any) -> int:
    """Return what an image's EXIF says, 1 for upright."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # Damaged EXIF says nothing; the pixels are whole.
        return 1


def orientation_in(exif: bytes) -> int:
    """Return what EXIF says by itself, 1 for upright."""
    from PIL.Image import Exif

    try:
        found = Exif()
        found.load(exif)
        return int(found.get(ORIENTATION, 1))
    except Exception:
        return 1


def upright(image: "Image", orientation: int) -> "Image":
    """Turn and mirror an image as its orientation, 1 to 8, says."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image
