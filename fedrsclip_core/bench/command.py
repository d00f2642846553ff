"""`fedrsclip bench`: run what is missing of a grid, keep its tables true, say what failed."""

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from fedrsclip_core.bench.cells import Cell, grid
from fedrsclip_core.bench.description import Description, describe
from fedrsclip_core.bench.found import completed
from fedrsclip_core.bench.preparation import Prepared, prepare, with_classes
from fedrsclip_core.bench.progress import Progress
from fedrsclip_core.bench.results import ResultFiles
from fedrsclip_core.bench.schedule import Done, Job, Schedule, carry_out
from fedrsclip_core.bench.tables import markdown
from fedrsclip_core.bench.workers import Worker
from fedrsclip_core.errors import RunError

Echo = Callable[[str], None]

_LOCK_PATIENCE = 10.0


def bench(arguments: Sequence[str], *, echo: Echo) -> int:
    """Run a benchmark and return the exit status: 1 if a cell failed.

    Raises
    ------
    FedRSCLIPError
        If it cannot start.
    KeyboardInterrupt
        After everything was stopped; the same command goes on.
    """
    description = describe(arguments)
    with _locked(description.folder) as lock:
        failed = run_cells(description, grid(description), lock, echo)
        echo(f"results: {description.folder}")
    for name, error in failed.items():
        echo(f"{name} failed: {error}")
    return 1 if failed else 0


def run_cells(
    description: Description, cells: Sequence[Cell], lock: IO[bytes], echo: Echo
) -> dict[str, str]:
    """Run the cells that are missing, and keep the results on disk up to date.

    Returns
    -------
    dict[str, str]
        Why cells failed, by name.
    """
    cells = with_classes(description, cells)
    done = {cell: results for cell in cells if (results := completed(cell)) is not None}
    missing = [cell for cell in cells if cell not in done]
    echo(f"{len(cells)} cells, {len(done)} of them are completed")
    prepared = prepare(description, missing, done) if missing else None
    files = ResultFiles(description, cells)
    for cell, results in done.items():
        files.enter(cell, results)
    files.write()
    failed: dict[str, str] = {}
    if prepared is not None:
        for cell, error in _run(description.folder, prepared, lock, echo):
            results = completed(cell)
            if error or results is None:
                failed[cell.name] = error or "it left no results"
            else:
                files.enter(cell, results)
                files.write()
    echo("")
    echo(markdown(files.tables, files.caption))
    return failed


def _run(
    folder: Path, prepared: Prepared, lock: IO[bytes], echo: Echo
) -> Iterator[tuple[Cell, str]]:
    """Run jobs and yield each cell that ended, with the reason if it failed."""
    count = min(len(prepared.environments), len(prepared.jobs))
    workers = [
        Worker(environment, folder / f"worker-{number}.log", [lock.fileno()])
        for number, environment in enumerate(prepared.environments[:count])
    ]
    progress = Progress([job.cell for job in prepared.jobs], count)
    try:
        for done in carry_out(Schedule(prepared.jobs), [partial(_timed, w) for w in workers]):
            outcome = f"FAILED ({done.error})" if done.error else "completed"
            echo(progress.line(done.job.cell, done.seconds, outcome))
            yield done.job.cell, done.error
    finally:
        for worker in workers:
            worker.end()


def _timed(worker: Worker, job: Job) -> Done:
    start = time.monotonic()
    error = worker.run({"name": job.cell.name, "overrides": job.cell.overrides})
    return Done(job, error, time.monotonic() - start)


@contextmanager
def _locked(folder: Path) -> Iterator[IO[bytes]]:
    """Hold the benchmark's folder; workers of a killed runner hold it for a moment longer."""
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _LOCK_PATIENCE
    with (folder / ".lock").open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RunError(
                        f"the benchmark {folder.name} is going on in another process: wait for "
                        "it, or give this one another bench.name"
                    ) from None
                time.sleep(0.2)
        yield lock
