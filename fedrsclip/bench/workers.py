"""Processes that run cells, one cell at a time each; they end when this process does."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedrsclip_core.errors import ConfigError
from fedrsclip_core.wire.digests import package_folder

_MODULE = "fedrsclip.bench.worker"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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


def worker_environment(site: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a worker."""
    own = str(package_folder("fedrsclip_core").parent)
    python_path = os.pathsep.join(filter(None, [own, os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        **dict.fromkeys(_ONE_THREAD, "1"),
        "PYTHONPATH": python_path,
        **site,
    }


def gpu_environments(jobs: int | None) -> list[dict[str, str]]:
    """Share this machine's GPUs out among ``jobs`` workers, by default one per GPU."""
    from fedrsclip.machine import available_gpus

    count = available_gpus()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = given.split(",")[:count] if given else [str(number) for number in range(count)]
    if not devices:
        raise ConfigError("federation.device is cuda but this machine has no CUDA device")
    return [{"CUDA_VISIBLE_DEVICES": devices[i % count]} for i in range(jobs or count)]
