"""A benchmark as its folder shows it at one moment."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrsclip.bench.folder import BenchFolder, CsvRow, is_cell, is_completed
from fedrsclip.bench.progress import Kind, expected_seconds
from fedrsclip_core.runs.run_folder import COMPLETED, FAILED, RUNNING, RunFolder
from fedrsclip_core.runs.units import duration

BEGUN = "begun"
WAITING = "waiting"
INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class Cell:
    """A cell of the grid.

    Attributes
    ----------
    name : str
        The name of its run.
    state : str
        ``COMPLETED``, ``FAILED``, ``BEGUN`` or ``WAITING``.
    kind : Kind
        Which cells are like it.
    said : str
        Its seconds, why it failed, or when it was last heard of.
    seconds : float or None
        How long it took; of a cell that has begun, how long it has taken so far, if known.
    """

    name: str
    state: str
    kind: Kind
    said: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class BenchView:
    """What is known of a benchmark.

    Attributes
    ----------
    name, folder : str, Path
        The benchmark.
    state : str
        ``RUNNING``, ``COMPLETED`` or ``INCOMPLETE``.
    cells : Sequence[Cell]
        In the order of the grid.
    problems : Sequence[str]
        A sentence for each file that is missing or damaged.
    """

    name: str
    folder: Path
    state: str
    cells: Sequence[Cell]
    problems: Sequence[str]

    @property
    def ended(self) -> bool:
        """Whether no process works on it any more."""
        return self.state != RUNNING

    @property
    def status(self) -> int:
        """The exit status: 0 if every cell is completed."""
        return 0 if self.state == COMPLETED else 1

    @property
    def steps(self) -> int:
        """Cells that are there to be reported."""
        return len(self.of(COMPLETED))

    @property
    def seconds_left(self) -> float | None:
        """Estimate the seconds until all cells have ended, as many at a time as have begun."""
        taken: dict[Kind, list[float]] = {}
        for cell in self.of(COMPLETED):
            if cell.seconds is not None:
                taken.setdefault(cell.kind, []).append(cell.seconds)
        begun = self.of(BEGUN)
        if self.ended or not taken or not begun:
            return None
        left = 0.0
        for cell in (*begun, *self.of(WAITING)):
            whole = expected_seconds(taken, cell.kind) or 0.0
            left += max(0.0, whole - (cell.seconds or 0.0))
        return left / len(begun)

    def of(self, state: str) -> list[Cell]:
        """Return the cells in one state."""
        return [cell for cell in self.cells if cell.state == state]


class BenchWatch:
    """Looks at a benchmark's folder again and again, without a trace there."""

    def __init__(self, path: Path) -> None:
        self._folder = BenchFolder(path)

    def look(self) -> BenchView:
        """Return the benchmark as it is now."""
        folder = self._folder
        # Asked first: what is written at the end is there once nobody holds it.
        held, found = folder.is_held(), folder.rows()
        cells = [self._cell(row) for row in found.rows if is_cell(row)]
        completed = bool(cells) and all(cell.state == COMPLETED for cell in cells)
        ended = COMPLETED if completed else INCOMPLETE
        problems = [f"results.csv {found.damage}: cells are missing here"] if found.damage else []
        return BenchView(folder.name, folder.path, RUNNING if held else ended, cells, problems)

    def _cell(self, row: CsvRow) -> Cell:
        run = self._folder.run_of(row)
        kind = row["setting"], f"{row['method']} {row['variant']}"
        if is_completed(row):
            seconds = row.get("seconds") or "?"
            return Cell(run.name, COMPLETED, kind, f"{seconds} s", _number(seconds))
        return _unfinished(run, kind)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _unfinished(folder: RunFolder, kind: Kind) -> Cell:
    state, written = folder.state(), folder.written()
    # A cell that was interrupted is run again as long as the benchmark is running.
    if state.word == FAILED:
        return Cell(folder.name, FAILED, kind, state.reason)
    if written is None:
        return Cell(folder.name, WAITING, kind)
    first, last = written
    now = time.time()
    return Cell(folder.name, BEGUN, kind, f"last heard of {duration(now - last)} ago", now - first)
