"""Decode one image file as RGB, or say in a sentence what is wrong with it."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.data.imagery.header import (
    JPEG,
    PREMULTIPLIED,
    SEVERAL_IMAGES,
    TIFF,
    UNSIGNED,
    VRT,
    Header,
    header_in,
    read_header,
)
from fedrsclip_core.data.imagery.orientation import exif_orientation, upright
from fedrsclip_core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 2**25
"""Pixels that are decoded at most: 33 million, which take 256 MiB for a moment.

A CLIP sees 224 x 224 or 336 x 336 of them. A JPEG with more is decoded at a half, a quarter or an
eighth of its size, which its decoder does without ever holding the whole.
"""
_LARGEST_JPEG = 8 * LARGEST
_CMYK = 4
_REDUCTIONS = (2, 4, 8)
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def decode(file: Path | bytes, reading: Reading = AS_THEY_ARE, root: Path | None = None) -> "Image":
    """Return an image as RGB, upright.

    Parameters
    ----------
    file : Path or bytes
        The file or its content.
    reading : Reading
        Which bands are seen, and how their numbers become 0 to 255. By default grey and RGB images
        of 8 bits are read as they are, and no others.
    root : Path or None
        The folder in which the files that a VRT names must lie; by default the VRT's own.

    Raises
    ------
    DataError
        If it is truncated, no image at all, has too many pixels, or bands or depths that the
        reading does not fit.
    """
    header = read_header(file)
    if header.images > 1:
        raise DataError(SEVERAL_IMAGES)
    if header.problem:
        raise DataError(f"{header.problem}: convert it to 8-bit RGB")
    if reading == AS_THEY_ARE:
        return _as_it_is(file, header)
    from fedrsclip_core.data.imagery.raster import read_bands, read_picture

    if header.has_bands and header.colours != _CMYK:
        return read_bands(file, header, reading, root)
    return read_picture(_as_it_is(file, header), header, reading)


def to_rgb(image: "Image") -> "Image":
    """Return an image that somebody else opened or made as RGB.

    One that was opened is turned as its file says; what was made of it may be turned already.

    Raises
    ------
    DataError
        If it, or the file that it is being read from, has more than 8 bits per channel or further
        bands.
    """
    from PIL.ImageFile import ImageFile

    header = _unread(image)
    if header is not None and not _fits(header):
        raise DataError(_advice(header))
    rgb = _converted(image)
    return upright(rgb, exif_orientation(image)) if isinstance(image, ImageFile) else rgb


def _unread(image: Any) -> Header | None:
    """Return the header of the file that an image is still to be decoded from, if there is one."""
    stream = getattr(image, "fp", None)
    if stream is None or not getattr(image, "tile", None):
        return None
    place = stream.tell()
    try:
        return header_in(stream)
    except DataError:  # of another container, which is its opener's choice
        return None
    finally:
        stream.seek(place)


def _converted(image: "Image") -> "Image":
    if image.mode not in _EIGHT_BIT_MODES:
        raise DataError(f"pixels of mode {image.mode} are not supported: convert it to 8-bit RGB")
    return image.convert("RGB")


def _as_it_is(file: Path | bytes, header: Header) -> "Image":
    if not _fits(header):
        raise DataError(_advice(header))
    largest = _LARGEST_JPEG if header.container == JPEG else LARGEST
    if header.width * header.height > largest:
        raise too_large(header.size)
    try:
        with (
            BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream,
            _opened(stream, header) as image,
        ):
            return _decoded(image, header)
    except DataError:
        raise
    except Exception as error:  # Decoders fed with broken bytes raise whatever comes to pass.
        hint = ": data.stretch=none may read it by rasterio" if header.container == TIFF else ""
        raise DataError(f"not readable as an image ({type(error).__name__}){hint}") from error


def _fits(header: Header) -> bool:
    """Whether an image is grey or RGB of 8 bits, and nothing else."""
    return (
        header.bits <= 8
        and header.numbers == UNSIGNED
        and header.colours > 0
        and header.others == 0
        and header.container != VRT
    )


def _advice(header: Header) -> str:
    """Say what a file has and which keys let it be read."""
    if header.container == VRT:
        return "is a VRT, which is read only if data.bands or data.stretch is set"
    count = header.bands - bool(header.alpha)
    bands = f"{count} band{'s' * (count > 1)}{' and alpha' if header.alpha else ''}"
    keys = []
    if count not in (1, 3) or header.colours != count:
        keys.append(
            "data.bands to those of red, green and blue, as [3,2,1]"
            if count > 2
            else "data.bands to one band, as [1], or to three"
        )
    if header.bits > 8 or header.numbers != UNSIGNED:
        keys.append("data.stretch, as [0,3000] or percentiles")
    keys = [f"set {' and '.join(keys)}"] if header.has_bands else []
    return (
        f"has {bands} of {header.bits}-bit {header.numbers}, which 8-bit RGB would lose or "
        f"distort: {', or '.join([*keys, 'convert it to 8-bit RGB'])}"
    )


def too_large(size: str) -> DataError:
    """Return the refusal of an image of a size in words."""
    return DataError(
        f"too large ({size}; at most {LARGEST} are decoded): cut the scene into tiles, or save it "
        "smaller"
    )


def _opened(stream: Any, header: Header) -> Any:
    """Open a file by the decoder of the container that its header was read from."""
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

    if header.container == JPEG:
        # Not by Image.open: what was bounded above may exceed its bound for all containers.
        return JpegImageFile(stream)
    return Image.open(stream, formats=[header.container])


def _decoded(image: Any, header: Header) -> "Image":
    _bound(image)
    if header.alpha == PREMULTIPLIED:
        rgb = _undivided(image)
    else:
        image.info.pop("transparency", None)  # Of a palette, Pillow would warn of it.
        rgb = _converted(image)
    # Pillow has turned a TIFF by its own tag already.
    return rgb if header.container == TIFF else upright(rgb, exif_orientation(image))


def _bound(image: Any) -> None:
    """Let a JPEG be decoded smaller if it must be; refuse what then has too many pixels."""
    width, height = image.size
    if width * height <= LARGEST:
        return
    # All coefficients of a progressive JPEG are held, however small it is decoded.
    if image.format == JPEG and not image.info.get("progressive"):
        needed = (r for r in _REDUCTIONS if width * height <= LARGEST * r * r)
        reduction = next(needed, _REDUCTIONS[-1])
        image.draft(image.mode, (width // reduction, height // reduction))
    if image.width * image.height > LARGEST:
        raise too_large(f"{width} x {height} pixels")


def _undivided(image: Any) -> "Image":
    """Return RGB of an image whose colours were multiplied by alpha.

    Raises
    ------
    DataError
        If a colour exceeds its alpha, as no product does: then that band is none, but as a rule
        near infrared.
    """
    from PIL import Image

    # As stored: Pillow would divide while it unpacks, and cut off what exceeds alpha.
    image.tile = [tile._replace(args=_as_stored(tile.args)) for tile in image.tile]
    stored = np.asarray(image)
    if (stored[..., :-1] > stored[..., -1:]).any():
        raise DataError(
            "says that its last band is alpha, multiplied into the colours, but colours exceed it: "
            "set data.bands to those of red, green and blue, as [1,2,3]"
        )
    mode, multiplied = ("LA", "La") if stored.shape[2] == 2 else ("RGBA", "RGBa")
    product = Image.frombytes(multiplied, image.size, stored.tobytes())
    return product.convert(mode).convert("RGB")


def _as_stored(args: Any) -> Any:
    """Return a decoder's arguments with an unpacker that does not divide."""
    if isinstance(args, str):
        return args.replace("RGBa", "RGBA")
    return (_as_stored(args[0]), *args[1:]) if isinstance(args, tuple) else args
