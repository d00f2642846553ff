"""What Python code gives as an image: files, their bytes, pictures, arrays and tensors, as RGB."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.data.imagery.decoding import decode, to_rgb
from fedrsclip_core.errors import DataError
from fedrsclip_core.runs import paths

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

GivenImage: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image | NDArray[Any] | Tensor"
_TAKEN = (
    "give a path, the bytes of a file, a file opened in binary, a PIL image, or a uint8 array or "
    "tensor (H, W, 3), (3, H, W) or (H, W)"
)
_CHANNELS = 3


def as_list(given: "GivenImage | Iterable[GivenImage]") -> "list[GivenImage]":
    """Return several images as a list, and a single one as a list of one.

    Raises
    ------
    DataError
        If it is neither.
    """
    if _is_array(given):
        pixels = _pixels(given)
        return list(pixels) if pixels.ndim > _CHANNELS else [pixels]
    if _is_single(given):
        return [given]  # type: ignore[list-item]
    if isinstance(given, Iterable) and not isinstance(given, dict):
        return list(given)
    raise DataError(f"{_kind(given)} is no image: {_TAKEN}, or several of them in a list")


def as_rgb(given: "GivenImage", reading: Reading) -> "Image":
    """Return one image as RGB.

    Parameters
    ----------
    given : GivenImage
        A path, the bytes of a file, a binary file object (from where it stands, and left open), a
        PIL image, or pixels of 8 bits: an array or tensor ``(H, W, 3)``, ``(3, H, W)`` or
        ``(H, W)``.
    reading : Reading
        How a run reads image files; one that chooses bands or stretches them wants a file.

    Raises
    ------
    DataError
        If it is none of these or cannot be read.
    """
    if isinstance(given, str | os.PathLike):
        return _from_file(given, reading)
    if isinstance(given, bytes | bytearray | memoryview):
        return decode(bytes(given), reading)
    if hasattr(given, "read") and not _is_picture(given):
        content = given.read()
        if not isinstance(content, bytes):
            raise DataError("the file is opened as text: open it with mode 'rb'")
        return decode(content, reading)
    if not (_is_array(given) or _is_picture(given)):
        raise DataError(f"{_kind(given)} is no image: {_TAKEN}")
    if reading != AS_THEY_ARE:
        raise DataError(
            f"this run reads its images with {reading}, which pixels in memory no longer allow: "
            "give the image's file or its bytes"
        )
    if _is_picture(given):
        return to_rgb(given)  # type: ignore[arg-type]
    return _from_pixels(_pixels(given))


def batches(images: "Sequence[GivenImage]", size: int) -> "Iterator[Sequence[GivenImage]]":
    """Yield at most ``size`` images at a time."""
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _from_file(given: "str | os.PathLike[str]", reading: Reading) -> "Image":
    path = os.fspath(given)
    if not isinstance(path, str):
        raise DataError(f"{path!r} is a path of bytes: give it as a text")
    file = paths.place(path, "the image")
    try:
        if not file.is_file():
            raise DataError(f"there is no image at {file}")
    except OSError as error:  # its folder may not be looked into, or it is too long a name
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    try:
        return decode(file, reading)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _from_pixels(pixels: NDArray[Any]) -> "Image":
    from PIL import Image

    if pixels.dtype != np.uint8:
        raise DataError(
            f"the pixels are {pixels.dtype}: give uint8, 0 to 255, e.g. (255 * x).round()"
            ".astype('uint8') of numbers from 0 to 1, or the file, which is read as in training"
        )
    if pixels.ndim == 2:
        rgb = np.repeat(pixels[..., None], _CHANNELS, axis=-1)
    else:
        rgb = _channels_last(pixels)
    if not rgb.size:
        raise DataError(f"the image has the shape {pixels.shape}: there is no pixel in it")
    return Image.fromarray(np.ascontiguousarray(rgb))


def _channels_last(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return ``(H, W, 3)`` of that or ``(3, H, W)``."""
    shape = pixels.shape
    places = [axis for axis in (0, 2) if pixels.ndim == _CHANNELS and shape[axis] == _CHANNELS]
    if len(places) == 2:
        raise DataError(
            f"the shape {shape} may be (3, H, W) or (H, W, 3): give an image of more pixels, or "
            "PIL's Image.fromarray of it"
        )
    if not places:
        raise DataError(
            f"the image has the shape {shape}: give (H, W, 3), (3, H, W) or (H, W), without alpha "
            "or further bands"
        )
    return pixels if places == [2] else np.moveaxis(pixels, 0, 2)


def _pixels(given: object) -> NDArray[Any]:
    """Return an array as it is, and a tensor of any device as one."""
    if isinstance(given, np.ndarray):
        return given
    try:
        return np.asarray(given.detach().cpu().numpy())  # type: ignore[attr-defined]
    except (TypeError, RuntimeError) as error:
        raise DataError(f"the tensor has no array ({error}): give it as uint8") from error


def _is_single(given: object) -> bool:
    kinds = (str, os.PathLike, bytes, bytearray, memoryview)
    return isinstance(given, kinds) or hasattr(given, "read") or _is_picture(given)


def _is_array(given: object) -> bool:
    # Nobody who gives no tensor needs torch here.
    return isinstance(given, np.ndarray) or (
        hasattr(given, "detach") and hasattr(given, "cpu") and hasattr(given, "shape")
    )


def _is_picture(given: object) -> bool:
    from PIL import Image

    return isinstance(given, Image.Image)


def _kind(given: object) -> str:
    return f"an object of type {type(given).__name__}"
