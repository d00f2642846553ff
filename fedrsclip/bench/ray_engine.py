"""Cells as tasks of a Ray cluster, all of whose nodes share one folder.

A task whose process or node dies is given to another one, where the run is resumed from its last
checkpoint. A run is held by one process at a time, so that none is carried out twice at once.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedrsclip.bench.found import why_not_counted
from fedrsclip.bench.schedule import Done, Job, Schedule
from fedrsclip.ray_cluster.at_node import Expected, problem_here
from fedrsclip.ray_cluster.nodes import Nodes, Share, cluster_address
from fedrsclip_core.errors import ConfigError

ADDRESS = "bench.address"
"""The key that names the cluster."""

_LOOK_EVERY = 5.0
_SHOWN_WITHIN = 60.0
_MORE_TRIES = 5
"""How often a cell is started again whose process or node died."""
_LOCK_PATIENCE = 60.0
"""Seconds for an earlier attempt at a cell to end, whose node may be only half dead."""
_OTHERS = "its cells are resumed elsewhere"
_NONE_LEFT = "no node has room for a cell now, until one joins"


class RayEngine:
    """Runs cells on the nodes of the cluster that this process is connected with.

    Parameters
    ----------
    share : Share
        What each cell takes.
    jobs : int or None
        Cells at a time; ``None`` for as many as there is room for, also at nodes that come later.
    environment : Mapping[str, str]
        Added to that of the cells' processes.
    folder : Path
        The benchmark's, on which this process has the lock.
    echo : Callable[[str], None]
        Receives lines for a person.

    Raises
    ------
    ConfigError
        If no node has room for a cell.
    """

    def __init__(
        self,
        share: Share,
        jobs: int | None,
        environment: Mapping[str, str],
        folder: Path,
        echo: Callable[[str], None],
    ) -> None:
        self._share, self._jobs, self._folder, self._echo = share, jobs, folder, echo
        self._environment = dict(environment)
        self._expected = Expected.in_held(folder)
        self._nodes = Nodes(share)
        room = self._nodes.room
        self.at_once = min(room, jobs or room)
        if not room:
            raise ConfigError(
                f"no node of the Ray cluster at {cluster_address()} has {share} for a cell: set "
                "bench.cell_cpus and bench.cell_gpus to what its nodes have"
            )
        echo(f"Ray at {cluster_address()}: room for {room} cells at a time ({self._nodes.names})")

    def check_nodes(self, configurations: Sequence[str]) -> None:
        """Ask each node for what cells of these resolved configurations need.

        Raises
        ------
        RunError
            Naming the node and what is wrong there.
        """
        self._nodes.check("run cells", self._expected, configurations, self._environment)

    def ended(self, schedule: Schedule) -> Iterator[Done]:
        """Run the jobs and yield each as it ends."""
        import ray

        task = ray.remote(
            num_cpus=self._share.cpus,
            num_gpus=self._share.gpus,
            max_retries=_MORE_TRIES,
            # A process that has begun with one GPU cannot be given another.
            max_calls=1 if self._share.gpus else 0,
            runtime_env={"env_vars": self._environment},
        )(run_cell_here)
        running: dict[Any, Job] = {}
        while True:
            while self._jobs is None or len(running) < self._jobs:
                job = schedule.next_free()
                if job is None:
                    break
                if obstacle := schedule.obstacle(job):
                    schedule.ended(job, obstacle)
                    yield Done(job, obstacle, 0.0)
                    continue
                running[task.remote(job.cell.job, self._expected)] = job
            if not running:
                return
            ready, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_EVERY)
            for line in self._nodes.changes(_OTHERS, _NONE_LEFT):
                self._echo(line)
            for answer in ready:
                job, (error, seconds) = running.pop(answer), self._outcome(answer)
                error = why_not_counted(job.cell, error, _SHOWN_WITHIN)
                schedule.ended(job, error)
                yield Done(job, error, seconds)

    def _outcome(self, answer: Any) -> tuple[str, float]:
        import ray

        try:
            error, seconds = ray.get(answer)
        except ray.exceptions.RayTaskError as failed:
            return f"its task failed ({failed.cause!r}): see {self._folder}/worker-*.log", 0.0
        except ray.exceptions.RayError as failed:
            return (
                f"its process died {_MORE_TRIES + 1} times ({type(failed).__name__}): see "
                f"{self._folder}/worker-*.log"
            ), 0.0
        return str(error), float(seconds)


def run_cell_here(job: Mapping[str, Any], expected: Expected) -> tuple[str, float]:
    """Run one cell, or what is left of it, at a node.

    Parameters
    ----------
    job : Mapping[str, Any]
        As for :func:`fedrsclip.bench.worker.run_cell`.
    expected : Expected
        What this node must have; it may have joined after the others were asked.

    Returns
    -------
    tuple[str, float]
        Why it failed, empty if it is completed, and the seconds that it took.
    """
    start, node = time.monotonic(), socket.gethostname()
    if problem := problem_here(expected):
        return f"the node {node} cannot run cells: {problem}", 0.0
    _print_to(Path(expected.token_file).with_name(f"worker-{node}-{os.getpid()}.log"))
    from fedrsclip.bench.worker import run_cell
    from fedrsclip_core.runs import paths

    _wait_for(paths.runs_dir() / job["name"])
    return run_cell(job)["error"], time.monotonic() - start


def _wait_for(folder: Path) -> None:
    from fedrsclip_core.runs import lock

    deadline = time.monotonic() + _LOCK_PATIENCE
    while lock.is_held(folder) and time.monotonic() < deadline:
        time.sleep(0.5)


def _print_to(log: Path) -> None:
    """Append all that this process prints to a file; a worker of Ray serves one benchmark."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
