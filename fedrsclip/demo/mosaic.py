"""A georeferenced scene of the demo's classes in contiguous regions, and what is where in it.

``fedrsclip data mosaic`` writes it; ``python -m fedrsclip.demo.mosaic MAP/classes.tif TRUTH.tif``
says how right a map of it is.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip.map.colours import class_colours
from fedrsclip_core.data.imagery.raster import require_rasterio
from fedrsclip_core.demo.canvas import SIZE
from fedrsclip_core.demo.rng import named_generator
from fedrsclip_core.demo.scenes import CLASS_NAMES, render
from fedrsclip_core.errors import DataError

CRS = "EPSG:32632"
METRES = 1.0
"""Of a pixel."""
_LEFT, _TOP = 600_000.0, 5_600_000.0
"""The place is as made up as the scene."""
_DOMAIN = 0
"""The client whose season, sensor, haze and resolution the scene shows."""
_FIRST = 1_000_000
"""Number of a class's first scene: no federation trains on so many."""
_TILES_PER_REGION, _MOST_REGIONS = 12, 480
_TILED = {"tiled": True, "blockxsize": 256, "blockysize": 256, "photometric": "RGB"}
_FINE = 16
"""Parts of a tile in which places are drawn: whole numbers, equal on every machine."""


def truth_of(scene: Path) -> Path:
    """Return where the truth of a scene is written: beside it."""
    return scene.with_name(f"{scene.stem}_truth.tif")


def write_mosaic(scene: Path, tiles: int, seed: int) -> Path:
    """Write a scene of ``tiles`` x ``tiles`` generated ones, and beside it which class is where.

    Both are GeoTIFFs: the scene of 8-bit RGB, 64 pixels of a metre to a tile; the truth of a pixel
    for each tile, numbers of ``CLASS_NAMES`` with their names and colours.

    Returns
    -------
    Path
        The truth's file.

    Raises
    ------
    DataError
        If rasterio is missing or one of the files is there.
    """
    require_rasterio()
    truth = truth_of(scene)
    for path in (scene, truth):
        if path.exists():
            raise DataError(f"{path} is there already: choose another name, or remove it")
    scene.parent.mkdir(parents=True, exist_ok=True)
    classes = regions(tiles, seed)
    side = tiles * SIZE
    with (
        _whole(truth, tiles, METRES * SIZE, count=1, nodata=len(CLASS_NAMES)) as known,
        _whole(scene, side, METRES, count=3, predictor=2, **_TILED) as target,
    ):
        known.write(classes.astype(np.uint8), 1)
        known.write_colormap(1, _colour_table())
        known.update_tags(1, **{f"CLASS_{k}": name for k, name in enumerate(CLASS_NAMES)})
        painted = dict.fromkeys(range(len(CLASS_NAMES)), _FIRST)
        for number, row in enumerate(classes):
            strip = np.concatenate([_paint(int(k), painted, seed) for k in row], axis=1)
            rows = (number * SIZE, (number + 1) * SIZE)
            target.write(strip.transpose(2, 0, 1), window=(rows, (0, side)))
    return truth


def regions(tiles: int, seed: int) -> NDArray[np.int64]:
    """Return the class of each tile ``(tiles, tiles)``, in contiguous regions.

    A tile is of the region whose drawn place is nearest; regions take all classes in turn.
    """
    rng = named_generator("mosaic", seed, tiles)
    count = min(max(1, tiles * tiles // _TILES_PER_REGION), _MOST_REGIONS)
    places = rng.integers(tiles * _FINE, size=(count, 2))
    order = [rng.permutation(len(CLASS_NAMES)) for _ in range(-(-count // len(CLASS_NAMES)))]
    middles = np.arange(tiles) * _FINE + _FINE // 2
    columns = (middles[:, None] - places[:, 1]) ** 2  # (tiles, count)
    nearest = [((row - places[:, 0]) ** 2 + columns).argmin(axis=-1) for row in middles]
    return np.asarray(np.concatenate(order)[np.stack(nearest)])


def accuracy(classes: Path, truth: Path) -> tuple[int, int]:
    """Return how many cells of a map lie in a tile of their class, and how many have a class.

    Classes are the same if their names are, as both files tell them.

    Parameters
    ----------
    classes : Path
        ``classes.tif`` of a map of the scene.
    truth : Path
        What :func:`write_mosaic` returned.
    """
    import rasterio  # type: ignore[import-untyped]
    from rasterio.transform import rowcol, xy  # type: ignore[import-untyped]

    with rasterio.open(truth) as known, rasterio.open(classes) as mapped:
        found = mapped.read(1)
        rows, columns = np.indices(found.shape)
        x, y = xy(mapped.transform, rows.ravel(), columns.ravel())
        row, column = (np.reshape(of, found.shape) for of in rowcol(known.transform, x, y))
        inside = (row < known.height) & (column < known.width) & (found != mapped.nodata)
        there = known.read(1)[row[inside], column[inside]]
        named, truly = (_names(file)[of] for file, of in ((mapped, found[inside]), (known, there)))
        return int(np.count_nonzero(named == truly)), int(np.count_nonzero(inside))


def main(arguments: Sequence[str] | None = None) -> None:
    """Say how many cells of a map are what is there."""
    parser = argparse.ArgumentParser(description="Compare a map of a mosaic with its truth.")
    parser.add_argument("classes", type=Path, help="classes.tif of the map")
    parser.add_argument("truth", type=Path, help="<name>_truth.tif beside the scene")
    args = parser.parse_args(arguments)
    right, cells = accuracy(args.classes, args.truth)
    print(f"{right} of {cells} cells are what is there: {100 * right / max(1, cells):.1f} %")


def _paint(number: int, painted: dict[int, int], seed: int) -> NDArray[np.uint8]:
    """Return the next scene of a class ``(64, 64, 3)``."""
    painted[number] += 1
    return render(number, painted[number] - 1, seed=seed, domain=_DOMAIN)


def _names(raster: Any) -> NDArray[np.object_]:
    """Return the class of each number of an 8-bit raster, ``None`` where it tells none."""
    tags = raster.tags(1)
    return np.array([tags.get(f"CLASS_{k}") for k in range(256)], dtype=object)


def _colour_table() -> dict[int, tuple[int, int, int]]:
    from PIL.ImageColor import getrgb

    colours = class_colours(len(CLASS_NAMES))
    return {k: getrgb(colour)[:3] for k, colour in enumerate(colours)}


@contextmanager
def _whole(path: Path, side: int, metres: float, **profile: Any) -> Iterator[Any]:
    """Open a square GeoTIFF to write, which is whole or absent."""
    import rasterio

    temporary = path.with_name(f".{path.name}.tmp")
    size = {"width": side, "height": side, "dtype": "uint8", "compress": "deflate"}
    place = {"crs": CRS, "transform": rasterio.Affine(metres, 0, _LEFT, 0, -metres, _TOP)}
    try:
        with rasterio.open(temporary, "w", driver="GTiff", **size, **place, **profile) as target:
            yield target
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
