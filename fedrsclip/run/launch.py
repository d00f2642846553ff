"""`fedrsclip run`: one simulated federation from overrides to results, leaving nothing behind."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from fedrsclip.run.site_logs import SiteLogs
from fedrsclip.run.waiting import Waiting
from fedrsclip.simulation.fork_server import start_fork_server
from fedrsclip_core.config.overrides import split_override
from fedrsclip_core.config.schema import FLOWER, Config, FederationConfig
from fedrsclip_core.errors import FedRSCLIPError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.lines import final_table
from fedrsclip_core.runs.run_folder import COMPLETED, RunFolder

if TYPE_CHECKING:
    from fedrsclip.run.preparation import Failure, Simulation


def run(overrides: Sequence[str], *, echo: Callable[[str], None] = print) -> int:
    """Run a federation to its end and return its true exit status.

    Raises
    ------
    FedRSCLIPError
        If it cannot start.
    KeyboardInterrupt
        After everything was stopped.
    """
    if not _names_flower(overrides):
        start_fork_server()
    with Waiting.on_terminal(echo) as waiting:
        waiting.waits_for("a look at images and CLIP")
        # Not at the top: this and the engines import Flower, while the fork server imports torch.
        from fedrsclip.run.preparation import prepare

        simulation = prepare(overrides, echo=waiting.echo)
    folder = RunFolder(paths.runs_dir().resolve() / simulation.submission.name)
    logs = SiteLogs(paths.logs_dir().resolve())
    echo(_headline(simulation.submission.config))
    for key, commit in simulation.found_revisions.items():
        echo(f"{key} is not set: this run records {commit}; set it for the same in other runs")
    engine = _engine(simulation.federation)
    echo(f"engine: {engine.described(simulation.federation)}")
    try:
        failure = engine.simulate(simulation, folder, echo)
    except KeyboardInterrupt:
        if folder.state().word == COMPLETED:
            echo("the run was completed before it could be interrupted")
            _show_completed(folder, echo)
            return 0
        _offer_resume(folder, echo)
        raise
    except FedRSCLIPError:
        _offer_resume(folder, echo)
        raise
    if failure is None:
        _show_completed(folder, echo)
        return 0
    echo(f"the run failed: {failure.reason} (log: {failure.log})")
    for sentence in logs.failures():
        echo(sentence)
    _offer_resume(folder, echo)
    return 1


class _Engine(Protocol):
    """What carries out a simulation."""

    def described(self, federation: FederationConfig) -> str:
        """Say what it is."""

    def simulate(
        self, simulation: "Simulation", folder: RunFolder, echo: Callable[[str], None]
    ) -> "Failure | None":
        """Run it and leave no process; ``None`` if it completed."""


def _engine(federation: FederationConfig) -> _Engine:
    if federation.engine == FLOWER:
        from fedrsclip.run import flower

        return flower
    from fedrsclip.run import local

    return local


def _names_flower(overrides: Sequence[str]) -> bool:
    """Whether the client processes of this command would be started for nothing."""
    given = dict(map(split_override, overrides))
    return "federation.ray_address" in given or given.get("federation.engine") == FLOWER


def _offer_resume(folder: RunFolder, echo: Callable[[str], None]) -> None:
    if folder.can_be_resumed():
        echo(f"resume it: fedrsclip run resume={folder.name}")


def _show_completed(folder: RunFolder, echo: Callable[[str], None]) -> None:
    from fedrsclip.run.follow import draw

    results = folder.results()
    if results is not None:
        echo("")
        echo(final_table(results))
        echo("")
    draw(folder, echo)
    echo(f"results: {folder.path}")


def _headline(config: Config) -> str:
    federation = config.federation
    return (
        f"run {config.run.name}: {config.method} with {config.model.name}, "
        f"{federation.num_clients} clients ({config.partition.name}), "
        f"{federation.num_rounds} rounds"
    )
