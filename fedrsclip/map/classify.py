"""Windows become cells: classified in batches, blended, written when no window is left."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrsclip.classifier.scene_classifier import SceneClassifier
from fedrsclip.classifier.stream import classified
from fedrsclip.map.grid import Grid
from fedrsclip.map.result import NO_DATA
from fedrsclip.map.scene import Pixels, Scene, joined, picture
from fedrsclip.map.work import Progress, Work
from fedrsclip_core.config.reading import AS_THEY_ARE
from fedrsclip_core.errors import DataError

UNREADABLE = -2
"""The class of cells that have data, but no window that could be classified."""

_BATCHES = 32
"""Batches at least from one state that can be resumed to the next: there a thread or two wait."""

OnWindows = Callable[[int], None]
"""Is told how many windows are done."""


@dataclass(frozen=True)
class Window:
    """A window that is to be classified.

    Attributes
    ----------
    pixels : Pixels
        What is in it.
    rows, cols : slice
        The cells that it covers.
    weight : float
        The share of its pixels that have data.
    """

    pixels: Pixels
    rows: slice
    cols: slice
    weight: float


@dataclass(frozen=True)
class _Row:
    """A row of windows: its number, the pixels of its whole width, and its cells that count."""

    number: int
    pixels: Pixels
    cells: slice
    counted: NDArray[np.bool_]
    """``(cells, cols)``, where at least half of a cell has data or is damaged."""


def classify(
    classifier: SceneClassifier,
    scene: Scene,
    grid: Grid,
    work: Work,
    *,
    batch_size: int,
    on_windows: OnWindows,
) -> Progress:
    """Classify all windows of a scene that are not yet.

    The batches are those of an uninterrupted map, so that a resumed one is the same in all bits.

    Parameters
    ----------
    classifier : SceneClassifier
        Its reading is the scene's.
    scene : Scene
        Opened with that reading.
    grid : Grid
        Where its windows lie.
    work : Work
        Where finished rows go.
    batch_size : int
        Windows that are encoded at once.
    on_windows : Callable[[int], None]
        Is told how many windows are done, those of earlier attempts included.

    Returns
    -------
    Progress
        What became of the windows.

    Raises
    ------
    DataError
        If the reading does not fit the scene, or none of its windows could be classified.
    """
    progress = work.progress()
    reading = classifier.reading
    # Windows are stretched already.
    seeing = copy(classifier)
    seeing.reading = AS_THEY_ARE
    rows = _rows(scene, grid, work, progress.window_rows)
    size = max(1, -(-_BATCHES * batch_size // len(grid.lefts)))
    for first in range(progress.window_rows, len(grid.tops), size):
        end = min(first + size, len(grid.tops))
        blend = _Blend(grid, first, end, progress, len(classifier.class_names))
        windows = _windows(rows, end, grid, blend, progress)
        for window, found in classified(
            seeing, windows, lambda w: picture(w.pixels, reading), batch_size=batch_size
        ):
            if isinstance(found, DataError):
                progress.counts["unshown"] += 1
                progress.unshown = progress.unshown or str(found)
                continue
            progress.counts["classified"] += 1
            blend.add(window, found)
            if progress.counts["classified"] % batch_size == 0:
                on_windows(sum(progress.counts.values()))
        blend.write(work, progress)
        progress.window_rows = end
        work.save(progress, at_once=end == len(grid.tops))
        on_windows(sum(progress.counts.values()))
    if not progress.counts["classified"]:
        raise DataError(f"{scene.file}: {_why_nothing(progress)}")
    return progress


def _why_nothing(progress: Progress) -> str:
    if progress.unshown:
        return f"no window of it can be classified ({progress.unshown})"
    return "it cannot be read anywhere" if progress.counts["damaged"] else "it has no data anywhere"


def _rows(scene: Scene, grid: Grid, work: Work, first: int) -> Iterator[_Row]:
    """Yield rows of windows with their pixels, each strip of the scene read once."""
    if first == len(grid.tops):
        return
    strips = scene.strips(grid.tops[first])
    held: list[tuple[int, Pixels]] = []
    reached = 0
    for number in range(first, len(grid.tops)):
        top = grid.tops[number]
        while reached < top + grid.tile:
            above, pixels, preview = next(strips)
            if not held:
                work.cut_preview(scene.preview.rows_before(above))
            work.preview.append(preview.numbers)
            work.preview_data.append(preview.data)
            held.append((above, pixels))
            reached = above + len(pixels.data)
        held = [(above, one) for above, one in held if above + len(one.data) > top]
        parts = [
            one.cut(slice(max(0, top - above), max(0, top + grid.tile - above)))
            for above, one in held
        ]
        cells = grid.cells(top, grid.height)
        pixels = joined(parts)
        yield _Row(number, pixels, cells, _counted(pixels, grid, top, cells))


def _counted(pixels: Pixels, grid: Grid, top: int, cells: slice) -> NDArray[np.bool_]:
    """Return which of the cells of a row of windows have data in half of their pixels."""
    shape = cells.stop - cells.start, grid.cols
    known = pixels.data | pixels.damaged
    if known.all():
        return np.ones(shape, bool)
    first = cells.start * grid.step - top
    ys = np.arange(shape[0]) * grid.step + first
    xs = np.arange(shape[1]) * grid.step
    inside = np.add.reduceat(known[: min(len(known), ys[-1] + grid.step)], xs, axis=1, dtype=int)
    count = np.add.reduceat(inside, ys, axis=0)  # (cells, cols)
    heights = np.minimum(grid.step, len(known) - ys)
    widths = np.minimum(grid.step, grid.width - xs)
    return np.asarray(2 * count >= np.outer(heights, widths))


def _windows(
    rows: Iterator[_Row], end: int, grid: Grid, blend: "_Blend", progress: Progress
) -> Iterator[Window]:
    """Yield the windows that are to be classified, of rows before ``end``."""
    tile, columns = grid.tile, [grid.cells(left, grid.width) for left in grid.lefts]
    for row in rows:
        blend.count(row)
        shares = _sums_beside(row.pixels.data, grid) / tile**2
        damaged = _sums_beside(row.pixels.damaged, grid)
        for k, (left, cols) in enumerate(zip(grid.lefts, columns, strict=True)):
            if damaged[k]:
                progress.add_damaged(left, grid.tops[row.number])
            elif not shares[k] or not row.counted[:, cols].any():
                progress.counts["empty"] += 1
            else:
                pixels = row.pixels.cut(slice(None), slice(left, left + tile))
                yield Window(pixels, row.cells, cols, float(shares[k]))
        if row.number == end - 1:
            return


def _sums_beside(marked: NDArray[np.bool_], grid: Grid) -> NDArray[np.int_]:
    """Return how many pixels are marked in each window of a row."""
    before = np.concatenate([[0], np.cumsum(marked.sum(axis=0))])
    lefts = np.array(grid.lefts)
    return np.asarray(before[lefts + grid.tile] - before[lefts])


class _Blend:
    """Cells of some rows of windows, and those that earlier rows have begun.

    Parameters
    ----------
    grid : Grid
        Where windows lie.
    first, end : int
        The rows of windows.
    progress : Progress
        What earlier rows have begun.
    num_classes : int
        Classes.
    """

    def __init__(self, grid: Grid, first: int, end: int, progress: Progress, num_classes: int):
        self._start = grid.cells(grid.tops[first], grid.height).start
        stop = grid.cells(grid.tops[end - 1], grid.height).stop
        last = end == len(grid.tops)
        finished = stop if last else grid.cells(grid.tops[end], grid.height).start
        self._finished = finished - self._start
        self._sums = np.zeros((stop - self._start, grid.cols, num_classes))
        self._weights = np.zeros(self._sums.shape[:2])
        self._counted = np.zeros(self._sums.shape[:2], bool)
        begun = len(progress.sums)
        self._sums[:begun], self._weights[:begun] = progress.sums, progress.weights

    def count(self, row: _Row) -> None:
        """Note which of a row's cells count."""
        self._counted[row.cells.start - self._start : row.cells.stop - self._start] = row.counted

    def add(self, window: Window, probabilities: NDArray[np.float32]) -> None:
        """Add the probabilities ``(n_cls,)`` of a window to its cells."""
        rows = slice(window.rows.start - self._start, window.rows.stop - self._start)
        self._sums[rows, window.cols] += window.weight * probabilities.astype(np.float64)
        self._weights[rows, window.cols] += window.weight

    def write(self, work: Work, progress: Progress) -> None:
        """Write the rows that no later window covers, and hand the others on."""
        n = self._finished
        weights, counted = self._weights[:n], self._counted[:n]
        mean = np.divide(self._sums[:n], np.maximum(weights, np.finfo(float).tiny)[..., None])
        known = counted & (weights > 0)
        classes = np.where(known, mean.argmax(axis=-1), np.where(counted, UNREADABLE, NO_DATA))
        work.classes.append(classes)
        work.probability.append(np.where(known, mean.max(axis=-1), np.nan))
        if work.all is not None:
            work.all.append(np.where(known[..., None], mean, np.nan))
        progress.sums, progress.weights = self._sums[n:].copy(), self._weights[n:].copy()


def windows_of(grid: Grid) -> int:
    """Return how many windows a scene has."""
    return len(grid.tops) * len(grid.lefts)
