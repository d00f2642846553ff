"""A simulation by this command itself: the server here, clients in processes forked for them."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from fedrsclip import machine
from fedrsclip.run.encoded import Encoded
from fedrsclip.run.follow import Rounds
from fedrsclip.run.preparation import Failure, Simulation
from fedrsclip.run.processes import undisturbed
from fedrsclip.run.waiting import Waiting, next_after
from fedrsclip.simulation.client_processes import ClientProcess
from fedrsclip.simulation.parallel import ParallelGrid, Process
from fedrsclip_core.config.overrides import join_overrides
from fedrsclip_core.config.resolved import to_json
from fedrsclip_core.config.schema import FederationConfig
from fedrsclip_core.errors import FedRSCLIPError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.run_folder import Follower, RunFolder
from server_app.app import exchange_of, run

_RUN_ID = 1
"""The same in each attempt, so that an interrupted run is resumed under its name."""


def described(federation: FederationConfig) -> str:
    """Say what carries out the run."""
    if federation.ray_address is not None:
        return f"this command, and client processes on the Ray cluster {federation.ray_address}"
    count = machine.clients_at_once(federation)
    processes = "one client process" if count == 1 else f"{count} client processes"
    return f"this command and {processes} (federation.engine=flower: Flower's own, on Ray)"


def simulate(
    simulation: Simulation, folder: RunFolder, echo: Callable[[str], None]
) -> Failure | None:
    """Run it and leave no process; ``None`` if it completed."""
    federation = simulation.federation
    log = _Log(paths.logs_dir().resolve() / f"{folder.name}.local.log")
    with (
        Waiting.on_terminal(echo) as waiting,
        _client_processes(simulation, log.path, waiting) as starts,
    ):
        shown = _Shown(simulation, folder, waiting, log)
        grid = ParallelGrid(
            [
                {"partition-id": k, "num-partitions": federation.num_clients}
                for k in range(federation.num_clients)
            ],
            starts,
            run_id=_RUN_ID,
            tell=shown.tell,
        )

        def wait(seconds: float) -> None:
            grid.wait(seconds)
            shown.look()

        try:
            run(
                exchange_of(grid, processes=len(starts), wait=wait),
                simulation.submission.config,
                run_id=_RUN_ID,
                overrides=join_overrides(simulation.submission.overrides),
                echo=shown.say,
            )
        except FedRSCLIPError as error:
            return Failure(str(error), log.path)
        except Exception as error:
            log.write(traceback.format_exc())
            reason = f"an internal error of the server ({type(error).__name__})"
            return Failure(reason, log.path)
        finally:
            waiting.ends()
            with undisturbed():
                grid.end()
    log.remove()
    return None


class _Shown:
    """What a person sees of the run while it lasts: its rounds, and what is waited for."""

    def __init__(
        self, simulation: Simulation, folder: RunFolder, waiting: Waiting, log: "_Log"
    ) -> None:
        self._rounds = Rounds(Follower(folder), simulation.split)
        self._encoded = Encoded(simulation.cache, simulation.split)
        self._num_rounds = simulation.federation.num_rounds
        self._waiting, self._log = waiting, log
        self.look()

    def say(self, line: str) -> None:
        """Log what the server says, of which a person sees the rounds."""
        self._log.write(line)
        for shown in self._rounds.lines():
            self._waiting.echo(shown)
        self.look()

    def tell(self, line: str) -> None:
        """Log and show a line."""
        self._log.write(line)
        self._waiting.echo(line)

    def look(self) -> None:
        """Say what is waited for now."""
        last = self._rounds.last_round
        if last is not None:
            self._waiting.waits_for(next_after(last, self._num_rounds), in_files=False)
        else:
            loading = "the clients, which load images and CLIP"
            self._waiting.waits_for(self._encoded.awaited() or loading)


class _Log:
    """Takes what server and clients print; kept unless the run completes."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.path = path

    def write(self, line: str) -> None:
        """Append a line; a log that cannot be written stops nothing."""
        with suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def remove(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)


@contextmanager
def _client_processes(
    simulation: Simulation, log: Path, waiting: Waiting
) -> Iterator[Sequence[Callable[[], Process]]]:
    """Have, for each client process that computes at the same time, a function that starts it."""
    federation, environment = simulation.federation, simulation.environment
    if federation.ray_address is None:
        yield [
            partial(ClientProcess, environment | {"CUDA_VISIBLE_DEVICES": devices}, log, _RUN_ID)
            for devices in machine.client_devices(federation)
        ]
        return
    from fedrsclip.ray_cluster.client_actors import joined

    waiting.waits_for("the nodes of the Ray cluster")
    configuration = to_json(simulation.submission.config)
    with joined(federation, configuration, environment, _RUN_ID) as cluster:
        waiting.echo(cluster.words)
        yield cluster.starts
