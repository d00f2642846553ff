"""How far long work is, on a terminal; elsewhere lines alone."""

import sys
import time
from collections.abc import Callable
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self

from fedrsclip_core.printable import printable_lines

if TYPE_CHECKING:
    from rich.progress import Progress

_LONG = 2.0
"""Seconds; of shorter work no bar is seen."""


class Watched:
    """Work whose progress is shown on stderr.

    Parameters
    ----------
    shown : bool
        Whether there may be a bar: stderr is a terminal, and nothing else is written there.
    count : Callable[[], int] or None
        Counts all items, in a thread; ``None`` if nobody can know.
    unit : str
        What they are.
    """

    def __init__(
        self, *, shown: bool, count: Callable[[], int] | None, unit: str = "images"
    ) -> None:
        self._shown, self._count, self._unit = shown, count, unit
        self._started = time.monotonic()
        self._done = self._before = 0
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Write a line to stderr, above the bar."""
        text = printable_lines(line)
        if self._bar is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def advance(self, items: int, *, before: bool = False) -> None:
        """Say that so many more are done; ``before``: by an earlier process."""
        self._done += items
        self._before += items * before
        if self._bar is None and self._shown and time.monotonic() - self._started > _LONG:
            self._bar = self._begun()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, rate=self._rate())

    def _rate(self) -> str:
        seconds = time.monotonic() - self._started
        return f"{(self._done - self._before) / seconds:.0f} {self._unit}/s" if seconds else ""

    def _begun(self) -> "Progress":
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        task = bar.add_task("", total=None, completed=self._done, rate=self._rate())
        bar.start()
        if self._count is not None:
            count = self._count
            Thread(target=lambda: bar.update(task, total=count()), daemon=True).start()
        return bar
