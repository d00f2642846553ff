"""What is watched as a picture in a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedrsclip.watch import figures
from fedrsclip.watch.bench import BEGUN, WAITING, BenchView
from fedrsclip.watch.run import RunView
from fedrsclip.watch.words import bench_title, printable, run_title
from fedrsclip_core.runs.records import RoundRecord
from fedrsclip_core.runs.run_folder import COMPLETED, FAILED, RUNNING
from fedrsclip_core.runs.units import counted, duration, percent, size

_HEADER = ("test accuracy, %", "zero-shot", "global", "personalized", "worst client")
_MOST_CELLS = 12


def run_screen(view: RunView, note: str) -> RenderableType:
    """Draw a run.

    Parameters
    ----------
    view : RunView
        The run as it is now.
    note : str
        A line about the report; empty for none.
    """
    parts: list[RenderableType] = [title(run_title(view), view.state), _bar(view)]
    found = figures.evaluated(view.rounds)
    if found:
        parts.append(_accuracy_table(found, figures.zero_shot(view.rounds)))
    parts.append(facts(_facts(view) + ([("report", note)] if note else [])))
    told = [text for text in (*view.problems, view.warning) if text]
    return Group(*parts, *(Text(printable(text), style="yellow") for text in told))


def bench_screen(view: BenchView, note: str) -> RenderableType:
    """Draw a benchmark, with a line about its report; empty for none."""
    cells = [("begun", cell) for cell in view.of(BEGUN)]
    cells += [("failed", cell) for cell in view.of(FAILED)]
    pairs = [(word, f"{cell.name}: {cell.said}") for word, cell in cells[:_MOST_CELLS]]
    if len(cells) > _MOST_CELLS:
        pairs.append(("", f"and {len(cells) - _MOST_CELLS} more"))
    waiting = len(view.of(WAITING))
    if waiting:
        pairs.append(("waiting", counted(waiting, "cell")))
    parts = [
        title(bench_title(view), view.state),
        bar("cell", view.steps, len(view.cells), view.seconds_left),
        facts(pairs + ([("report", note)] if note else [])),
    ]
    return Group(*parts, *(Text(printable(text), style="yellow") for text in view.problems))


def title(text: str, state: str) -> RenderableType:
    """Draw the first line: what is watched, and its state."""
    colour = {RUNNING: "cyan", COMPLETED: "green"}.get(state, "red")
    line = Table.grid(padding=(0, 2))
    line.add_row(Text(printable(text), style="bold"), Text(state, style=f"bold {colour}"))
    return line


def bar(what: str, done: int, total: int | None, left: float | None) -> RenderableType:
    """Draw how much of something is done, and the time left where that is known."""
    line = Table.grid(padding=(0, 2))
    ends = f"about {duration(left)} left" if left else ""
    of = "" if total is None else f" of {total}"
    drawn = ProgressBar(total=total, completed=done, width=40, pulse=False)
    # Without a total the bar would pulse, which looks like progress.
    middle = [] if total is None else [drawn]
    line.add_row(f"{what} {done}{of}", *middle, ends)
    return line


def facts(pairs: Sequence[tuple[str, str]]) -> RenderableType:
    """Draw lines with a word before each."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(Text(name, style="dim"), Text(printable(value)))
    return grid


def _bar(view: RunView) -> RenderableType:
    done = view.rounds[-1]["round"] if view.rounds else 0
    left = None if view.ended else view.seconds_left
    return bar("round", done, view.num_rounds, left)


def _accuracy_table(found: Sequence[RoundRecord], zero_shot: float | None) -> RenderableType:
    first, last = found[0], found[-1]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column, name in enumerate(_HEADER):
        table.add_column(name, justify="left" if column == 0 else "right", no_wrap=True)
    if first != last:
        table.add_row(_when(first), *_cells(first, zero_shot))
    table.add_row(_when(last), *_cells(last, zero_shot), style="bold")
    table.add_row("against zero-shot", *_differences(last, zero_shot))
    return table


def _when(record: RoundRecord) -> str:
    return f"round {record['round']}" + (", some clients" if record["sampled"] else "")


def _cells(record: RoundRecord, zero_shot: float | None) -> list[str]:
    return [percent(value) for value in (zero_shot, *_trained(record))]


def _differences(record: RoundRecord, zero_shot: float | None) -> list[str]:
    differences = [
        "" if value is None or zero_shot is None else f"{100 * (value - zero_shot):+.1f}"
        for value in _trained(record)
    ]
    return ["", *differences]


def _trained(record: RoundRecord) -> tuple[float | None, float | None, float | None]:
    test = record["test"]
    personal = test["personalized"] if test else None
    worst = (personal["mean"], personal["worst"]) if personal else (None, None)
    return (test["global"] if test else None, *worst)


def _facts(view: RunView) -> list[tuple[str, str]]:
    if not view.rounds:
        waiting = "no round yet: the clients start and prepare their image features"
        return [("clients", waiting)] if not view.ended else [("clients", "no round")]
    last = view.rounds[-1]
    pairs = [("clients", _clients(last))]
    pairs += [("dropped", text) for text in figures.dropped(view.rounds)]
    pairs += [("bytes", _bytes(view.rounds)), ("time", _time(view))]
    failed = [one for one in view.rounds if one["failure"]]
    if failed:
        numbers = ", ".join(str(one["round"]) for one in failed)
        pairs.append(("failed", f"rounds {numbers}; the last: {failed[-1]['failure']}"))
    return pairs


def _clients(last: RoundRecord) -> str:
    clients, number = last["clients"], last["round"]
    if not clients["asked"]:
        return f"none asked to train in round {number}"
    dropped = len(figures.lost(last))
    said = f"{clients['asked']} asked, {clients['valid']} valid, {dropped} dropped"
    lost = figures.lost_now(last)
    return f"{said} in round {number}" + (f": {lost}" if lost else "")


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
