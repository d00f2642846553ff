"""What is watched, for a person: as a picture of now, or as a line for each thing that is new."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedrsclip.watch import figures
from fedrsclip.watch.bench import BEGUN, WAITING, BenchView
from fedrsclip.watch.run import RunView
from fedrsclip_core.printable import printable
from fedrsclip_core.runs.lines import final_table, round_line
from fedrsclip_core.runs.records import RoundRecord
from fedrsclip_core.runs.run_folder import COMPLETED, FAILED, INTERRUPTED, RUNNING
from fedrsclip_core.runs.units import counted, duration, percent, size

_HEADER = ("test accuracy, %", "zero-shot", "global", "personalized", "worst client")
_MOST = 12


def run_screen(view: RunView, note: str) -> RenderableType:
    """Draw a run.

    Parameters
    ----------
    view : RunView
        The run as it is now.
    note : str
        A line about the report; empty for none.
    """
    done = view.rounds[-1]["round"] if view.rounds else 0
    left = None if view.ended else view.seconds_left
    parts = [_title(_run_title(view), view.state), _bar("round", done, view.num_rounds, left)]
    found = figures.evaluated(view.rounds)
    if found:
        parts.append(_accuracy_table(found, figures.zero_shot(view.rounds)))
    parts.append(_facts([*_run_facts(view), ("report", note)]))
    told = [text for text in (*view.problems, view.warning) if text]
    return Group(*parts, *(Text(printable(text), style="yellow") for text in told))


def bench_screen(view: BenchView, note: str) -> RenderableType:
    """Draw a benchmark, with a line about its report; empty for none."""
    cells = [("begun", cell) for cell in view.of(BEGUN)]
    cells += [("failed", cell) for cell in view.of(FAILED)]
    pairs = [(word, f"{cell.name}: {cell.said}") for word, cell in cells[:_MOST]]
    if len(cells) > _MOST:
        pairs.append(("", f"and {len(cells) - _MOST} more"))
    waiting = len(view.of(WAITING))
    pairs.append(("waiting", counted(waiting, "cell") if waiting else ""))
    parts = [
        _title(_bench_title(view), view.state),
        _bar("cell", view.steps, len(view.cells), view.seconds_left),
        _facts([*pairs, ("report", note)]),
    ]
    return Group(*parts, *(Text(printable(text), style="yellow") for text in view.problems))


def run_ending(view: RunView) -> Iterator[str]:
    """Yield the table of a completed run, and how it has ended."""
    if view.state == COMPLETED:
        table = "results.json is damaged: it has no table"
        if view.results is not None:
            table = f"\n{final_table(view.results)}\n"
        yield from table.split("\n")
    why = f": {view.reason}" if view.state in (FAILED, INTERRUPTED) else ""
    yield f"run {view.name}: {view.state}{why}"
    yield f"folder: {view.folder}"


def bench_ending(view: BenchView) -> Iterator[str]:
    """Yield how a benchmark has ended."""
    resumed = "; no process works on it any more: the same fedrsclip bench command resumes it"
    yield _bench_title(view) + ("" if view.state == COMPLETED else resumed)
    yield f"folder: {view.folder}"


class RunLines:
    """Says what is new of a run since the last look."""

    def __init__(self) -> None:
        self._shown = 0
        self._said: set[str] = set()
        self._warned = False

    def news(self, view: RunView) -> Iterator[str]:
        """Yield a line per new round, and one for each new problem."""
        yield from self._once(f"{_run_title(view)} ({view.folder})")
        for problem in view.problems:
            yield from self._once(problem)
        # A run that is resumed at its checkpoint repeats the rounds after that.
        fresh = view.rounds[min(self._shown, len(view.rounds)) :]
        self._shown = len(view.rounds)
        for one in fresh:
            left = view.seconds_left if one is view.rounds[-1] and not view.ended else None
            yield _round(one, left)
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

    def news(self, view: BenchView) -> Iterator[str]:
        """Yield a line per cell that has ended, and one for each new problem."""
        if self._problems is None:
            yield f"{_bench_title(view)} ({view.folder})"
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


def _run_title(view: RunView) -> str:
    if not view.config:
        return f"run {view.name}"
    method, seed = view.config.get("method"), view.config.get("seed")
    clients = view.config.get("federation.num_clients")
    return f"run {view.name}: {method}, {clients} clients, seed {seed}"


def _bench_title(view: BenchView) -> str:
    said = f"benchmark {view.name}: {view.steps} of {len(view.cells)} cells are completed"
    failed = len(view.of(FAILED))
    return f"{said}, {failed} failed" if failed else said


def _round(one: RoundRecord, left: float | None) -> str:
    lost = figures.lost_now(one)
    parts = [round_line(one), *([f"dropped: {lost}"] if lost else [])]
    return " | ".join(parts) + _left(left, " | ")


def _left(seconds: float | None, before: str = ", ") -> str:
    return f"{before}about {duration(seconds)} left" if seconds else ""


def _title(text: str, state: str) -> RenderableType:
    colour = {RUNNING: "cyan", COMPLETED: "green"}.get(state, "red")
    line = Table.grid(padding=(0, 2))
    line.add_row(Text(printable(text), style="bold"), Text(state, style=f"bold {colour}"))
    return line


def _bar(what: str, done: int, total: int | None, left: float | None) -> RenderableType:
    line = Table.grid(padding=(0, 2))
    of = "" if total is None else f" of {total}"
    drawn = ProgressBar(total=total, completed=done, width=40, pulse=False)
    # Without a total the bar would pulse, which looks like progress.
    middle = [] if total is None else [drawn]
    line.add_row(f"{what} {done}{of}", *middle, _left(left, ""))
    return line


def _facts(pairs: Sequence[tuple[str, str]]) -> RenderableType:
    """Draw a line for each text that is not empty, with a word before it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            grid.add_row(Text(name, style="dim"), Text(printable(value)))
    return grid


def _accuracy_table(found: Sequence[RoundRecord], zero_shot: float | None) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column, name in enumerate(_HEADER):
        table.add_column(name, justify="left" if column == 0 else "right", no_wrap=True)
    first, last = found[0], found[-1]
    if first is not last:
        table.add_row(_when(first), *map(percent, (zero_shot, *_trained(first))))
    table.add_row(_when(last), *map(percent, (zero_shot, *_trained(last))), style="bold")
    differences = [
        "" if value is None or zero_shot is None else f"{100 * (value - zero_shot):+.1f}"
        for value in _trained(last)
    ]
    table.add_row("against zero-shot", "", *differences)
    return table


def _when(one: RoundRecord) -> str:
    return f"round {one['round']}" + (", some clients" if one["sampled"] else "")


def _trained(one: RoundRecord) -> tuple[float | None, float | None, float | None]:
    test = one["test"]
    personal = test["personalized"] if test else None
    mean, worst = (personal["mean"], personal["worst"]) if personal else (None, None)
    return test["global"] if test else None, mean, worst


def _run_facts(view: RunView) -> list[tuple[str, str]]:
    folder = ("folder", str(view.folder))
    if not view.rounds:
        preparing = "no round yet: the clients start and prepare their image features"
        return [("clients", "no round" if view.ended else preparing), folder]
    last = view.rounds[-1]
    failed = [one for one in view.rounds if one["failure"]]
    numbers = ", ".join(str(one["round"]) for one in failed)
    return [
        ("clients", _clients(last)),
        *(("dropped", text) for text in figures.dropped(view.rounds)[:_MOST]),
        *(("silent", text) for text in _silent(view.rounds)[:_MOST]),
        ("bytes", _bytes(view.rounds)),
        ("time", _time(view)),
        ("failed", f"rounds {numbers}; the last: {failed[-1]['failure']}" if failed else ""),
        folder,
    ]


def _clients(last: RoundRecord) -> str:
    replies = last["clients"]
    if not replies["asked"]:
        return f"none asked to train in round {last['round']}"
    lost = figures.lost_now(last)
    said = f"{replies['asked']} asked, {replies['valid']} valid, {len(figures.lost(last))} dropped"
    return f"{said} in round {last['round']}" + (f": {lost}" if lost else "")


def _silent(rounds: Sequence[RoundRecord]) -> list[str]:
    return [
        f"{name}: " + ("no answer yet" if last is None else f"last answer in round {last}")
        for name, last in figures.silent_clients(rounds).items()
    ]


def _bytes(rounds: Sequence[RoundRecord]) -> str:
    down, up, exchanges = figures.traffic(rounds)
    if not exchanges:
        return "none yet"
    each = f"{size(down / exchanges)} down, {size(up / exchanges)} up per client and round"
    return f"{each}; in all {size(down)} down, {size(up)} up"


def _time(view: RunView) -> str:
    each = figures.pace(view.rounds)
    said = [] if each is None else [f"{each:.1f} s a round"]
    ago = duration(view.silent)
    return ", ".join([*said, f"ended {ago} ago" if view.ended else f"last round {ago} ago"])
