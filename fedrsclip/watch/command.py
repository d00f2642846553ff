"""`fedrsclip watch`: look at a run or a benchmark, once or until it ends, and leave it alone."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fedrsclip import report
from fedrsclip.bench.folder import BenchFolder
from fedrsclip.watch import nodes
from fedrsclip.watch.bench import BenchWatch
from fedrsclip.watch.refresh import Refresher
from fedrsclip.watch.run import RunWatch
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.printable import printable
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from rich.console import RenderableType

Echo = Callable[[str], None]

_LOOK_SECONDS = 1.0
_BEGIN_SECONDS = 300.0
_INTERRUPTED = 130
_WIDE = 500
"""Columns of a file or pipe: no path is folded there."""


class View(Protocol):
    """What is known of a run or a benchmark at one moment."""

    @property
    def ended(self) -> bool:
        """Whether no process works on it any more."""

    @property
    def status(self) -> int:
        """The exit status: 0 if it is completed."""

    @property
    def steps(self) -> int:
        """How much of it is there to be reported."""


@dataclass(frozen=True)
class Subject:
    """What is watched, a run or a benchmark: how it is looked at and how it is shown.

    Attributes
    ----------
    unit : str
        What its progress is counted in.
    look : Callable[[], View]
        Returns it as it is now; the others take what this returned.
    screen : Callable[[View, str], RenderableType]
        Draws it, with a note about its report.
    news : Callable[[View], Iterator[str]]
        Yields a line for each thing that is new.
    ending : Callable[[View], Iterator[str]]
        Yields how it has ended.
    """

    unit: str
    look: Callable[[], View]
    screen: Callable[[Any, str], "RenderableType"]
    news: Callable[[Any], Iterator[str]]
    ending: Callable[[Any], Iterator[str]]


def watch(arguments: Sequence[str], *, echo: Echo) -> int:
    """Show a run or a benchmark until it ends, or once; return its status.

    Parameters
    ----------
    arguments : Sequence[str]
        See ``fedrsclip watch --help``.
    echo : Callable[[str], None]
        Receives lines for a person.

    Returns
    -------
    int
        0 if it is completed or, looked at once, still running; else 1.

    Raises
    ------
    FedRSCLIPError
        If there is neither, or Flower does not answer.
    """
    options = parser().parse_args(arguments)
    folder = _find(options.run)
    if options.once or options.superlink:
        return _show_once(folder, options.superlink, echo)
    try:
        _wait_for(folder, echo)
        return _follow(folder, echo)
    except KeyboardInterrupt:
        echo(f"no longer watching; {folder.name} is left as it is")
        return _INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    made = argparse.ArgumentParser(
        prog="fedrsclip watch",
        description="Show how a run or benchmark stands until it ends, and write its report.html "
        "every few rounds; Ctrl-C leaves it alone.",
    )
    made.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="the name of a run or benchmark of this machine, or its folder; by default the newest "
        "run",
    )
    made.add_argument("--once", action="store_true", help="show how it stands now, and end")
    made.add_argument(
        "--superlink",
        metavar="NAME",
        help="show once, and list the nodes of a connection of Flower's configuration",
    )
    return made


def _find(asked: str | None) -> Path:
    """Return the folder that is meant, which may not be there yet."""
    if asked is None:
        return RunFolder.newest().path
    path = paths.place(asked, "the run")
    if path.is_dir() or os.sep in asked:
        return path.resolve()
    folder, bench = RunFolder.named(asked).path, paths.bench_dir(asked)
    return bench if bench.is_dir() and not folder.is_dir() else folder


def _subject(folder: Path) -> Subject:
    # rich takes a while to import.
    from fedrsclip.watch import render

    if _is_bench(folder):
        return Subject(
            unit="cell",
            look=BenchWatch(folder).look,
            screen=render.bench_screen,
            news=render.BenchLines().news,
            ending=render.bench_ending,
        )
    return Subject(
        unit="round",
        look=RunWatch(folder).look,
        screen=render.run_screen,
        news=render.RunLines().news,
        ending=render.run_ending,
    )


def _is_bench(folder: Path) -> bool:
    return BenchFolder(folder).is_there()


def _is_there(folder: Path) -> bool:
    return _is_bench(folder) or RunFolder(folder).has_begun()


def _nothing_there(folder: Path) -> ConfigError:
    return ConfigError(
        f"there is no run in {folder}: give the name or folder of one, at the server, with its "
        "FEDRSCLIP_HOME"
    )


def _show_once(folder: Path, superlink: str | None, echo: Echo) -> int:
    from rich.console import Console

    if not _is_there(folder):
        raise _nothing_there(folder)
    subject = _subject(folder)
    view = subject.look()
    width = None if sys.stdout.isatty() else _WIDE
    console = Console(markup=False, highlight=False, width=width)
    console.print(subject.screen(view, ""))
    if view.ended:
        _say(subject.ending(view), echo)
    if superlink is not None:
        _say(nodes.lines(superlink), echo)
    return view.status if view.ended else 0


def _wait_for(folder: Path, echo: Echo) -> None:
    """Wait for a run that is being started; it takes a while until it has a folder."""
    if _is_there(folder):
        return
    echo(f"there is no run in {folder} yet: waiting {_BEGIN_SECONDS:.0f} s for it to begin")
    for _ in range(round(_BEGIN_SECONDS / _LOOK_SECONDS)):
        time.sleep(_LOOK_SECONDS)
        if _is_there(folder):
            return
    raise _nothing_there(folder)


def _follow(folder: Path, echo: Echo) -> int:
    subject = _subject(folder)
    refresher = Refresher(folder, subject.unit, report.write_report)
    with _display(subject, echo) as show:
        while True:
            view = subject.look()
            show(view, refresher.note)
            if refresher.refresh(view.steps, ended=view.ended):
                show(view, refresher.note)
            if view.ended:
                break
            time.sleep(_LOOK_SECONDS)
    _say(subject.ending(view), echo)
    if refresher.note:
        _say([f"report: {refresher.note}"], echo)
    return view.status


@contextmanager
def _display(subject: Subject, echo: Echo) -> Iterator[Callable[[View, str], None]]:
    """Give what shows a view and a note: a terminal is redrawn, anything else receives lines."""
    # Not rich's own test: FORCE_COLOR would make it take a pipe for a terminal.
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        told = ""

        def print_news(view: View, note: str) -> None:
            nonlocal told
            _say(subject.news(view), echo)
            if note.startswith("not refreshed") and note != told:
                _say([f"report {note}"], echo)
            told = note

        yield print_news
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(markup=False, highlight=False), auto_refresh=False) as live:
        yield lambda view, note: live.update(subject.screen(view, note), refresh=True)


def _say(lines: Iterator[str] | Sequence[str], echo: Echo) -> None:
    for line in lines:
        echo(printable(line))
