"""A benchmark as its folder shows it at one moment."""

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrsclip.bench.estimates import Kind, expected_seconds
from fedrsclip.bench.names import run_name
from fedrsclip.watch.run import COMPLETED, FAILED, GOING_ON
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import run_folder as runs
from fedrsclip_core.runs.units import duration

BEGUN = "begun"
WAITING = "waiting"
INCOMPLETE = "incomplete"

_COLUMNS = {"setting", "method", "variant", "seed"}


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
        ``GOING_ON``, ``COMPLETED`` or ``INCOMPLETE``.
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
        return self.state != GOING_ON

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

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Both lie below one FEDRSCLIP_HOME, which need not be the one of this process.
        self._runs = folder.parent.parent / "runs"

    def look(self) -> BenchView:
        """Return the benchmark as it is now."""
        # Asked first: what is written at the end is there once nobody holds it.
        held = runs.is_held(self._folder)
        problems: list[str] = []
        cells = [self._cell(row) for row in self._rows(problems) if _is_cell(row)]
        completed = bool(cells) and all(cell.state == COMPLETED for cell in cells)
        ended = COMPLETED if completed else INCOMPLETE
        state = GOING_ON if held else ended
        return BenchView(self._folder.name, self._folder, state, cells, problems)

    def _rows(self, problems: list[str]) -> list[dict[str, str]]:
        try:
            text = (self._folder / "results.csv").read_text(encoding="utf-8")
            reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            found = list(reader)
        except FileNotFoundError:
            return []
        except (csv.Error, UnicodeDecodeError):
            found, reader = [], csv.DictReader(())
        whole = [row for row in found if None not in row and None not in row.values()]
        if not set(reader.fieldnames or ()) >= _COLUMNS:
            whole = []
        if not whole or len(whole) < len(found):
            problems.append("results.csv is damaged: cells are missing here")
        return whole

    def _cell(self, row: Mapping[str, str]) -> Cell:
        name = run_name(
            self._folder.name, row["setting"], row["method"], row["variant"], row["seed"]
        )
        kind = row["setting"], f"{row['method']} {row['variant']}"
        if row.get("code_digest"):
            seconds = row.get("seconds") or "?"
            return Cell(name, COMPLETED, kind, f"{seconds} s", _number(seconds))
        return _unfinished(self._runs / name, kind)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_cell(row: Mapping[str, str]) -> bool:
    """Whether a row is of a run; a linear probe has figures without one."""
    return bool(row.get("code_digest")) or not row.get("test_global")


def _unfinished(folder: Path, kind: Kind) -> Cell:
    try:
        results = runs.read_object(folder / "results.json")
    except RunError as error:
        return Cell(folder.name, FAILED, kind, str(error))
    if results is not None and results.get("status") != COMPLETED:
        return Cell(folder.name, FAILED, kind, str(results.get("reason")))
    files = [folder / name for name in ("run.json", "metrics.jsonl")]
    times = [path.stat().st_mtime for path in files if path.is_file()]
    if not times:
        return Cell(folder.name, WAITING, kind)
    now = time.time()
    said = f"last heard of {duration(now - max(times))} ago"
    return Cell(folder.name, BEGUN, kind, said, now - min(times))
