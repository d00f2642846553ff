"""Runs the cells of a benchmark that are missing, and keeps its tables true."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fedrsclip.bench.cells import Cell, part_of, refuse_unread
from fedrsclip.bench.description import Description
from fedrsclip.bench.engines import Echo, Engine, engine_for
from fedrsclip.bench.figures import Row
from fedrsclip.bench.found import completed, lost_replies
from fedrsclip.bench.preparation import prepare, with_classes
from fedrsclip.bench.progress import Progress
from fedrsclip.bench.results import Extras, ResultFiles
from fedrsclip.bench.schedule import Schedule
from fedrsclip.bench.tables import STANDARD, Layout, markdown
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import lock
from fedrsclip_core.runs.records import Results

Failures = dict[str, str]
"""Why cells failed, by name."""

_LOCK_PATIENCE = 10.0


def no_extras(cell: Cell, results: Results) -> Row:
    """Add no figures to a cell's row."""
    return {}


@dataclass(frozen=True)
class Runner:
    """What a protocol runs its cells with.

    Attributes
    ----------
    description : Description
        The benchmark.
    lock : IO[bytes]
        Held as long as a worker lives.
    echo : Callable[[str], None]
        Receives lines for a person.
    """

    description: Description
    lock: IO[bytes]
    echo: Echo

    def run(
        self, cells: Sequence[Cell], layout: Layout = STANDARD, extras: Extras = no_extras
    ) -> tuple[list[Row], Failures]:
        """Run the cells that are missing, and keep the results on disk up to date.

        Returns
        -------
        tuple[list[Row], Failures]
            A row per cell, and which cells failed.
        """
        refuse_unread(self.description, cells)
        cells = with_classes(self.description, cells)
        if self.description.shard is not None:
            return [], self._run_part(part_of(cells, self.description.shard))
        done = _completed(cells)
        files = ResultFiles(self.description, cells, layout, extras)
        failed = _with_lost_replies(done)
        with self._running(cells, done) as ended:
            for cell, results in done.items():
                if cell.name not in failed:
                    files.enter(cell, results)
            files.write()
            for cell, error in ended:
                found = None if error else completed(cell)
                if found is None:
                    failed[cell.name] = error
                else:
                    files.enter(cell, found)
                    files.write()
        if self.description.bench.baselines:
            self._compute_baselines(cells, files)
        self.echo("")
        self.echo(markdown(files.tables, files.caption))
        return files.rows, failed

    def _run_part(self, cells: Sequence[Cell]) -> Failures:
        """Run a shard's cells; the command without a shard finds them and makes the tables."""
        done = _completed(cells)
        failed = _with_lost_replies(done)
        with self._running(cells, done) as ended:
            failed |= {cell.name: error for cell, error in ended if error}
        return failed

    @contextmanager
    def _running(
        self, cells: Sequence[Cell], done: Mapping[Cell, Results]
    ) -> Iterator[Iterator[tuple[Cell, str]]]:
        """Prepare the cells that are missing; who reads what this gives has them run.

        It gives each cell as it ends, with the reason if it failed.
        """
        missing = [cell for cell in cells if cell not in done]
        with ExitStack() as stack:
            ended: Iterator[tuple[Cell, str]] = iter(())
            if missing:
                prepared = prepare(self.description, missing, done)
                for note in prepared.notes:
                    self.echo(note)
                engine = engine_for(self.description, prepared, self.lock, self.echo)
                schedule = Schedule(prepared.jobs, set(_with_lost_replies(done)))
                ended = self._ended(stack.enter_context(engine), schedule)
            self._say_what_is_tuned(cells)
            self.echo(f"{len(cells)} cells, {len(done)} of them are completed")
            yield ended

    def _say_what_is_tuned(self, cells: Sequence[Cell]) -> None:
        for setting, label, own in dict.fromkeys((c.setting, c.label, c.own) for c in cells):
            if own:
                file = self.description.tuned_file
                self.echo(f"{setting} {label}: {' '.join(own)}, from {file}")

    def _compute_baselines(self, cells: Sequence[Cell], files: ResultFiles) -> None:
        """Enter the baselines on the images of each setting and seed that a cell has used.

        Their budget is that of the cell which trains for the most rounds.
        """
        from fedrsclip.bench.baselines.rows import baseline_rows

        longest: dict[tuple[str, int], tuple[Cell, Results]] = {}
        for cell in cells:
            key = cell.setting, cell.seed
            results = completed(cell)
            if results is None:
                continue
            if key not in longest or results["num_rounds"] > longest[key][1]["num_rounds"]:
                longest[key] = cell, results
        for cell, results in longest.values():
            for row in baseline_rows(self.description, cell, results):
                files.enter_row(row)
            files.write()

    def _ended(self, engine: Engine, schedule: Schedule) -> Iterator[tuple[Cell, str]]:
        cells = [job.cell for job in schedule.jobs]
        progress = Progress(cells, min(engine.at_once, len(cells)))
        for done in engine.ended(schedule):
            outcome = f"FAILED ({done.error})" if done.error else "completed"
            self.echo(progress.line(done.job.cell, done.seconds, outcome))
            yield done.job.cell, done.error


@contextmanager
def locked(folder: Path) -> Iterator[IO[bytes]]:
    """Hold the benchmark's folder; workers of a killed runner hold it for a moment longer."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = lock.hold(folder, patience=_LOCK_PATIENCE)
    except BlockingIOError:
        raise _is_running(folder) from None
    with held:
        yield held


def refuse_others(description: Description) -> None:
    """Refuse a part of a benchmark that is running as a whole, and the whole while parts run.

    Raises
    ------
    RunError
        Naming what is running.
    """
    folder = description.folder
    others = [folder] if description.shard else sorted(folder.glob("shard-*"))
    for other in filter(lock.is_held, others):
        raise _is_running(other)


def _is_running(folder: Path) -> RunError:
    part = folder.name.startswith("shard-") and folder.parent.parent.name == "bench"
    what = f"{folder.name} of {folder.parent.name}" if part else folder.name
    return RunError(
        f"the benchmark {what} is running in another process: wait for it, or give this one "
        "another bench.name"
    )


def _completed(cells: Sequence[Cell]) -> dict[Cell, Results]:
    return {cell: results for cell in cells if (results := completed(cell)) is not None}


def _with_lost_replies(done: Mapping[Cell, Results]) -> Failures:
    found = {cell.name: lost_replies(cell, results) for cell, results in done.items()}
    return {name: problem for name, problem in found.items() if problem}
