"""The images of a data set's rows, as the bytes of an image file."""

import warnings
from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.data.hub.columns import outer_column, pixel_type, values_in
from fedrsclip_core.data.imagery.raster import require_rasterio
from fedrsclip_core.errors import DataError


class ArrowRows:
    """Rows in Arrow files, in any order.

    Parameters
    ----------
    files : Sequence[str]
        The files, in row order.
    column : str
        Holds the images.
    roots : Sequence[Path]
        The folders in which files that rows name may lie: relative paths below the first one,
        absolute ones below any.
    """

    def __init__(self, files: Sequence[str], column: str, roots: Sequence[Path]) -> None:
        self._files = files
        self._column = column
        self._roots = roots

    def encoded(self, i: int) -> bytes:
        """Return the bytes of an image file.

        Raises
        ------
        DataError
            If the row has no image, or its file cannot be read.
        """
        rows, outer, pixels = self._opened
        (value,) = values_in([rows[i][outer]], self._column, rows.column_names)
        return encoded_image(value, pixels, self._roots)

    @cached_property
    def _opened(self) -> tuple[Any, str, str]:
        """Exactly the Arrow files that were indexed, images left encoded."""
        import datasets  # type: ignore[import-untyped]

        parts = [datasets.Dataset.from_file(file) for file in self._files]
        names = parts[0].column_names
        outer = outer_column(self._column, names)
        rows = datasets.concatenate_datasets([part.select_columns([outer]) for part in parts])
        return _undecoded(rows), outer, pixel_type(rows.features, self._column)


def _undecoded(rows: Any) -> Any:
    """Return rows that give images as they are stored."""
    import datasets

    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
        elif isinstance(feature, datasets.List) and isinstance(feature.feature, datasets.Image):
            rows = rows.cast_column(name, datasets.List(datasets.Image(decode=False)))
    return rows


def encoded_image(value: Any, pixels: str, roots: Sequence[Path]) -> bytes:
    """Return what a row has for an image as the bytes of an image file.

    Parameters
    ----------
    value : Any
        ``{"bytes": ..., "path": ...}``, bytes, a path, pixels, or a list of one of these.
    pixels : str
        The type of pixels, if it is pixels.
    roots : Sequence[Path]
        As of :class:`ArrowRows`.

    Raises
    ------
    DataError
        If there is none, or a file cannot be read.
    """
    if not pixels and isinstance(value, list):
        if len(value) > 1:
            raise DataError(f"has {len(value)} images, but a row must have one")
        value = value[0] if value else None
    if value is None:
        raise DataError("has no image")
    if pixels:
        return _picture(np.asarray(value, dtype=pixels))
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        value = path if data is None else data
    if not value:
        raise DataError("has no image")
    return bytes(value) if isinstance(value, bytes | bytearray) else _read(str(value), roots)


def _read(name: str, roots: Sequence[Path]) -> bytes:
    path = (roots[0] / name).resolve()
    # Only an absolute path may leave the data set's own folder.
    if not any(
        path.is_relative_to(root) for root in (roots if Path(name).is_absolute() else roots[:1])
    ):
        raise DataError("names a file outside the data set")
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"cannot be read ({reason})") from error


def _picture(pixels: NDArray[Any]) -> bytes:
    """Return pixels as a PNG, or, if they are deeper or have other bands than RGB, as a TIFF."""
    from PIL import Image

    if pixels.ndim == 3 and _bands_first(*pixels.shape):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if not pixels.size or pixels.ndim not in (2, 3):
        raise DataError(f"has pixels of shape {pixels.shape}: rows and columns are needed")
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)):
        return _tiff(pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis])
    picture = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(picture, format="PNG", compress_level=1)
    return picture.getvalue()


def _bands_first(first: int, middle: int, last: int) -> bool:
    """Whether three sides are those of bands, rows and columns: tiles are square, bands are few."""
    return first != middle and (middle == last or first < last)


def _tiff(pixels: NDArray[Any]) -> bytes:
    """Return bands ``(H, W, C)`` as a TIFF, none of them alpha."""
    require_rasterio()
    import rasterio.io  # type: ignore[import-untyped]
    from rasterio.errors import NotGeoreferencedWarning  # type: ignore[import-untyped]

    height, width, count = pixels.shape
    dtype = pixels.dtype
    if dtype.kind in "iu" and dtype.itemsize == 8:  # as lists of numbers have them
        dtype = np.dtype(np.uint16 if pixels.min() >= 0 and pixels.max() < 2**16 else np.int32)
    if dtype.kind == "f":
        dtype = np.dtype(np.float32)
    options = {"photometric": "minisblack", "alpha": "no", "interleave": "pixel"}
    with warnings.catch_warnings(), rasterio.io.MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            driver="GTiff", height=height, width=width, count=count, dtype=dtype, **options
        ) as file:
            file.write(np.moveaxis(pixels, -1, 0).astype(dtype))
        return bytes(memory.read())
