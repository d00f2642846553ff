"""Where what is watched is shown: a terminal is redrawn, anything else receives lines."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from fedrsclip.watch.subject import Subject
from fedrsclip.watch.words import printable

if TYPE_CHECKING:
    from rich.live import Live

Echo = Callable[[str], None]


class Display(Protocol):
    """Shows one look after the other."""

    def show(self, subject: Subject, note: str) -> None:
        """Show what is watched as it is now, and a note about its report."""


@contextmanager
def display(echo: Echo) -> Iterator[Display]:
    """Give the display that standard output allows."""
    # Not rich's own test: FORCE_COLOR would make it take a pipe for a terminal.
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield Lines(echo)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(markup=False, highlight=False), auto_refresh=False) as live:
        yield Picture(live)


class Lines:
    """Prints what is new."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._note = ""

    def show(self, subject: Subject, note: str) -> None:
        """Print a line for each thing that is new."""
        for line in subject.news():
            self._echo(printable(line))
        if note.startswith("not refreshed") and note != self._note:
            self._echo(printable(f"report {note}"))
        self._note = note


class Picture:
    """Redraws the terminal's last lines."""

    def __init__(self, live: "Live") -> None:
        self._live = live

    def show(self, subject: Subject, note: str) -> None:
        """Draw what is watched as it is now."""
        self._live.update(subject.screen(note), refresh=True)
