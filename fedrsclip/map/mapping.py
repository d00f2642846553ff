"""Make the map of a scene: classified, counted, drawn and written."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip.classifier.scene_classifier import BATCH_SIZE, SceneClassifier
from fedrsclip.map import folder
from fedrsclip.map.classify import UNREADABLE, OnWindows, classify
from fedrsclip.map.colours import class_colours
from fedrsclip.map.grid import Grid
from fedrsclip.map.outputs.areas import Area, area_of
from fedrsclip.map.result import NO_DATA, MapResult
from fedrsclip.map.scene import Scene, open_scene
from fedrsclip.map.settings import OVERLAP, windows
from fedrsclip.map.work import Progress, Shape, Work
from fedrsclip_core.config.reading import Reading
from fedrsclip_core.data.imagery.stretch import is_found_in_each, stretched
from fedrsclip_core.errors import DataError
from fedrsclip_core.printable import printable
from fedrsclip_core.runs.fileio import sha256_of

_MOST_CELLS = 2**24
_FORMAT = 1


@dataclass(frozen=True)
class Job:
    """A map that can be made.

    Attributes
    ----------
    classifier : SceneClassifier
        Its reading is the scene's.
    scene : Scene
        It is open.
    grid : Grid
        Windows and cells.
    overlap : str
        Of the windows, as it was given.
    all_probabilities : bool
        Whether those of all classes are written.
    """

    classifier: SceneClassifier
    scene: Scene
    grid: Grid
    overlap: str
    all_probabilities: bool

    @property
    def key(self) -> str:
        """What another scene, classifier or setting makes another one of."""
        settings = (_FORMAT, self.grid, self.all_probabilities)
        return sha256_of(self.scene.identity, self.classifier.digest, repr(settings))

    @property
    def num_windows(self) -> int:
        """Windows of the scene, those without data included."""
        return len(self.grid.tops) * len(self.grid.lefts)


@dataclass(frozen=True)
class Mapped:
    """A map, and what became of its scene.

    Attributes
    ----------
    result : MapResult
        The map.
    progress : Progress
        What became of the windows.
    areas : list of Area
        Of each class.
    no_data, unreadable : Area
        Of what has none: for want of data, and because no window there could be classified.
    cells_km2 : NDArray[np.float32]
        ``(rows, cols)``, each cell's area.
    all_classes : NDArray[np.float32] or None
        ``(rows, cols, n_cls)``, all probabilities, on disk, if they are wanted.
    """

    result: MapResult
    progress: Progress
    areas: list[Area]
    no_data: Area
    unreadable: Area
    cells_km2: NDArray[np.float32]
    all_classes: NDArray[np.float32] | None


def predict_scene(
    classifier: SceneClassifier,
    scene: str | Path,
    out: str | Path | None = None,
    *,
    tile: int | str | None = None,
    overlap: float = OVERLAP,
    batch_size: int = BATCH_SIZE,
) -> MapResult:
    """Classify a georeferenced scene of any size, window by window.

    Parameters
    ----------
    classifier : SceneClassifier
        What classifies; its reading says which bands are seen and how they are stretched.
    scene : str or Path
        A GeoTIFF, COG, JPEG 2000 or VRT that says where on earth it is.
    out : str or Path or None
        A new folder for the files that ``fedrsclip map`` writes; by default none is written. What
        was interrupted is resumed by the same call.
    tile : int or str or None
        A window's side: pixels, or metres as ``"120m"``; by default what the image tower takes.
    overlap : float
        The share of a window that the next one also sees, 1 - 1/k for a whole k.
    batch_size : int
        Windows that are encoded at once.

    Returns
    -------
    MapResult
        Classes and probabilities by cell, and areas.

    Raises
    ------
    DataError
        If there is no such scene, it cannot be read as the classifier's images are, is smaller
        than a window, does not say where it is, or ``out`` holds something.
    ConfigError
        If ``tile`` or ``overlap`` means nothing.
    """
    with open_job(classifier, scene, tile=tile, overlap=overlap) as job:
        if out is None:
            with tempfile.TemporaryDirectory(prefix="fedrsclip-map-") as name:
                return _mapped(job, Path(name), batch_size, lambda count: None).result
        place = folder.checked_out(out)
        if folder.is_complete(place, job.key):
            raise DataError(f"{place} holds this map already: read it there, or choose another out")
        return make(job, place, batch_size=batch_size).result


@contextmanager
def open_job(
    classifier: SceneClassifier,
    scene: str | Path,
    *,
    tile: int | str | None = None,
    overlap: float | str = OVERLAP,
    all_probabilities: bool = False,
    reading: Reading | None = None,
) -> Iterator[Job]:
    """Open a scene and say how it is mapped; raises as :func:`predict_scene`.

    Parameters
    ----------
    classifier, scene, tile, overlap
        As there.
    all_probabilities : bool
        Whether those of all classes are written.
    reading : Reading or None
        How this scene becomes RGB, if not as the classifier's images do.
    """
    if reading is not None:
        classifier = copy(classifier)
        classifier.reading = reading
    with open_scene(scene, classifier.reading) as opened:
        file, height, width = opened.file, opened.height, opened.width
        chosen = windows(tile, overlap, classifier.encoder.side, opened.pixel_metres)
        if chosen.tile > min(height, width):
            raise DataError(
                f"{file} has {width} x {height} pixels, less than a window of {chosen.tile}: give "
                "a smaller tile, or more of the scene"
            )
        grid = Grid(height, width, chosen.tile, chosen.step)
        if grid.rows * grid.cols > _MOST_CELLS:
            raise DataError(
                f"{file} would have {grid.rows} x {grid.cols} cells, more than {_MOST_CELLS}: give "
                "a larger tile or less overlap, or cut the scene"
            )
        yield Job(classifier, opened, grid, f"{float(overlap):g}", all_probabilities)


def make(
    job: Job,
    out: Path,
    *,
    batch_size: int = BATCH_SIZE,
    on_windows: OnWindows = lambda count: None,
) -> Mapped:
    """Make a map in a folder, or resume it; files appear there when all of them are written.

    Parameters
    ----------
    job : Job
        What to do.
    out : Path
        A new folder, or one in which this map was begun.
    batch_size : int
        Windows that are encoded at once.
    on_windows : Callable[[int], None]
        Is told how many windows are done.

    Raises
    ------
    DataError
        If the scene cannot be read as it should, or another process works in the folder.
    """
    from fedrsclip.map.outputs.files import write_all

    with folder.working(out, job.key) as partial:
        mapped = _mapped(job, partial, batch_size, on_windows)
        write_all(folder.fresh(partial / "made"), job, mapped)
        folder.finish(out, partial, partial / "made")
    return mapped


def _mapped(job: Job, place: Path, batch_size: int, on_windows: OnWindows) -> Mapped:
    """Classify what is not yet, and gather what is."""
    grid, scene = job.grid, job.scene
    shape = Shape(
        grid.rows,
        grid.cols,
        len(job.classifier.class_names),
        scene.preview.width,
        scene.num_bands,
    )
    work = Work(place, shape, all_probabilities=job.all_probabilities)
    try:
        progress = classify(
            job.classifier, scene, grid, work, batch_size=batch_size, on_windows=on_windows
        )
    finally:
        work.close()
    classes = np.array(work.classes.read())
    km2 = scene.ground.cell_areas(grid)
    unreadable, no_data = (area_of(classes, km2, kind) for kind in (UNREADABLE, NO_DATA))
    areas = [area_of(classes, km2, k) for k in range(shape.num_classes)]
    classes[classes == UNREADABLE] = NO_DATA
    result = _result(job, work, classes, areas)
    every = None if work.all is None else work.all.read()
    return Mapped(result, progress, areas, no_data, unreadable, km2, every)


def _result(job: Job, work: Work, classes: NDArray[np.int32], areas: list[Area]) -> MapResult:
    grid, scene, ground = job.grid, job.scene, job.scene.ground
    t, step = ground.transform, grid.step
    corners = ground.coordinates(
        step * np.array([0.0, grid.cols, grid.cols, 0.0]),
        step * np.array([0.0, 0.0, grid.rows, grid.rows]),
    )
    (left, right), (bottom, top) = ((float(one.min()), float(one.max())) for one in corners)
    data = np.array(work.preview_data.read())
    return MapResult(
        title=printable(scene.file.name),
        class_names=job.classifier.class_names,
        colours=class_colours(len(job.classifier.class_names)),
        classes=classes,
        probability=np.array(work.probability.read()),
        cell_size=(step * float(np.hypot(t.a, t.d)), step * float(np.hypot(t.b, t.e))),
        crs=ground.crs_name,
        bounds=(left, bottom, right, top),
        areas_km2=[area.km2 for area in areas],
        scene=_seen(np.array(work.preview.read()), data, job.classifier.reading),
        scene_valid=data,
        classifier=job.classifier.describe(),
        settings=_settings(job),
        scene_cells=(grid.width / step, grid.height / step),
        metres_across=ground.metres_across(grid.height, grid.width),
        transform=(step * t.a, step * t.b, t.c, step * t.d, step * t.e, t.f),
    )


def _seen(
    numbers: NDArray[np.float32], data: NDArray[np.bool_], reading: Reading
) -> NDArray[np.uint8]:
    """Return the scene as a picture ``(h, w, 3)``; of one range where each window has its own."""
    if is_found_in_each(reading):
        bands = [(numbers[..., k], data) for k in range(numbers.shape[-1])]
        try:
            shown = stretched(bands, reading)
        except DataError:  # one number everywhere
            shown = np.zeros(numbers.shape, np.uint8)
    else:
        shown = np.rint(numbers).astype(np.uint8)
    return np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown


def _settings(job: Job) -> dict[str, Any]:
    grid = job.grid
    metres = grid.tile * job.scene.pixel_metres
    return {
        "window": f"{grid.tile} px, {metres:.4g} m",
        "overlap": job.overlap,
        "windows": f"{job.num_windows}",
        "reading": str(job.classifier.reading) or "as stored",
    }
