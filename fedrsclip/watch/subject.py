"""What can be watched, a run or a benchmark: how it is looked at and how it is shown."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fedrsclip.watch.bench import BenchView, BenchWatch
from fedrsclip.watch.plain import BenchLines, RunLines
from fedrsclip.watch.run import RunView, RunWatch
from fedrsclip.watch.words import bench_ending, run_ending
from fedrsclip_core.runs.lines import final_table
from fedrsclip_core.runs.run_folder import COMPLETED

if TYPE_CHECKING:
    from rich.console import RenderableType


class View(Protocol):
    """What is known at one moment."""

    @property
    def ended(self) -> bool:
        """Whether no process works on it any more."""

    @property
    def status(self) -> int:
        """The exit status: 0 if it is completed."""

    @property
    def steps(self) -> int:
        """How much of it is there to be reported."""


class Subject(ABC):
    """Something that is watched.

    Attributes
    ----------
    unit : str
        What its progress is counted in.
    """

    unit: str

    @property
    @abstractmethod
    def view(self) -> View:
        """What was known at the last look."""

    @abstractmethod
    def look(self) -> None:
        """Look anew."""

    @abstractmethod
    def news(self) -> Iterator[str]:
        """Yield a line for each thing that is new."""

    @abstractmethod
    def screen(self, note: str) -> "RenderableType":
        """Draw it, with a note about its report."""

    @abstractmethod
    def closing(self) -> Iterator[str]:
        """Yield the last lines about it."""


class RunSubject(Subject):
    """A run."""

    unit = "round"

    def __init__(self, folder: Path) -> None:
        self._watch = RunWatch(folder)
        self._lines = RunLines()
        self.look()

    @property
    def view(self) -> RunView:
        """The run at the last look."""
        return self._view

    def look(self) -> None:
        """Look anew."""
        self._view = self._watch.look()

    def news(self) -> Iterator[str]:
        """Yield a line per new round, and what else is new."""
        return self._lines.of(self._view)

    def screen(self, note: str) -> "RenderableType":
        """Draw the run."""
        # A pipe has no use for rich, which takes a while to import.
        from fedrsclip.watch.screen import run_screen

        return run_screen(self._view, note)

    def closing(self) -> Iterator[str]:
        """Yield the table of a completed run, and how it ended."""
        yield from _table(self._view)
        yield run_ending(self._view)
        yield f"folder: {self._view.folder}"


class BenchSubject(Subject):
    """A benchmark."""

    unit = "cell"

    def __init__(self, folder: Path) -> None:
        self._watch = BenchWatch(folder)
        self._lines = BenchLines()
        self.look()

    @property
    def view(self) -> BenchView:
        """The benchmark at the last look."""
        return self._view

    def look(self) -> None:
        """Look anew."""
        self._view = self._watch.look()

    def news(self) -> Iterator[str]:
        """Yield a line per cell that has ended, and what else is new."""
        return self._lines.of(self._view)

    def screen(self, note: str) -> "RenderableType":
        """Draw the benchmark."""
        from fedrsclip.watch.screen import bench_screen

        return bench_screen(self._view, note)

    def closing(self) -> Iterator[str]:
        """Yield how it ended."""
        yield bench_ending(self._view)
        yield f"folder: {self._view.folder}"


def _table(view: RunView) -> Iterator[str]:
    if view.results is not None and view.state == COMPLETED:
        yield from ("", *final_table(view.results).splitlines(), "")
    elif view.state == COMPLETED:
        yield "results.json is damaged: it has no table"
