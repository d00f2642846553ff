"""A georeferenced raster of any size, read in strips by a thread of its own."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip.map.ground import Ground, check_placed
from fedrsclip.map.preview import Preview, PreviewRows
from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.data.imagery.header import SEVERAL_IMAGES, read_header
from fedrsclip_core.data.imagery.raster import (
    DRIVERS,
    Numbers,
    check_blocks,
    num_bands,
    opened,
    read_numbers,
)
from fedrsclip_core.data.imagery.stretch import is_found_in_each, stretched, stretched_alike
from fedrsclip_core.data.imagery.vrt import all_files
from fedrsclip_core.errors import DataError
from fedrsclip_core.runs import paths

_BITS = 8
_LEAST_ROWS = 64
"""Pixel rows of a strip at least; strips end where the blocks do that a file is stored in."""


@dataclass(frozen=True)
class Pixels:
    """Rows of a scene, over all its width.

    Attributes
    ----------
    numbers : NDArray
        ``(h, width, bands)``: 0 to 255 as seen, or, where each window has a range of its own, what
        is stored.
    valid : NDArray[np.bool_]
        ``(h, width, bands)``, where these are data.
    data : NDArray[np.bool_]
        ``(h, width)``, where a band has data that alpha does not hide.
    damaged : NDArray[np.bool_]
        ``(h, width)``, where the file cannot be read.
    """

    numbers: NDArray[Any]
    valid: NDArray[np.bool_]
    data: NDArray[np.bool_]
    damaged: NDArray[np.bool_]

    def cut(self, rows: slice, columns: slice = slice(None)) -> "Pixels":
        """Return a part, which shares the memory."""
        parts = (self.numbers, self.valid, self.data, self.damaged)
        return Pixels(*(part[rows, columns] for part in parts))


def joined(parts: list[Pixels]) -> Pixels:
    """Return rows below each other as one."""
    if len(parts) == 1:
        return parts[0]
    return Pixels(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("numbers", "valid", "data", "damaged")
        )
    )


def picture(window: Pixels, reading: Reading) -> NDArray[np.uint8]:
    """Return a window as a CLIP sees it ``(h, w, 3)``, as if it were an image file of its own.

    Raises
    ------
    DataError
        If the reading shows nothing there.
    """
    if is_found_in_each(reading):
        bands = [
            (window.numbers[..., k], window.valid[..., k]) for k in range(window.numbers.shape[-1])
        ]
        shown = stretched(bands, reading, window.data)
    else:
        shown = window.numbers
        if reading.ranges:
            _check_inside(shown if window.valid.all() else shown[window.valid])
    return np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown


def _check_inside(shown: NDArray[np.uint8]) -> None:
    if not shown.any() or shown.min() == np.iinfo(np.uint8).max:
        side = "above" if shown.any() else "below"
        raise DataError(f"all numbers are {side} the range of data.stretch")


class Scene:
    """An open scene; made by :func:`open_scene`.

    Attributes
    ----------
    file : Path
        Where it is.
    height, width : int
        Its pixels.
    ground : Ground
        Where they are on earth.
    pixel_metres : float
        The side of a square as large as the pixel in its middle.
    preview : Preview
        What is kept of it to be seen as a whole.
    """

    def __init__(self, file: Path, source: Any, reading: Reading, reader: ThreadPoolExecutor):
        self.file = file
        self.height, self.width = int(source.height), int(source.width)
        self.ground = Ground(source.crs, source.transform)
        self.preview = Preview(self.height, self.width)
        self._source, self._reading, self._reader = source, reading, reader
        self.pixel_metres = self.ground.pixel_metres(self.height, self.width)
        self._block: tuple[int, int] = source.block_shapes[0]
        self._num_bands = num_bands(source, reading)

    @property
    def identity(self) -> str:
        """A text that changes when a file of the scene does."""
        stats = [(one.name, one.stat()) for one in all_files(self.file)]
        return repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])

    @property
    def num_bands(self) -> int:
        """Bands of its pixels."""
        return self._num_bands

    @property
    def strip_rows(self) -> int:
        """Pixel rows of a strip."""
        rows = self._block[0]
        return rows * -(-_LEAST_ROWS // rows)

    def strips(self, first: int) -> Iterator[tuple[int, Pixels, PreviewRows]]:
        """Yield strips with their first row, from the one that row ``first`` is in; one ahead."""
        tops = range(first // self.strip_rows * self.strip_rows, self.height, self.strip_rows)
        ahead: Future[tuple[Pixels, PreviewRows]] | None = None
        for place, top in enumerate(tops):
            made = ahead or self._reader.submit(self._strip, top)
            ahead = self._reader.submit(self._strip, tops[place + 1]) if top != tops[-1] else None
            with _naming(self.file):
                strip = made.result()
            yield top, *strip

    def _strip(self, top: int) -> tuple[Pixels, PreviewRows]:
        height = min(self.strip_rows, self.height - top)
        pixels = self._read(top, 0, height, self.width)
        if pixels is None:
            pixels = self._what_can_be_read(top, height)
        return pixels, self.preview.rows_of(top, pixels.numbers, pixels.data)

    def _what_can_be_read(self, top: int, height: int) -> Pixels:
        """Read a strip block by block, and keep those that can be read."""
        found: dict[tuple[int, int], Pixels] = {}
        rows, columns = self._block
        for y in range(0, height, rows):
            for x in range(0, self.width, columns):
                size = min(rows, height - y), min(columns, self.width - x)
                if (part := self._read(top + y, x, *size)) is not None:
                    found[y, x] = part
        kind = next(iter(found.values())).numbers.dtype if found else np.uint8
        shape = height, self.width
        strip = Pixels(
            np.zeros((*shape, self.num_bands), kind),
            np.zeros((*shape, self.num_bands), bool),
            np.zeros(shape, bool),
            np.ones(shape, bool),
        )
        for (y, x), part in found.items():
            h, w = part.data.shape
            place = strip.cut(slice(y, y + h), slice(x, x + w))
            place.numbers[:], place.valid[:], place.data[:] = part.numbers, part.valid, part.data
            place.damaged[:] = False
        return strip

    def _read(self, top: int, left: int, height: int, width: int) -> Pixels | None:
        """Return a region; ``None`` if it is damaged."""
        from rasterio.windows import Window  # type: ignore[import-untyped]

        window = Window(left, top, width, height)
        try:
            stored = read_numbers(self._source, self._reading, window=window)
            hidden = self._hidden(window)
        except (DataError, MemoryError):
            raise
        except Exception:  # GDAL fed with broken bytes raises whatever comes to pass.
            # Some of it comes once more when the file is asked for something else.
            with suppress(Exception):
                _ = self._source.colorinterp
            return None
        return _pixels(stored, hidden, self._reading)

    def _hidden(self, window: Any) -> NDArray[np.bool_] | None:
        """Return where a palette's entry stands for no data."""
        if self._source.colorinterp[0].name != "palette" or self._reading.nodata is not None:
            return None
        return np.asarray(self._source.read_masks(1, window=window) == 0)


def _pixels(stored: Numbers, hidden: NDArray[np.bool_] | None, reading: Reading) -> Pixels:
    data = np.logical_or.reduce([valid for _, valid in stored.bands])
    if stored.opaque is not None:
        data &= stored.opaque
    if hidden is not None:
        data &= ~hidden
    if reading == AS_THEY_ARE:
        # Such images are seen as they are stored, also where a file says that there are no data.
        everywhere = np.ones(data.shape, bool)
        numbers = stretched_alike([(numbers, everywhere) for numbers, _ in stored.bands], reading)
        return Pixels(numbers, np.ones_like(numbers, bool), data, ~everywhere)
    valid = np.stack([valid for _, valid in stored.bands], axis=-1)  # (h, w, bands)
    if is_found_in_each(reading):
        numbers = np.stack([numbers for numbers, _ in stored.bands], axis=-1)
    else:
        numbers = stretched_alike(stored.bands, reading)
    return Pixels(numbers, valid, data, np.zeros(data.shape, bool))


@contextmanager
def open_scene(given: str | Path, reading: Reading) -> Iterator[Scene]:
    """Open a scene for as long as it is read.

    Parameters
    ----------
    given : str or Path
        A GeoTIFF, COG, JPEG 2000 or VRT.
    reading : Reading
        How what is stored becomes RGB.

    Raises
    ------
    DataError
        If there is none, it cannot be read, or does not say where on earth it is.
    """
    require_geo()
    file = find_scene(given)
    inside = _opened(file)
    with ThreadPoolExecutor(1, thread_name_prefix="scene") as reader:
        # GDAL's settings and its file belong to the thread that opened them.
        with _naming(file):
            source = reader.submit(inside.__enter__).result()
        try:
            with _naming(file):
                scene = Scene(file, source, reading, reader)
            yield scene
        finally:
            reader.submit(inside.__exit__, None, None, None).result()


def find_scene(given: str | Path) -> Path:
    """Return where a scene is.

    Raises
    ------
    DataError
        If there is none.
    """
    file = paths.place(given, "the scene")
    if not file.is_file():
        raise DataError(f"there is no scene at {file}")
    return file


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Let what is wrong begin with the file's name."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    header = read_header(file)
    if header.images > 1:
        raise DataError(SEVERAL_IMAGES)
    if header.problem:
        raise DataError(f"{header.problem}: save it as a GeoTIFF of 8 or 16 bits")
    if header.container not in DRIVERS:
        raise DataError(
            f"is a picture ({header.container}) without a place on earth: a scene is a GeoTIFF, "
            "COG, JPEG 2000 or VRT"
        )
    # What a user's own VRT names may be anywhere on this machine, unlike what a data set's does.
    with opened(file, header, Path(file.absolute().anchor)) as source:
        check_blocks(source)
        check_placed(source)
        if header.bits < _BITS and source.colorinterp[0].name != "palette":
            raise DataError(f"has {header.bits}-bit numbers: save it as a GeoTIFF of 8 or 16 bits")
        yield source


def require_geo() -> None:
    """Raise DataError if what reads and measures scenes is not installed."""
    try:
        import pyproj  # noqa: F401
        import rasterio  # type: ignore[import-untyped]  # noqa: F401
    except ImportError as error:
        raise DataError("maps need rasterio and pyproj: pip install 'fedrsclip[geo]'") from error
