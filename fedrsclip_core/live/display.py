"""Where a watched run is shown: a terminal is redrawn, anything else receives lines."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from fedrsclip_core.live.plain import RunLines
from fedrsclip_core.live.run import RunView
from fedrsclip_core.live.words import printable

Echo = Callable[[str], None]


class Display(Protocol):
    """Shows one look after the other."""

    def show(self, view: RunView, note: str) -> None:
        """Show a run as it is now, and a note about its report."""


@contextmanager
def display(echo: Echo) -> Iterator[Display]:
    """Give the display that standard output allows."""
    # Not rich's own test: FORCE_COLOR would make it take a pipe for a terminal.
    if not sys.stdout.isatty() or os.environ.get("TERM") in ("dumb", None):
        yield Lines(echo)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(markup=False, highlight=False), auto_refresh=False) as live:
        yield Picture(live.update)


class Lines:
    """Prints what is new."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._lines = RunLines()
        self._note = ""

    def show(self, view: RunView, note: str) -> None:
        """Print a line per new round, and what else is new."""
        for line in self._lines.of(view):
            self._echo(printable(line))
        if note.startswith("not refreshed") and note != self._note:
            self._echo(printable(f"report {note}"))
        self._note = note


class Picture:
    """Redraws the terminal's last lines."""

    def __init__(self, update: Callable[..., None]) -> None:
        self._update = update

    def show(self, view: RunView, note: str) -> None:
        """Draw a run as it is now."""
        # A pipe has no use for rich, which takes a while to import.
        from fedrsclip_core.live.screen import run_screen

        self._update(run_screen(view, note), refresh=True)
