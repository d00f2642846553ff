"""Classes and probabilities as Cloud Optimized GeoTIFFs, written in blocks."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip.map.result import NO_DATA, MapResult

_BLOCK = 512
_SETTINGS = {"GDAL_PAM_ENABLED": "NO", "GDAL_CACHEMAX": 64, "GDAL_NUM_THREADS": 1}


def write_classes(path: Path, result: MapResult, crs: Any) -> None:
    """Write the classes as numbers with their colours, and their names in the tags.

    Parameters
    ----------
    path : Path
        The GeoTIFF.
    result : MapResult
        What is written.
    crs : rasterio.crs.CRS
        The scene's.
    """
    small = len(result.class_names) <= np.iinfo(np.uint8).max
    kind = np.uint8 if small else np.uint16
    nothing = int(np.iinfo(kind).max)
    numbers = np.where(result.classes == NO_DATA, nothing, result.classes).astype(kind)
    with _cog(path, result, crs, 1, kind, nothing, "MODE") as file:
        _write(file, numbers[..., None])
        if small:
            file.write_colormap(1, _colours(result.colours, nothing))
        file.update_tags(**_tags(result))
        file.update_tags(1, **{f"CLASS_{k}": name for k, name in enumerate(result.class_names)})
        file.set_band_description(1, "class")


def write_probabilities(
    path: Path, result: MapResult, crs: Any, all_classes: NDArray[np.float32] | None
) -> None:
    """Write the probability of each cell's class, or a band for each class.

    Parameters
    ----------
    path : Path
        The GeoTIFF.
    result : MapResult
        What is written.
    crs : rasterio.crs.CRS
        The scene's.
    all_classes : NDArray[np.float32] or None
        ``(rows, cols, n_cls)``; ``None``: the top one's alone.
    """
    bands = result.probability[..., None] if all_classes is None else all_classes
    names = ["probability of the class"] if all_classes is None else list(result.class_names)
    count = bands.shape[-1]
    with _cog(path, result, crs, count, np.float32, math.nan, "AVERAGE") as file:
        _write(file, bands)
        file.update_tags(**_tags(result))
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)


@contextmanager
def _cog(
    path: Path, result: MapResult, crs: Any, count: int, kind: Any, nodata: float, overview: str
) -> Iterator[Any]:
    """Yield a GeoTIFF to write in any order, of which a COG is made at the end."""
    import rasterio  # type: ignore[import-untyped]
    from affine import Affine
    from rasterio.shutil import copy  # type: ignore[import-untyped]

    plain = path.with_name(f"{path.name}.plain")
    rows, cols = result.classes.shape
    compression = {"compress": "deflate", "predictor": 3 if kind == np.float32 else 2}
    with rasterio.Env(**_SETTINGS):
        with rasterio.open(
            plain,
            "w",
            driver="GTiff",
            width=cols,
            height=rows,
            count=count,
            dtype=kind,
            crs=crs,
            transform=Affine(*(result.transform or ())),
            nodata=nodata,
            tiled=True,
            blockxsize=_BLOCK,
            blockysize=_BLOCK,
            interleave="band",
            bigtiff="if_safer",
            **compression,
        ) as file:
            yield file
        copy(
            plain,
            path,
            driver="COG",
            blocksize=_BLOCK,
            compress="DEFLATE",
            predictor="YES",
            overview_resampling=overview,
            bigtiff="IF_SAFER",
        )
    plain.unlink()


def _write(file: Any, numbers: NDArray[Any]) -> None:
    """Write ``(rows, cols, bands)``, some rows at a time."""
    from rasterio.windows import Window  # type: ignore[import-untyped]

    for top in range(0, len(numbers), _BLOCK):
        part = numbers[top : top + _BLOCK]
        window = Window(0, top, part.shape[1], part.shape[0])
        file.write(np.moveaxis(part, -1, 0), window=window)


def _colours(colours: Sequence[str], nothing: int) -> dict[int, tuple[int, int, int, int]]:
    table = {
        number: (int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16), 255)
        for number, c in enumerate(colours)
    }
    return table | {nothing: (0, 0, 0, 0)}


def _tags(result: MapResult) -> Mapping[str, str]:
    return {
        "CLASSES": json.dumps(list(result.class_names), ensure_ascii=False),
        "CLASSIFIER": result.classifier,
        "SCENE": result.title,
        **{name.upper().replace(" ", "_"): text for name, text in result.settings.items()},
    }
