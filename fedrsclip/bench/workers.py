"""Processes that run cells, one cell at a time each; they end when this process does."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from fedrsclip.bench.found import why_not_counted
from fedrsclip.bench.schedule import Done, Job, Schedule, carry_out
from fedrsclip.machine import visible_gpus
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.wire.digests import package_folder

_MODULE = "fedrsclip.bench.worker"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class LocalEngine:
    """Runs cells in worker processes of this machine.

    Parameters
    ----------
    environments : Sequence[Mapping[str, str]]
        One per worker.
    folder : Path
        The benchmark's, for the logs.
    lock : IO[bytes]
        Held as long as a worker lives.
    """

    def __init__(
        self, environments: Sequence[Mapping[str, str]], folder: Path, lock: IO[bytes]
    ) -> None:
        self._workers = [
            Worker(site, folder / f"worker-{number}.log", [lock.fileno()])
            for number, site in enumerate(environments)
        ]

    @property
    def at_once(self) -> int:
        """How many cells are run at a time."""
        return len(self._workers)

    def ended(self, schedule: Schedule) -> Iterator[Done]:
        """Run the jobs and yield each as it ends."""
        return carry_out(schedule, [partial(timed, worker) for worker in self._workers])

    def end(self) -> None:
        """End the workers at once."""
        for worker in self._workers:
            worker.end()


def timed(worker: "Worker", job: Job) -> Done:
    """Run a job to its end."""
    start = time.monotonic()
    error = why_not_counted(job.cell, worker.run(job.cell.job))
    return Done(job, error, time.monotonic() - start)


class Worker:
    """A process that runs cells, started when first needed and again if it died.

    Parameters
    ----------
    environment : Mapping[str, str]
        Added to this process's environment.
    log : Path
        Takes what the cells print.
    hold : Sequence[int]
        File descriptors that the process keeps open: a lock lasts until the last one is gone.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, hold: Sequence[int] = ()) -> None:
        self._environment = worker_environment(environment)
        self._log = log
        self._hold = tuple(hold)
        self._process: subprocess.Popen[str] | None = None

    def run(self, job: Mapping[str, Any]) -> str:
        """Run one cell to its end and return why it failed; empty if it is completed."""
        process = self._process
        if process is None:
            process = self._process = self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except (OSError, ValueError):  # it died, or end() closed the pipe under our feet
            answer = ""
        if answer:
            return str(json.loads(answer)["error"])
        self._process = None
        return f"its process ended by itself (status {process.wait()}): see {self._log}"

    def end(self) -> None:
        """End the process at once; the cell in it can go on another time."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def _started(self) -> "subprocess.Popen[str]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                # -P: a folder of this name where the command was given is not ours.
                [sys.executable, "-P", "-m", _MODULE],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=self._hold,
                # Ctrl-C is for the runner, which then ends its workers.
                start_new_session=True,
            )


def one_thread(site: Mapping[str, str]) -> dict[str, str]:
    """Return a site's environment for a cell: its libraries compute in one thread."""
    return {**dict.fromkeys(_ONE_THREAD, "1"), **site}


def worker_environment(site: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a worker."""
    own = str(package_folder("fedrsclip_core").parent)
    python_path = os.pathsep.join(filter(None, [own, os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        "PYTHONPATH": python_path,
        **one_thread(site),
    }


def gpu_environments(jobs: int | None) -> list[dict[str, str]]:
    """Share this machine's GPUs out among ``jobs`` workers, by default one per GPU."""
    devices = visible_gpus()
    if not devices:
        raise ConfigError("federation.device is cuda but this machine has no CUDA device")
    count = len(devices)
    return [{"CUDA_VISIBLE_DEVICES": devices[i % count]} for i in range(jobs or count)]
