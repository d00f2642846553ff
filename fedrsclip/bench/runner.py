"""Runs the cells of a benchmark that are missing, in processes beside this one."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from fedrsclip.bench.cells import Cell, refuse_unread
from fedrsclip.bench.description import Description
from fedrsclip.bench.figures import Row
from fedrsclip.bench.found import completed, lost_replies
from fedrsclip.bench.preparation import Prepared, prepare, with_classes
from fedrsclip.bench.progress import Progress
from fedrsclip.bench.results import Extras, ResultFiles
from fedrsclip.bench.schedule import Done, Job, Schedule, carry_out
from fedrsclip.bench.tables import STANDARD, Layout, markdown
from fedrsclip.bench.workers import Worker
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import lock
from fedrsclip_core.runs.records import Results

Echo = Callable[[str], None]
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
        done = {cell: results for cell in cells if (results := completed(cell)) is not None}
        missing = [cell for cell in cells if cell not in done]
        prepared = prepare(self.description, missing, done) if missing else None
        self._say_what_is_tuned(cells)
        self.echo(f"{len(cells)} cells, {len(done)} of them are completed")
        files = ResultFiles(self.description, cells, layout, extras)
        failed: Failures = {}
        for cell, results in done.items():
            if problem := lost_replies(cell, results):
                failed[cell.name] = problem
            else:
                files.enter(cell, results)
        files.write()
        for cell, error in self._ended(prepared, set(failed)) if prepared else ():
            found = None if error else completed(cell)
            if found is None:
                failed[cell.name] = error or "it left no results"
            else:
                files.enter(cell, found)
                files.write()
        if self.description.bench.baselines:
            self._compute_baselines(cells, files)
        self.echo("")
        self.echo(markdown(files.tables, files.caption))
        return files.rows, failed

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

    def _ended(self, prepared: Prepared, failed: set[str]) -> Iterator[tuple[Cell, str]]:
        """Run jobs and yield each cell that ended, with the reason if it failed."""
        count = min(len(prepared.environments), len(prepared.jobs))
        workers = [
            Worker(site, self.description.folder / f"worker-{number}.log", [self.lock.fileno()])
            for number, site in enumerate(prepared.environments[:count])
        ]
        progress = Progress([job.cell for job in prepared.jobs], count)
        schedule = Schedule(prepared.jobs, failed)
        try:
            for done in carry_out(schedule, [partial(_timed, worker) for worker in workers]):
                outcome = f"FAILED ({done.error})" if done.error else "completed"
                self.echo(progress.line(done.job.cell, done.seconds, outcome))
                yield done.job.cell, done.error
        finally:
            for worker in workers:
                worker.end()


@contextmanager
def locked(folder: Path) -> Iterator[IO[bytes]]:
    """Hold the benchmark's folder; workers of a killed runner hold it for a moment longer."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = lock.hold(folder, patience=_LOCK_PATIENCE)
    except BlockingIOError:
        raise RunError(
            f"the benchmark {folder.name} is running in another process: wait for it, or give "
            "this one another bench.name"
        ) from None
    with held:
        yield held


def _timed(worker: Worker, job: Job) -> Done:
    start = time.monotonic()
    error = worker.run(job.cell.job)
    if not error and (results := completed(job.cell)) is not None:
        error = lost_replies(job.cell, results)
    return Done(job, error, time.monotonic() - start)
