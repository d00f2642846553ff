"""An unfinished map on disk: rows that are done, and what is needed to go on after them."""

import io
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.errors import DataError
from fedrsclip_core.runs.fileio import write_bytes

_STATE = "state.npz"
_SECONDS = 1.0
"""Between two saved states at least."""
_LISTED = 1000


class RowFile:
    """Rows of one shape and kind, appended to a file."""

    def __init__(self, path: Path, shape: tuple[int, ...], kind: Any) -> None:
        self.path, self._shape, self._kind = path, shape, np.dtype(kind)
        self._bytes = int(np.prod(shape)) * self._kind.itemsize
        self._file = path.open("ab", buffering=0)

    def append(self, rows: NDArray[Any]) -> None:
        """Write rows after the last."""
        data = np.ascontiguousarray(rows, self._kind).tobytes()
        if self._file.write(data) != len(data):
            raise OSError(28, os.strerror(28), str(self.path))

    def sync(self) -> None:
        """Let what was written survive a power cut."""
        os.fsync(self._file.fileno())

    def cut(self, rows: int) -> None:
        """Keep so many rows."""
        self._file.truncate(rows * self._bytes)

    @property
    def rows(self) -> int:
        """Whole rows that are there."""
        return int(self.path.stat().st_size // self._bytes)

    def read(self) -> NDArray[Any]:
        """Return all rows as they are on disk, which are read when they are looked at."""
        return np.memmap(self.path, self._kind, "r", shape=(self.rows, *self._shape))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass
class Progress:
    """How far a map is.

    Attributes
    ----------
    window_rows : int
        Rows of windows that are done.
    sums : NDArray[np.float64]
        ``(open rows, cols, n_cls)``, probabilities of cells that later windows cover, too.
    weights : NDArray[np.float64]
        ``(open rows, cols)``, by what these are to be divided.
    counts : dict of str to int
        Windows by what became of them: ``classified``, ``empty``, ``damaged``, ``unshown``.
    damaged : list of tuple of int
        Left and top pixel of the first windows that could not be read.
    unshown : str
        Why the first window was not shown.
    """

    window_rows: int
    sums: NDArray[np.float64]
    weights: NDArray[np.float64]
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("classified", "empty", "damaged", "unshown"), 0)
    )
    damaged: list[tuple[int, int]] = field(default_factory=list)
    unshown: str = ""

    def add_damaged(self, left: int, top: int) -> None:
        """Count a window that cannot be read."""
        self.counts["damaged"] += 1
        if len(self.damaged) < _LISTED:
            self.damaged.append((left, top))


@dataclass(frozen=True)
class Shape:
    """How large the arrays of a map are."""

    rows: int
    cols: int
    num_classes: int
    preview_width: int
    preview_bands: int


class Work:
    """The folder of an unfinished map.

    Parameters
    ----------
    folder : Path
        It exists.
    shape : Shape
        Of its arrays.
    all_probabilities : bool
        Whether those of all classes are kept.
    """

    def __init__(self, folder: Path, shape: Shape, *, all_probabilities: bool) -> None:
        self._folder, self._shape = folder, shape
        self._saved_at = time.monotonic()
        self.classes = RowFile(folder / "classes.bin", (shape.cols,), np.int32)
        self.probability = RowFile(folder / "probability.bin", (shape.cols,), np.float32)
        self.all = (
            RowFile(folder / "all.bin", (shape.cols, shape.num_classes), np.float32)
            if all_probabilities
            else None
        )
        size = (shape.preview_width, shape.preview_bands)
        self.preview = RowFile(folder / "preview.bin", size, np.float32)
        self.preview_data = RowFile(folder / "preview_data.bin", size[:1], np.bool_)

    @property
    def _files(self) -> list[RowFile]:
        cells = [self.classes, self.probability, *([self.all] if self.all else [])]
        return [*cells, self.preview, self.preview_data]

    def progress(self) -> Progress:
        """Return how far it was when its state was saved; the beginning if it never was.

        Raises
        ------
        DataError
            If the state is damaged.
        """
        file = self._folder / _STATE
        if not file.is_file():
            empty = np.zeros((0, self._shape.cols, self._shape.num_classes))
            self._cut(0)
            return Progress(0, empty, empty[..., 0])
        try:
            with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as saved:
                found = _from_arrays(saved)
                cell_rows = int(saved["cell_rows"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(
                f"what was done of this map is damaged ({file.name}) and removed: the same command "
                "starts again"
            ) from error
        if min(self.classes.rows, self.probability.rows) < cell_rows:
            raise DataError(
                "what was done of this map has lost rows and is removed: the same command starts "
                "again"
            )
        self._cut(cell_rows)
        return found

    def cut_preview(self, rows: int) -> None:
        """Keep so many rows of the preview."""
        self.preview.cut(rows)
        self.preview_data.cut(rows)

    def save(self, progress: Progress, *, at_once: bool = False) -> None:
        """Save how far it is, unless that was done a moment ago."""
        if not at_once and time.monotonic() - self._saved_at < _SECONDS:
            return
        for file in self._files:
            file.sync()
        content = io.BytesIO()
        np.savez(content, cell_rows=self.classes.rows, **_to_arrays(progress))
        write_bytes(self._folder / _STATE, content.getvalue())
        self._saved_at = time.monotonic()

    def close(self) -> None:
        """Close its files."""
        for file in self._files:
            file.close()

    def _cut(self, cell_rows: int) -> None:
        for file in (self.classes, self.probability, self.all):
            if file is not None:
                file.cut(cell_rows)


def _to_arrays(progress: Progress) -> dict[str, Any]:
    return {
        "window_rows": progress.window_rows,
        "sums": progress.sums,
        "weights": progress.weights,
        "counts": np.array(list(progress.counts.values()), np.int64),
        "damaged": np.array(progress.damaged, np.int64).reshape(-1, 2),
        "unshown": np.array(progress.unshown),
    }


def _from_arrays(saved: Mapping[str, Any]) -> Progress:
    progress = Progress(int(saved["window_rows"]), saved["sums"], saved["weights"])
    progress.counts.update(zip(progress.counts, (int(n) for n in saved["counts"]), strict=True))
    progress.damaged = [(int(x), int(y)) for x, y in saved["damaged"]]
    progress.unshown = str(saved["unshown"])
    return progress
