"""What is watched as lines of text, for a pipe or a file: each thing once, when it is known."""

from collections.abc import Iterator

from fedrsclip.watch import figures
from fedrsclip.watch.bench import BenchView
from fedrsclip.watch.run import RunView
from fedrsclip.watch.words import bench_title, run_title
from fedrsclip_core.runs.lines import round_line
from fedrsclip_core.runs.records import RoundRecord
from fedrsclip_core.runs.run_folder import COMPLETED, FAILED
from fedrsclip_core.runs.units import duration


class RunLines:
    """Says what is new of a run since the last look."""

    def __init__(self) -> None:
        self._shown = 0
        self._said: set[str] = set()
        self._warned = False

    def of(self, view: RunView) -> Iterator[str]:
        """Yield a line per new round, and one for each new problem."""
        yield from self._once(f"{run_title(view)} ({view.folder})")
        for problem in view.problems:
            yield from self._once(problem)
        # A run that goes on at its checkpoint repeats the rounds after that.
        fresh = view.rounds[min(self._shown, len(view.rounds)) :]
        self._shown = len(view.rounds)
        for one in fresh:
            left = view.seconds_left if one is view.rounds[-1] and not view.ended else None
            yield _line(one, left)
        if view.warning and not self._warned:
            yield view.warning
        self._warned = bool(view.warning)

    def _once(self, line: str) -> Iterator[str]:
        if line not in self._said:
            self._said.add(line)
            yield line


class BenchLines:
    """Says what is new of a benchmark since the last look."""

    def __init__(self) -> None:
        self._ended: set[tuple[str, str]] = set()
        self._problems: tuple[str, ...] | None = None

    def of(self, view: BenchView) -> Iterator[str]:
        """Yield a line per cell that has ended, and one for each new problem."""
        if self._problems is None:
            yield f"{bench_title(view)} ({view.folder})"
            # Those before the watch are counted in that line.
            self._ended = {(cell.name, cell.state) for cell in view.cells}
        if tuple(view.problems) != self._problems:
            yield from view.problems
            self._problems = tuple(view.problems)
        for cell in (*view.of(COMPLETED), *view.of(FAILED)):
            if (cell.name, cell.state) not in self._ended:
                self._ended.add((cell.name, cell.state))
                done = f"[{view.steps}/{len(view.cells)}] {cell.name}: {cell.state}, {cell.said}"
                yield done + _left(view.seconds_left)


def _line(one: RoundRecord, left: float | None) -> str:
    lost = figures.lost_now(one)
    parts = [round_line(one), *([f"dropped: {lost}"] if lost else [])]
    return " | ".join(parts) + _left(left, " | ")


def _left(seconds: float | None, before: str = ", ") -> str:
    return f"{before}about {duration(seconds)} left" if seconds else ""
