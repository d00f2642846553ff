"""Images of any bands and depths, read by rasterio."""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.reading import NONE, Reading
from fedrsclip_core.data.imagery.header import (
    JPEG,
    JPEG2000,
    PNG,
    TIFF,
    VRT,
    Header,
)
from fedrsclip_core.data.imagery.orientation import upright
from fedrsclip_core.data.imagery.stretch import Band, stretched
from fedrsclip_core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST_SCENE = 2**31
"""Pixels of a scene at most, which is read at a lower resolution."""
_READ = 2**24
"""Pixels that are read of a scene at most: 4096 x 4096, from an overview where it has one."""
_DENSEST = 2000
"""Pixels of a large scene for each byte of its file; deflate cannot do more than half of that."""
_LARGEST_BLOCK = 2**28
"""Bytes of a tile or strip at most, of which a reader must hold a whole one."""

_SILENT = logging.NullHandler()

DRIVERS = {TIFF: "GTiff", JPEG2000: "JP2OpenJPEG", PNG: "PNG", JPEG: "JPEG", VRT: "VRT"}
"""GDAL's, by container."""
_COLOURS = ("red", "green", "blue")
_SETTINGS = {
    # What is beside a file is not read: its identity in the feature cache is its own content.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": 64,
    "GDAL_NUM_THREADS": 1,
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
}


def require_rasterio() -> None:
    """Raise DataError if what reads bands and depths is not installed."""
    try:
        import rasterio  # type: ignore[import-untyped]  # noqa: F401
    except ImportError as error:
        raise DataError(
            "data.bands, data.stretch and data.nodata need rasterio: pip install 'fedrsclip[geo]'"
        ) from error


def read_bands(
    file: Path | bytes, header: Header, reading: Reading, root: Path | None = None
) -> "Image":
    """Read the chosen bands of a file as RGB, upright.

    Parameters
    ----------
    file : Path or bytes
        The file or its content.
    header : Header
        What it says of itself.
    reading : Reading
        Which bands are seen, and how their numbers become 0 to 255.
    root : Path or None
        The folder in which a VRT's sources must lie; by default its own.

    Raises
    ------
    DataError
        If rasterio is not installed, the file cannot be read, has none of the bands, or numbers
        that the stretch does not fit.
    """
    require_rasterio()
    _check(header, len(file) if isinstance(file, bytes) else file.stat().st_size)
    with opened(file, header, root) as source:
        if source.width * source.height > LARGEST_SCENE:
            raise _too_large(f"{source.width} x {source.height} pixels")
        check_blocks(source)
        numbers = read_numbers(source, reading, shape=_shape(source))
    pixels = stretched(numbers.bands, reading, numbers.opaque)
    return upright(_picture(pixels), header.orientation)


def read_picture(image: "Image", header: Header, reading: Reading) -> "Image":
    """Choose and stretch the bands of an 8-bit image that is RGB already.

    Raises
    ------
    DataError
        If it has none of the bands, or the stretch does not fit 8 bits.
    """
    pixels = np.asarray(image)  # (H, W, 3)
    is_grey = header.colours == 1 and bool((pixels == pixels[..., :1]).all())
    names = ("gray",) if is_grey else _COLOURS
    table = [{name} for name in names]
    chosen = _chosen(reading.bands, table) if reading.bands else range(len(names))
    everywhere = np.ones(pixels.shape[:2], bool)
    if reading.nodata is not None:
        everywhere = ~(pixels == reading.nodata).all(axis=-1)
    bands: list[Band] = [(pixels[..., band], everywhere) for band in chosen]
    return _picture(stretched(bands, reading))


def _picture(pixels: NDArray[np.uint8]) -> "Image":
    from PIL import Image

    return Image.fromarray(np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels)


def _check(header: Header, num_bytes: int) -> None:
    if header.width * header.height > LARGEST_SCENE:
        raise _too_large(header.size)
    if header.width * header.height > max(_READ, _DENSEST * num_bytes):
        raise DataError(
            f"not readable as an image ({header.size} in {num_bytes} bytes: it is cut off, damaged "
            "or holds next to nothing)"
        )


def check_blocks(source: Any) -> None:
    """Raise DataError if an open file is stored in tiles or strips that fill the memory."""
    size = f"{source.width} x {source.height} pixels"
    # Asked of a damaged JPEG 2000, whose components are apart, GDAL may look for ever.
    by_pixel = source.driver == DRIVERS[TIFF] and source.interleaving == _by_pixel()
    interleaved = source.count if by_pixel else 1
    for (rows, columns), kind in zip(source.block_shapes, source.dtypes, strict=True):
        if rows * columns * np.dtype(kind).itemsize * interleaved > _LARGEST_BLOCK:
            raise DataError(
                f"too large ({size} in tiles or strips of {rows} x {columns}): save it as a "
                "GeoTIFF with smaller tiles"
            )


def _by_pixel() -> Any:
    from rasterio.enums import Interleaving  # type: ignore[import-untyped]

    return Interleaving.pixel


def _too_large(size: str) -> DataError:
    return DataError(
        f"too large ({size}; at most {LARGEST_SCENE} are read): cut the scene into tiles"
    )


@contextmanager
def opened(file: Path | bytes, header: Header, root: Path | None) -> Iterator[Any]:
    """Open a file by the one driver of its container, which no other file and no network serves.

    It is read and closed in the thread that opened it.

    Raises
    ------
    DataError
        If it cannot be opened, or reading it inside failed.
    """
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning  # type: ignore[import-untyped]

    # What GDAL has to say comes as errors; without a handler Python would print its log.
    logging.getLogger("rasterio").addHandler(_SILENT)
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    driver = DRIVERS[header.container]
    try:
        with rasterio.Env(**_SETTINGS):
            if header.container == VRT:
                from fedrsclip_core.data.imagery.vrt import safe_vrt

                file = safe_vrt(file, root)
            if isinstance(file, bytes):
                with rasterio.MemoryFile(file) as memory, memory.open(driver=driver) as source:
                    yield source
            else:
                with rasterio.open(file.absolute(), driver=driver) as source:
                    yield source
    except DataError:
        raise
    except Exception as error:  # GDAL fed with broken bytes raises whatever comes to pass.
        raise DataError(f"not readable as an image ({type(error).__name__})") from error


# --- which bands ----------------------------------------------------------------------------------


def _chosen(bands: Sequence[str], table: Sequence[set[str]]) -> list[int]:
    """Return the places of bands that are given by number or name."""
    return [_place(band, table) for band in bands]


def _place(band: str, table: Sequence[set[str]]) -> int:
    if band.isdigit():
        if int(band) <= len(table):
            return int(band) - 1
        raise DataError(f"has no band {band} of data.bands: {_listed(table)}")
    found = [place for place, names in enumerate(table) if band.strip().lower() in names]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"has {len(found)} bands {band!r} of data.bands: give their numbers")
    raise DataError(f"has no band {band!r} of data.bands: {_listed(table)}")


def _listed(table: Sequence[set[str]]) -> str:
    """List the bands of a file in a sentence."""
    names = [f"{n} {min(names)}" if names else str(n) for n, names in enumerate(table, 1)]
    if not any(table):
        return f"its {len(table)} bands have no names" if len(table) > 1 else "it has one band"
    return f"its bands are {', '.join(names)}"


def _names(source: Any) -> list[set[str]]:
    """Return each band's names in lower case: its description and its colour."""
    nameless = {"undefined", ""}
    names = [
        {str(description or "").strip().lower()[:40], colour.name.lower()} - nameless
        for description, colour in zip(source.descriptions, source.colorinterp, strict=True)
    ]
    # A colour that several bands claim names none of them; so do GDAL's guesses, as grey.
    count = Counter(name for band in names for name in band)
    return [{name for name in band if count[name] == 1 or band == {name}} for band in names]


def _places(source: Any, reading: Reading) -> list[int]:
    names = _names(source)
    if reading.bands:
        return _chosen(reading.bands, names)
    colours = [colour.name for colour in source.colorinterp]
    data = [place for place, colour in enumerate(colours) if colour != "alpha"]
    if len(data) == 1:
        return data
    if sorted(colours[place] for place in data) == sorted(_COLOURS):
        return [colours.index(colour) for colour in _COLOURS]
    raise DataError(
        f"has {len(data)} bands and does not say that they are red, green and blue alone "
        f"({_listed(names)}): set data.bands"
    )


# --- their numbers --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    """What is stored in a region of an open file.

    Attributes
    ----------
    bands : list of Band
        The chosen ones; of a palette its red, green and blue.
    opaque : NDArray[np.bool_] or None
        ``(H, W)``, where alpha is above 0; ``None`` without alpha.
    """

    bands: list[Band]
    opaque: NDArray[np.bool_] | None


def read_numbers(
    source: Any, reading: Reading, *, shape: tuple[int, int] | None = None, window: Any = None
) -> Numbers:
    """Read the chosen bands of an open file.

    Parameters
    ----------
    source : rasterio.DatasetReader
        The file.
    reading : Reading
        Which bands, and which stored number is nodata.
    shape : tuple of int or None
        Height and width that are read; by default those of the region.
    window : rasterio.windows.Window or None
        The region; by default all of it.

    Raises
    ------
    DataError
        If it has none of the bands, or numbers that no stretch fits.
    """
    by_palette = _is_by_palette(source, reading)
    places = [0] if by_palette else _places(source, reading)
    alpha = [place for place, colour in enumerate(source.colorinterp) if colour.name == "alpha"][:1]
    region = {"window": window, "shape": shape}
    stored = _stored(source, {*places, *alpha}, **region)
    opaque = np.asarray(stored[alpha[0]] > 0, bool) if alpha else None
    if by_palette:
        return Numbers(_palette_colours(source, stored[0], reading), opaque)
    bands = [_band(source, place, stored[place], reading, **region) for place in places]
    return Numbers(bands, opaque)


def num_bands(source: Any, reading: Reading) -> int:
    """Return how many bands :func:`read_numbers` gives; raises as that does."""
    return 3 if _is_by_palette(source, reading) else len(_places(source, reading))


def _is_by_palette(source: Any, reading: Reading) -> bool:
    return source.colorinterp[0].name == "palette" and reading.bands in ((), ("1",))


def _stored(source: Any, places: set[int], *, shape: Any, window: Any) -> dict[int, NDArray[Any]]:
    """Read bands as stored, all at once: of interleaved ones each block is decoded once."""
    if len({source.dtypes[place] for place in places}) > 1:
        return {
            place: source.read(place + 1, out_shape=shape, window=window)
            for place in sorted(places)
        }
    chosen = sorted(places)
    out_shape = None if shape is None else (len(chosen), *shape)
    numbers = source.read([place + 1 for place in chosen], out_shape=out_shape, window=window)
    return dict(zip(chosen, numbers, strict=True))


def _band(
    source: Any, place: int, numbers: NDArray[Any], reading: Reading, *, shape: Any, window: Any
) -> Band:
    """Return a band's numbers and where they are data."""
    from rasterio.enums import MaskFlags

    if np.iscomplexobj(numbers):
        raise DataError("has complex numbers: save their magnitude as floating-point numbers")
    is_whole = np.issubdtype(numbers.dtype, np.integer)
    valid = np.ones(numbers.shape, bool) if is_whole else np.isfinite(numbers)
    flags = source.mask_flag_enums[place]
    is_replaced = MaskFlags.nodata in flags and reading.nodata is not None
    # Alpha hides and is no nodata; near infrared that calls itself alpha must not blacken water.
    if not is_replaced and not {MaskFlags.all_valid, MaskFlags.alpha} & set(flags):
        valid &= source.read_masks(place + 1, out_shape=shape, window=window) > 0
    if reading.nodata is not None:
        valid &= numbers != reading.nodata
    if reading.stretch in ((), (NONE,)):
        return numbers, valid
    return _real(numbers, source.scales[place], source.offsets[place]), valid


def _real(numbers: NDArray[Any], scale: float, offset: float) -> NDArray[Any]:
    """Return the numbers that stored ones stand for, as the file says."""
    if (scale, offset) == (1, 0):
        return numbers
    return numbers.astype(np.float64) * scale + offset


def _shape(source: Any) -> tuple[int, int]:
    """Return height and width that are read."""
    factor = max(1.0, math.sqrt(source.width * source.height / _READ))
    return max(1, int(source.height / factor)), max(1, int(source.width / factor))


def _palette_colours(source: Any, indices: NDArray[Any], reading: Reading) -> list[Band]:
    """Return red, green and blue of a palette's entries."""
    if indices.dtype != np.uint8:
        raise DataError("has a palette of more than 256 colours: convert it to 8-bit RGB")
    entries = np.zeros((256, 3), np.uint8)
    for entry, colour in source.colormap(1).items():
        entries[entry] = colour[:3]
    colours = entries[indices]  # (H, W, 3)
    # A transparent entry is a colour, as where palettes are seen without a reading.
    valid = np.ones(indices.shape, bool) if reading.nodata is None else indices != reading.nodata
    return [(colours[..., k], valid) for k in range(3)]
