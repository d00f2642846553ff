"""A simulation by Flower's own engine: a SuperLink of its own, on which Ray runs the clients."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fedrsclip.run.connection import RunStatus
from fedrsclip.run.encoded import Encoded
from fedrsclip.run.follow import Rounds, follow
from fedrsclip.run.preparation import Failure, Simulation
from fedrsclip.run.processes import undisturbed
from fedrsclip.run.staging import scratch_folder, stage_app
from fedrsclip.run.superlink import SuperLink
from fedrsclip.run.waiting import Waiting, awaited
from fedrsclip_core.config.schema import FederationConfig
from fedrsclip_core.machine import available_cpus
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.run_folder import COMPLETED, STOPPED, Follower, RunFolder

RAY_WAS_SLOW = "Ray did not start in the seconds that it gives itself, as on a busy machine"
_SLOW_RAY = ("The current node timed out during startup", "Timed out waiting for file")
"""Ray's words, from before any client has worked: it cannot be told to wait longer for itself."""
_STARTS = 3


@dataclass(frozen=True)
class FlowerFailure(Failure):
    """Why a run failed; ``ray_was_slow``: nothing has been computed, another try may succeed."""

    ray_was_slow: bool


def described(federation: FederationConfig) -> str:
    """Say what carries out the run."""
    return "Flower's simulation, with its SuperLink and Ray"


def simulate(
    simulation: Simulation, folder: RunFolder, echo: Callable[[str], None]
) -> Failure | None:
    """Run it and leave no process; ``None`` if it completed.

    One whose Ray is too slow to start, which a busy machine does to it, is started again.
    """
    failure = _simulate(simulation, folder, echo)
    for start in range(2, _STARTS + 1):
        if failure is None or not failure.ray_was_slow:
            break
        echo(f"{RAY_WAS_SLOW}: starting the run again, {start} of at most {_STARTS} times")
        failure = _simulate(_to_be_resumed(simulation, folder), folder, echo)
    return failure


def _simulate(
    simulation: Simulation, folder: RunFolder, echo: Callable[[str], None]
) -> FlowerFailure | None:
    follower, resumed = Follower(folder), folder.has_begun()
    rounds = Rounds(follower, simulation.split)
    federation = simulation.federation
    encoded = Encoded(simulation.cache, simulation.split)
    with scratch_folder() as scratch, Waiting.on_terminal(echo) as waiting:
        link = SuperLink(scratch, simulation.environment)
        run_id, status = "", None

        def look() -> None:
            link.check()
            what = awaited(follower, federation.num_rounds, rounds.last_round, resumed=resumed)
            begun = rounds.last_round is not None
            counted = None if begun else encoded.awaited()
            waiting.waits_for(counted or what, in_files=not begun)

        try:
            waiting.waits_for("Flower's SuperLink")
            app = stage_app(scratch / "app")
            connection = link.start()
            waiting.waits_for("Flower, which takes the run")
            settings = simulation_settings(federation)
            run_id = connection.submit(app, simulation.submission.run_config(), settings)
            status = follow(connection, run_id, rounds, waiting.echo, check=look)
            results = follower.results()
            if status.completed and results is not None and results["status"] == COMPLETED:
                return None
            log = _keep_log(folder, link.log, connection.log(run_id))
            return failure_of(status, follower, log)
        finally:
            waiting.ends()
            with undisturbed():
                # Nobody else will ask this SuperLink for the run: it need not be told of a stop,
                # during which rounds would go on. What a run has written is whole at any moment.
                if run_id and status is None:
                    echo("stopping the run")
                link.end()


def _to_be_resumed(simulation: Simulation, folder: RunFolder) -> Simulation:
    """Return the same run, whose server has taken its folder if it came that far."""
    if not folder.has_begun():
        return simulation
    return replace(simulation, submission=simulation.submission.resumed())


def _keep_log(folder: RunFolder, superlink: Path, run: str) -> Path:
    """Save what Flower logged; the folder it lay in is about to go."""
    target = paths.logs_dir() / f"{folder.name}.flower.log"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(superlink, target)
    with target.open("a", encoding="utf-8") as file:
        file.write(run)
    return target


def failure_of(status: RunStatus, follower: Follower, log: Path) -> FlowerFailure:
    """Return the most telling sentence of Flower, the run's results and Flower's log."""
    details = status.details.removeprefix("Simulation failed with exception: ")
    results = follower.results()
    reason = results["reason"] if results else None
    if reason in (None, STOPPED):
        # Whatever ends a ServerApp looks like a stop from inside; Flower may know more.
        reason = details or reason or status.status
    logged = log.read_text(encoding="utf-8", errors="replace")
    # Flower hides these behind a general sentence.
    if "ActorPool is empty" in logged:
        reason = (
            f"{reason.rstrip('.')}: Ray could start no client with the CPUs and GPUs that "
            "federation.client_cpus and federation.client_gpus ask for"
        )
    ray_was_slow = any(words in logged for words in _SLOW_RAY)
    return FlowerFailure(RAY_WAS_SLOW if ray_was_slow else reason, log, ray_was_slow)


def simulation_settings(federation: FederationConfig) -> str:
    """Return how many clients Flower simulates, and with what."""
    # Ray would start as many client processes as the machine has room for; more than there are
    # clients only cost memory.
    cpus = min(available_cpus(), federation.client_cpus * federation.num_clients)
    return (
        f"num-supernodes={federation.num_clients} "
        f"client-resources-num-cpus={federation.client_cpus} "
        f"client-resources-num-gpus={float(federation.client_gpus)} "
        f"init-args-num-cpus={cpus}"
    )
