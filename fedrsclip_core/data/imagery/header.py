"""What an image file says of itself, read from its own header and never from a decoder's mode.

Decoders reduce what they find: Pillow reads 16-bit RGB as 8 bits, and a fourth band as alpha.
"""

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from fedrsclip_core.data.imagery.orientation import ORIENTATION, orientation_in
from fedrsclip_core.errors import DataError

JPEG, PNG, TIFF, JPEG2000 = "JPEG", "PNG", "TIFF", "JPEG2000"
WEBP, GIF, BMP, AVIF, VRT = "WEBP", "GIF", "BMP", "AVIF", "VRT"
"""The containers that are read, by Pillow's names where it has one."""

UNSIGNED, SIGNED, FLOATING = "unsigned integers", "signed integers", "floating-point numbers"
"""What a band's numbers are."""

STRAIGHT, PREMULTIPLIED = "straight", "premultiplied"
"""The forms of alpha."""


SEVERAL_IMAGES = (
    "holds several images (pages or frames), of which only the first would be seen: save each in a "
    "file of its own, or all as bands of one image"
)
"""The refusal of such a file."""


@dataclass(frozen=True)
class Header:
    """What one image file holds.

    Attributes
    ----------
    container : str
        One of the names above.
    width, height : int
        As stored, before any rotation.
    bits : int
        Of the deepest band.
    numbers : str
        What they are.
    bands : int
        All of them, alpha included.
    colours : int
        Bands that are grey, palette entries, RGB or CMYK; 0 if the file does not say it.
    alpha : str
        Its form; empty without alpha.
    images : int
        Pages or frames of full size; more than one means two or more.
    orientation : int
        TIFF's own or PNG's; 1 is upright.
    problem : str
        What else keeps it from being read by any means; empty if nothing does.
    """

    container: str
    width: int
    height: int
    bits: int = 8
    numbers: str = UNSIGNED
    bands: int = 3
    colours: int = 3
    alpha: str = ""
    images: int = 1
    orientation: int = 1
    problem: str = ""

    @property
    def others(self) -> int:
        """Bands that are neither colour nor alpha."""
        return self.bands - self.colours - bool(self.alpha)

    @property
    def has_bands(self) -> bool:
        """Whether a reading can choose among what it holds, and not only of it as 8-bit RGB."""
        if self.container == JPEG:
            return self.bits > 8
        return self.container in (TIFF, JPEG2000, PNG, VRT) and self.bits >= 8

    @property
    def size(self) -> str:
        """Width and height in words."""
        return f"{self.width} x {self.height} pixels"


def read_header(file: Path | bytes) -> Header:
    """Return what a file says of itself.

    Raises
    ------
    DataError
        If it cannot be read, is empty, of none of these containers, or its header is damaged.
    """
    try:
        with BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream:
            return header_in(stream)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or type(error).__name__})") from error


def header_in(stream: IO[bytes]) -> Header:
    """Return what an open file says of itself; raises as :func:`read_header`."""
    stream.seek(0)
    start = stream.read(_SNIFFED)
    for reader, signature in _CONTAINERS:
        if signature(start):
            stream.seek(0)
            try:
                return reader(stream)
            except DataError:
                raise
            # A damaged header lets Pillow's directory raise whatever comes to pass.
            except Exception as error:
                raise DataError(
                    f"not readable as an image (its header is damaged: {type(error).__name__})"
                ) from error
    raise DataError(_no_image(start))


def _no_image(start: bytes) -> str:
    """Say what a file is that is no image."""
    if not start:
        return "is empty (0 bytes)"
    if start.startswith(b"version https://git-lfs"):
        return "is a git-LFS pointer, not the image itself: run git lfs pull"
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "not readable as an image (it is a web page): download it again"
    if start[4:8] == b"ftyp":
        return "not readable as an image (HEIF or a video): save it as JPEG or PNG"
    if not start.strip(b"\0"):
        return "not readable as an image (it holds zeros only): copy it again"
    return (
        "not readable as an image (it is no JPEG, PNG, TIFF, JPEG 2000, WebP, GIF, BMP, AVIF or "
        "VRT)"
    )


# --- JPEG ---------------------------------------------------------------------------------------

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_START_OF_SCAN = 0xDA


def _jpeg(stream: IO[bytes]) -> Header:
    stream.seek(2)
    while True:
        marker = _jpeg_marker(stream)
        if marker in _WITHOUT_LENGTH:
            continue
        if marker == _START_OF_SCAN:
            raise ValueError("a scan before its frame")
        (length,) = _unpack(">H", stream)
        if marker in _START_OF_FRAME:
            bits, height, width, bands = _unpack(">BHHB", stream)
            return Header(JPEG, width, height, bits, bands=bands, colours=bands)
        stream.seek(length - 2, 1)


def _jpeg_marker(stream: IO[bytes]) -> int:
    """Return the next marker; any number of fill bytes may be before it."""
    byte = _exactly(stream, 1)
    while byte != b"\xff":
        byte = _exactly(stream, 1)
    while byte == b"\xff":
        byte = _exactly(stream, 1)
    return byte[0]


# --- PNG ----------------------------------------------------------------------------------------

_PNG_COLOURS = {0: (1, ""), 2: (3, ""), 3: (1, ""), 4: (1, STRAIGHT), 6: (3, STRAIGHT)}


def _png(stream: IO[bytes]) -> Header:
    stream.seek(8)
    images, orientation, header = 1, 1, None
    for kind, length in _png_chunks(stream):
        if kind == b"IHDR":
            width, height, bits, colour_type = _unpack(">IIBB", stream)
            stream.seek(length - 10, 1)
            colours, alpha = _PNG_COLOURS[colour_type]
            bands = colours + bool(alpha)
            header = Header(PNG, width, height, bits, UNSIGNED, bands, colours, alpha)
        elif kind == b"acTL":  # before the image, if the file is an animation
            (images, _) = _unpack(">II", stream)
            stream.seek(length - 8, 1)
        elif kind == b"eXIf":
            orientation = orientation_in(_exactly(stream, length))
        else:
            stream.seek(length, 1)
        stream.seek(4, 1)  # the checksum
    if header is None:
        raise ValueError("no IHDR")
    return replace(header, images=images, orientation=orientation)


def _png_chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    while len(head := stream.read(8)) == 8:
        (length,) = struct.unpack(">I", head[:4])
        yield head[4:], length


# --- TIFF ---------------------------------------------------------------------------------------

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS = 254, 255, 256, 257, 258
_PHOTOMETRIC, _BANDS, _COLOUR_MAP, _EXTRAS, _FORMATS = 262, 277, 320, 338, 339
_REDUCED_OR_MASK = 1 | 4
_OLD_REDUCED = 2
_COLOURS_OF = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
_COMPRESSION, _PLANES, _SUBSAMPLING = 259, 284, 530
_JPEG_COMPRESSIONS, _SEPARATE = (6, 7), 2
_WHITE_IS_ZERO, _PALETTE, _CMYK, _YCBCR, _CIELAB = 0, 3, 5, 6, (8, 9, 10)
_SENSOR = (32803, 34892)
_NUMBERS = {1: UNSIGNED, 2: SIGNED, 3: FLOATING, 4: UNSIGNED}
_ALPHAS = {1: PREMULTIPLIED, 2: STRAIGHT, 999: STRAIGHT}


def _tiff(stream: IO[bytes]) -> Header:
    pages = _tiff_pages(stream)
    first = next(pages, None)
    if first is None:
        raise ValueError("no page")
    bits, formats = _all(first, _BITS, 1), _all(first, _FORMATS, 1)
    bands = int(first.get(_BANDS, 1))
    photometric = first.get(_PHOTOMETRIC)
    colours = min(_COLOURS_OF.get(photometric, 0), bands)
    extras = _all(first, _EXTRAS, 0)
    # The first of the extra bands only: no reader looks for alpha among others.
    alpha = _ALPHAS.get(extras[0], "") if bands > colours > 0 else ""
    return Header(
        TIFF,
        int(first[_WIDTH]),
        int(first[_HEIGHT]),
        max(bits),
        _NUMBERS.get(max(formats), str(max(formats))),
        bands,
        colours,
        alpha,
        1 + any(not _is_copy(page) for page in pages),
        int(first.get(ORIENTATION, 1)),
        _tiff_problem(first, bits, formats),
    )


def _tiff_problem(page: Any, bits: tuple[int, ...], formats: tuple[int, ...]) -> str:
    photometric = page.get(_PHOTOMETRIC)
    if _is_copy(page):
        return "begins with a reduced copy or a mask of an image that comes later in the file"
    if max(formats) in (5, 6):
        return "has complex numbers (save their magnitude)"
    if len(set(bits)) > 1 or len(set(formats)) > 1:
        return "has bands of different depths"
    if photometric in _CIELAB:
        return "has CIELAB colours"
    if photometric == _CMYK and max(bits) > 8:
        return "has CMYK colours of more than 8 bits"
    if photometric == _WHITE_IS_ZERO and max(bits) > 8:
        return "has white where its numbers are 0, and more than 8 bits"
    if (
        photometric == _YCBCR
        and page.get(_COMPRESSION) not in _JPEG_COMPRESSIONS
        # By default colours have fewer pixels than brightness, which only JPEG's decoders know.
        and page.get(_SUBSAMPLING, (2, 2)) != (1, 1)
    ):
        return "has subsampled YCbCr colours without JPEG compression"
    if page.get(_PLANES) == _SEPARATE and PREMULTIPLIED in map(_ALPHAS.get, _all(page, _EXTRAS, 0)):
        return "has colours multiplied by alpha, each in a plane of its own"
    if photometric in _SENSOR:
        return "holds a camera sensor's raw values"
    if photometric == _PALETTE and 0 < max(page.get(_COLOUR_MAP, (0,))) < 256:
        return "has a palette of 8-bit numbers where TIFF has 16-bit ones"
    return ""


def _tiff_pages(stream: IO[bytes]) -> Iterator[Any]:
    """Yield the tags of each page in the file's own chain; sub-images are not in it."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    # It warns of what is damaged, and goes on.
    warnings.filterwarnings("ignore", module="PIL.TiffImagePlugin")
    start = _exactly(stream, 8)
    if 43 in start[2:4]:  # BigTIFF
        start += _exactly(stream, 8)
    place = ImageFileDirectory_v2(start).next
    seen: set[int] = set()
    while place and place not in seen:
        seen.add(place)
        directory = ImageFileDirectory_v2(start)
        stream.seek(place)
        # Some writers leave a chain that leads nowhere; what comes before is whole.
        with suppress(Exception):
            directory.load(stream)
        if not {_WIDTH, _HEIGHT} <= set(directory):
            return
        yield directory
        place = directory.next


def _is_copy(page: Any) -> bool:
    """Whether a page is an overview or a mask of another."""
    return bool(page.get(_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK) or (
        page.get(_OLD_SUBFILE_TYPE) == _OLD_REDUCED
    )


def _all(page: Any, tag: int, default: int) -> tuple[int, ...]:
    value = page.get(tag, default)
    return tuple(map(int, value if isinstance(value, tuple) else (value,)))


# --- JPEG 2000 ----------------------------------------------------------------------------------

_CODESTREAM = b"\xff\x4f\xff\x51"
_ENUMERATED_COLOURS = {12: 4, 16: 3, 17: 1, 18: 3}
_OPACITY = {1: STRAIGHT, 2: PREMULTIPLIED}


def _jpeg2000(stream: IO[bytes]) -> Header:
    if stream.read(4) == _CODESTREAM:
        return _codestream(stream, {})
    stream.seek(0)
    boxes: dict[bytes, bytes] = {}
    for kind, length in _boxes(stream):
        if kind == b"jp2c":
            if stream.read(4) != _CODESTREAM:
                raise ValueError("no codestream")
            return _codestream(stream, boxes)
        if kind == b"jp2h":
            inside = BytesIO(_exactly(stream, length))
            for name, size in _boxes(inside):
                boxes.setdefault(name, _exactly(inside, size))
        else:
            stream.seek(length, 1)
    raise ValueError("no codestream")


def _boxes(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield each box's type and length, at its content; who takes it moves on past it."""
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if length == 1:
            (length,) = _unpack(">Q", stream)
            length -= 8
        yield kind, max(0, length - 8)


def _codestream(stream: IO[bytes], boxes: dict[bytes, bytes]) -> Header:
    _, _, right, bottom, left, top = _unpack(">HHIIII", stream)
    stream.seek(16, 1)  # tiles
    (bands,) = _unpack(">H", stream)
    depths = [_unpack(">BBB", stream)[0] for _ in range(bands)]
    alpha = ""
    if b"cdef" in boxes:
        channels = struct.iter_unpack(">HHH", boxes[b"cdef"][2:])
        alpha = next((_OPACITY[kind] for _, kind, _ in channels if kind in _OPACITY), "")
    if b"pclr" in boxes:
        bands = boxes[b"pclr"][2]
        depths = list(boxes[b"pclr"][3 : 3 + bands])
    said = boxes.get(b"colr", b"")
    colours = 3 if bands >= 3 else 1
    if said[:1] == b"\x01":
        colours = _ENUMERATED_COLOURS.get(int.from_bytes(said[3:7]), colours)
    numbers = SIGNED if any(depth & 0x80 for depth in depths) else UNSIGNED
    bits = max((depth & 0x7F) + 1 for depth in depths)
    size = right - left, bottom - top
    return Header(JPEG2000, *size, bits, numbers, bands, min(colours, bands), alpha)


# --- what always has 8 bits, and AVIF -------------------------------------------------------------


def _webp(stream: IO[bytes]) -> Header:
    start = _exactly(stream, 30)
    kind, animated = start[12:16], False
    if kind == b"VP8X":
        animated = bool(start[20] & 2)
        width, height = (1 + int.from_bytes(start[k : k + 3], "little") for k in (24, 27))
    elif kind == b"VP8L":
        packed = int.from_bytes(start[21:25], "little")
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", start[26:30]))
    return Header(WEBP, width, height, images=1 + animated)


def _gif(stream: IO[bytes]) -> Header:
    from PIL.GifImagePlugin import GifImageFile

    stream.seek(6)
    width, height = _unpack("<HH", stream)
    stream.seek(0)
    with GifImageFile(stream) as image:
        return Header(GIF, width, height, bands=1, colours=1, images=1 + image.is_animated)


def _bmp(stream: IO[bytes]) -> Header:
    stream.seek(14)
    (length,) = _unpack("<I", stream)
    width, height = _unpack("<HH" if length == 12 else "<ii", stream)
    return Header(BMP, width, abs(height))


def _avif(stream: IO[bytes]) -> Header:
    start = stream.read(_AVIF_HEADER)
    size, code = start.find(b"ispe"), start.find(b"av1C")
    width, height = struct.unpack(">II", start[size + 8 : size + 16])
    flags = start[code + 6]
    bits = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    return Header(AVIF, width, height, bits, images=1 + (start[8:12] == b"avis"))


def _is_avif(brands: bytes) -> bool:
    """Whether a file's brands, its own before those that it is compatible with, are AVIF's."""
    own = brands[:4]
    return own in (b"avif", b"avis") or (own in (b"mif1", b"msf1") and b"avif" in brands[8:])


def _vrt(stream: IO[bytes]) -> Header:
    # What it holds is in its sources, which are looked at when it is opened.
    return Header(VRT, 0, 0)


_AVIF_HEADER = 2**16
_SNIFFED = 512


def _begins(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda start: start.startswith(signatures)


_CONTAINERS: tuple[tuple[Callable[[IO[bytes]], Header], Callable[[bytes], bool]], ...] = (
    (_jpeg, _begins(b"\xff\xd8\xff")),
    (_png, _begins(b"\x89PNG\r\n\x1a\n")),
    (_tiff, _begins(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (_jpeg2000, _begins(_CODESTREAM, b"\0\0\0\x0cjP  \r\n\x87\n")),
    (_webp, lambda start: start[:4] == b"RIFF" and start[8:12] == b"WEBP"),
    (_gif, _begins(b"GIF87a", b"GIF89a")),
    (_bmp, _begins(b"BM")),
    (_avif, lambda start: start[4:8] == b"ftyp" and _is_avif(start[8 : start[3]])),
    (_vrt, lambda start: start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<VRTDataset")),
)


def _unpack(layout: str, stream: IO[bytes]) -> tuple[Any, ...]:
    return struct.unpack(layout, _exactly(stream, struct.calcsize(layout)))


def _exactly(stream: IO[bytes], count: int) -> bytes:
    found = stream.read(count)
    if len(found) < count:
        raise EOFError
    return found
