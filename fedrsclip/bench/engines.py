"""What runs the cells: processes beside this one, or a Ray cluster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from fedrsclip.bench.description import RAY, Description
from fedrsclip.bench.preparation import Prepared
from fedrsclip.bench.ray_engine import ADDRESS, RayEngine
from fedrsclip.bench.schedule import Done, Schedule
from fedrsclip.bench.workers import LocalEngine, gpu_environments, one_thread
from fedrsclip.ray_cluster.connection import AUTO, connected
from fedrsclip.ray_cluster.nodes import Share
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.machine import available_cpus

Echo = Callable[[str], None]


class Engine(Protocol):
    """Runs cells."""

    @property
    def at_once(self) -> int:
        """How many cells are run at a time."""

    def ended(self, schedule: Schedule) -> Iterator[Done]:
        """Run the jobs and yield each as it ends."""


@contextmanager
def engine_for(
    description: Description, prepared: Prepared, lock: IO[bytes], echo: Echo
) -> Iterator[Engine]:
    """Have the engine that the benchmark names; with it end the processes of its cells.

    Parameters
    ----------
    description, prepared
        The benchmark.
    lock : IO[bytes]
        Held by processes beside this one, too.
    echo : Callable[[str], None]
        Receives lines for a person.

    Raises
    ------
    FedRSCLIPError
        If cells could not run there.
    """
    bench = description.bench
    if bench.engine == RAY:
        share = _share(description, prepared)
        with connected(bench.address or AUTO, ADDRESS):
            cluster = RayEngine(
                share, bench.jobs, one_thread(prepared.site), description.place, echo
            )
            cluster.check_nodes(prepared.configurations)
            yield cluster
        return
    if prepared.on_gpus:
        environments = [prepared.site | own for own in gpu_environments(bench.jobs)]
    else:
        environments = [prepared.site] * (bench.jobs or available_cpus())
    local = LocalEngine(environments[: len(prepared.jobs)], description.place, lock)
    try:
        yield local
    finally:
        local.end()


def _share(description: Description, prepared: Prepared) -> Share:
    bench = description.bench
    if bench.cell_gpus is not None and not prepared.on_gpus:
        raise ConfigError(
            f"bench.cell_gpus is {bench.cell_gpus:g} but cells compute on CPUs: give "
            "federation.device=cuda, too"
        )
    return Share(bench.cell_cpus or 1.0, (bench.cell_gpus or 1.0) if prepared.on_gpus else 0.0)
