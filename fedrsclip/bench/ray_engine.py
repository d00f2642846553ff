"""Cells as tasks of a Ray cluster, which `ray start` has made; all its nodes share one folder.

A task whose process or node dies is given to another one, where the run is resumed from its last
checkpoint. A run is held by one process at a time, so that none is carried out twice at once.
"""

import logging
import os
import secrets
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrsclip.bench.found import why_not_counted
from fedrsclip.bench.ray_node import Expected, problem_here, run_cell_here, software
from fedrsclip.bench.schedule import Done, Job, Schedule
from fedrsclip_core.errors import ConfigError, RunError
from fedrsclip_core.runs import fileio

AUTO = "auto"

_REACHED_WITHIN = 10.0
_ANSWERED_WITHIN = 180.0
_LOOK_EVERY = 5.0
_SHOWN_WITHIN = 60.0
_MORE_TRIES = 5
"""How often a cell is started again whose process or node died."""

Node = Mapping[str, Any]
"""A node as Ray describes it."""


@dataclass(frozen=True)
class Share:
    """What a cell takes of a node; several cells may share a GPU."""

    cpus: float
    gpus: float

    def fits(self, node: Node) -> int:
        """Return how many cells a node has room for."""
        has = node["Resources"]
        cells = _times(self.cpus, has.get("CPU", 0.0))
        if self.gpus >= 1:
            return min(cells, _times(self.gpus, has.get("GPU", 0.0)))
        if self.gpus > 0:  # no cell has parts of two GPUs
            return min(cells, int(has.get("GPU", 0.0)) * _times(self.gpus, 1.0))
        return cells

    def __str__(self) -> str:
        return f"CPU={self.cpus:g}" + (f" GPU={self.gpus:g}" if self.gpus else "")


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
        The benchmark's, for the logs.
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
        import ray

        self._share, self._jobs, self._folder, self._echo = share, jobs, folder, echo
        self._runtime = {"env_vars": dict(environment)}
        self._expected = Expected(software(), str(folder / ".shared"), secrets.token_hex(8))
        self._nodes = self._usable()
        room = sum(map(share.fits, self._nodes.values()))
        self.at_once = min(room, jobs or room)
        address = ray.get_runtime_context().gcs_address
        if not self._nodes:
            raise ConfigError(
                f"no node of the Ray cluster at {address} has {share} for a cell: set "
                "bench.cell_cpus and bench.cell_gpus to what its nodes have"
            )
        names = ", ".join(map(_name, self._nodes.values()))
        echo(f"Ray at {address}: room for {room} cells at a time ({names})")

    def check_nodes(self, settings: Sequence[Sequence[str]]) -> None:
        """Look for code, packages, shared folder, images and CLIP at each node.

        Parameters
        ----------
        settings : Sequence[Sequence[str]]
            The overrides of a cell of each setting.

        Raises
        ------
        RunError
            Naming the node and what is wrong there.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        fileio.write_text(Path(self._expected.token_file), self._expected.token)
        task: Any = ray.remote(problem_here)
        asked = {
            id: task.options(
                num_cpus=0,
                runtime_env=self._runtime,
                scheduling_strategy=NodeAffinitySchedulingStrategy(id, soft=False),
            ).remote(self._expected, settings)
            for id in self._nodes
        }
        for id, answer in asked.items():
            if problem := _answered(answer):
                raise RunError(f"the node {_name(self._nodes[id])} cannot run cells: {problem}")

    def ended(self, schedule: Schedule) -> Iterator[Done]:
        """Run the jobs and yield each as it ends."""
        import ray

        task = ray.remote(
            num_cpus=self._share.cpus,
            num_gpus=self._share.gpus,
            max_retries=_MORE_TRIES,
            # A process that has begun with one GPU cannot be given another.
            max_calls=1 if self._share.gpus else 0,
            runtime_env=self._runtime,
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
            self._say_who_came_and_went()
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

    def _usable(self) -> dict[str, Node]:
        import ray

        listed: Callable[[], list[Node]] = ray.nodes
        return {
            node["NodeID"]: node
            for node in listed()
            if node["Alive"] and self._share.fits(node) > 0
        }

    def _say_who_came_and_went(self) -> None:
        before, self._nodes = self._nodes, self._usable()
        for id in before.keys() - self._nodes.keys():
            others = "its cells are resumed elsewhere"
            waits = "no node has room for a cell now, until one joins"
            self._echo(f"the node {_name(before[id])} is gone: {others if self._nodes else waits}")
        for id in self._nodes.keys() - before.keys():
            self._echo(f"the node {_name(self._nodes[id])} has joined")


@contextmanager
def connected(given: str) -> Iterator[None]:
    """Be connected with a Ray cluster; its processes for this benchmark end with the connection.

    Parameters
    ----------
    given : str
        ``host:port``, or ``auto`` for ``RAY_ADDRESS`` or the cluster that `ray start` made here.

    Raises
    ------
    RunError
        If there is none, or it cannot be joined.
    """
    import ray

    address = _started_here() if given == AUTO else given
    _check_reached(address)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # on what a later Ray will do
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RunError(
            f"bench.address is {address}: no Ray cluster could be joined there ({reason}); make "
            "one with `ray start --head`"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _started_here() -> str:
    """Find a cluster as Ray does, but for those of simulations, which are nobody else's."""
    if (named := os.environ.get("RAY_ADDRESS")) and named != AUTO:
        return named
    try:
        left = Path(os.environ.get("RAY_TMPDIR") or "/tmp", "ray", "ray_current_cluster")
        return left.read_text(encoding="utf-8").strip()
    except OSError:
        raise RunError(
            "no Ray cluster was started on this machine: make one with `ray start --head`, or "
            "name another by bench.address=<host>:<port>"
        ) from None


def _check_reached(address: str) -> None:
    """Ray itself waits for minutes for who does not answer."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"bench.address is {address}: give auto, or host:port of a Ray cluster")
    try:
        socket.create_connection((host, int(port)), _REACHED_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise RunError(
            f"bench.address is {address}: nobody answers there ({error}); make a cluster with "
            "`ray start --head`, which says its address"
        ) from error


def _times(part: float, whole: float) -> int:
    """Return how often a part fits, counted in ten-thousandths as Ray does: 0.1 in 1 ten times."""
    return round(1e4 * whole) // max(1, round(1e4 * part))


def _answered(answer: Any) -> str:
    import ray

    try:
        return str(ray.get(answer, timeout=_ANSWERED_WITHIN))
    except ray.exceptions.GetTimeoutError:
        return f"it did not answer within {_ANSWERED_WITHIN:.0f} s"
    except ray.exceptions.RayTaskError as failed:
        return f"fedrsclip does not run there ({failed.cause!r})"
    except ray.exceptions.RayError as failed:
        return f"it does not carry out tasks ({type(failed).__name__})"


def _name(node: Node) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
