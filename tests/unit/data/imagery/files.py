"""Image files written by hand, tag by tag and chunk by chunk, as no library would be made to."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

MINISWHITE, MINISBLACK, RGB, PALETTE, CMYK, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
UNSPECIFIED, PREMULTIPLIED, STRAIGHT = 0, 1, 2
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}


def scene(width: int = 12, height: int = 8) -> np.ndarray:
    """An 8-bit RGB picture ``(height, width, 3)`` in which no two rows, columns or bands agree."""
    y, x = np.mgrid[:height, :width]
    return np.stack([60 + 9 * x, 20 + 21 * y, 200 - 7 * x - 4 * y], axis=-1).astype(np.uint8)


@dataclass(frozen=True)
class Page:
    """One image of a TIFF.

    Attributes
    ----------
    pixels : np.ndarray
        ``(H, W)`` or ``(H, W, bands)``.
    photometric : int or None
        Left out if ``None``.
    extras : Sequence[int]
        What the bands after the colours are.
    planar : bool
        Whether bands are stored one after the other.
    deflate : bool
        Whether they are compressed.
    tags : Mapping[int, Sequence[int]]
        Further tags of 16-bit numbers.
    """

    pixels: np.ndarray
    photometric: int | None = RGB
    extras: Sequence[int] = ()
    planar: bool = False
    deflate: bool = False
    tags: Mapping[int, Sequence[int]] = field(default_factory=dict)


def tiff(*pages: Page, order: str = "<") -> bytes:
    """Return a TIFF."""
    file = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0))
    link = 4
    for page in pages:
        pixels = page.pixels if page.pixels.ndim == 3 else page.pixels[..., None]
        planes = list(np.moveaxis(pixels, -1, 0)) if page.planar else [pixels]
        places, sizes = [], []
        for plane in planes:
            data = plane.astype(plane.dtype.newbyteorder(order)).tobytes()
            data = zlib.compress(data) if page.deflate else data
            places.append(len(file))
            sizes.append(len(data))
            file += data
        file += b"\0" * (len(file) % 2)
        struct.pack_into(order + "I", file, link, len(file))
        link = _directory(file, _tags(page, pixels, places, sizes), order)
    return bytes(file)


def _tags(page: Page, pixels: np.ndarray, places: list[int], sizes: list[int]) -> dict[int, Any]:
    height, width, bands = pixels.shape
    long = lambda *values: ("I", values)  # noqa: E731
    short = lambda *values: ("H", values)  # noqa: E731
    tags = {
        256: long(width),
        257: long(height),
        258: short(*[8 * pixels.dtype.itemsize] * bands),
        259: short(8 if page.deflate else 1),
        273: long(*places),
        277: short(bands),
        278: long(height),
        279: long(*sizes),
        284: short(2 if page.planar else 1),
        339: short(*[_SAMPLE_FORMATS[pixels.dtype.kind]] * bands),
    }
    if page.photometric is not None:
        tags[262] = short(page.photometric)
    if page.extras:
        tags[338] = short(*page.extras)
    return tags | {tag: short(*values) for tag, values in page.tags.items()}


def _directory(file: bytearray, tags: dict[int, Any], order: str) -> int:
    """Append a directory; return the place of its link to the next."""
    start = len(file)
    file += struct.pack(order + "H", len(tags)) + bytes(12 * len(tags) + 4)
    for k, (tag, (kind, values)) in enumerate(sorted(tags.items())):
        data = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(data) > 4:
            place = struct.pack(order + "I", len(file))
            file += data
        else:
            place = data.ljust(4, b"\0")
        head = struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[kind], len(values))
        file[start + 2 + 12 * k : start + 14 + 12 * k] = head + place
    return start + 2 + 12 * len(tags)


def png(pixels: np.ndarray, colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of 8 or 16 bits, with further chunks before its pixels."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    bits = 8 * pixels.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    all_chunks = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, all_chunks))


def _chunk(kind_and_data: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind_and_data)
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as Pillow writes it."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
