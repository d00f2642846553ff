"""`fedrsclip run`: one simulated federation from overrides to results, leaving nothing behind."""

import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedrsclip import machine
from fedrsclip.data.split_record import split_record
from fedrsclip.run import preflight
from fedrsclip.run.connection import RunStatus
from fedrsclip.run.decoding import decode_some
from fedrsclip.run.follow import Rounds, draw, follow
from fedrsclip.run.home import check_home
from fedrsclip.run.imports import with_imports
from fedrsclip.run.one_pass import encode_once
from fedrsclip.run.own_tuning import as_started_here
from fedrsclip.run.processes import undisturbed
from fedrsclip.run.site_logs import SiteLogs
from fedrsclip.run.staging import scratch_folder, stage_app
from fedrsclip.run.submission import ENGINE_KEYS, Submission, submission, without_hosts
from fedrsclip.run.superlink import SuperLink
from fedrsclip.run.waiting import Waiting, awaited
from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.class_texts import with_class_file
from fedrsclip_core.config.overrides import for_simulation, quote, split_site_overrides
from fedrsclip_core.config.reading import reading_of
from fedrsclip_core.config.schema import Config, FederationConfig
from fedrsclip_core.config.unread import with_implied_options
from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.data.sources import ImageSource
from fedrsclip_core.machine import available_cpus, check_tensorboard
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.lines import final_table
from fedrsclip_core.runs.records import SplitRecord
from fedrsclip_core.runs.run_folder import COMPLETED, STOPPED, Follower, RunFolder
from server_app.attempts import check_start

RAY_WAS_SLOW = "Ray did not start in the seconds that it gives itself, as on a busy machine"
_SLOW_RAY = ("The current node timed out during startup", "Timed out waiting for file")
"""Ray's words, from before any client has worked: it cannot be told to wait longer for itself."""
_STARTS = 3


@dataclass(frozen=True)
class Simulation:
    """A run, and what of it stays on this machine."""

    submission: Submission
    environment: dict[str, str]
    split: SplitRecord
    found_revisions: dict[str, str]


@dataclass(frozen=True)
class Failure:
    """Why a run failed.

    Attributes
    ----------
    reason : str
        One sentence.
    log : Path
        What Flower logged.
    ray_was_slow : bool
        Whether that is all: nothing has been computed, and another try may succeed.
    """

    reason: str
    log: Path
    ray_was_slow: bool


def prepare(overrides: Sequence[str], *, echo: Callable[[str], None] = print) -> Simulation:
    """Compose, check machine, model and data, and settle what a server cannot know.

    Images are read for the record of the split only where no earlier run has read them.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show, before anything is started.
    """
    check_home()
    given = with_imports(overrides, echo)
    overrides = with_implied_options(for_simulation(as_started_here(given, echo)))
    travelling, _ = split_site_overrides(with_class_file(overrides))
    config = preflight.compose_here(overrides, given=given)
    machine.check_resources(config.federation)
    check_tensorboard(config.run)
    preflight.check_starts(config)
    slow = machine.slow_bfloat16(config)
    unread = [*preflight.unread_variables(config), *preflight.unread_readings()]
    for line in [*unread, *([slow] if slow else [])]:
        echo(line)
    unasked = preflight.refresh_data(config)
    classes = preflight.check_for_simulation(config)
    for note in [*([unasked] if unasked else []), *preflight.data_notes(config)]:
        echo(note)
    if not config.data.class_names and config.data.name != "demo_scenes":
        listed = ",".join(map(quote, classes))
        travelling.append(f"data.class_names=[{listed}]")
    # Without these, a run that is resumed would take what is newest on another day.
    revisions = {
        "model.revision": preflight.found_model_revision(config),
        "data.hub_revision": preflight.found_data_revision(config),
    }
    found = {key: commit for key, commit in revisions.items() if commit is not None}
    travelling += [f"{key}={commit}" for key, commit in found.items()]
    if config.run.name is None:
        data = configuration.choices(overrides)["data"]
        travelling.append(f"run.name={_new_name(config.method, data)}")
    submitted = submission(without_hosts(config, travelling, ENGINE_KEYS))
    check_start(submitted.config)
    files = preflight.check_model(config)
    cache = FeatureCache.of_images(paths.features_dir(), files, reading_of(config.data))
    if config.data.streaming:
        encode_once(config, files, preflight.images_of(config), echo)
    return Simulation(
        submitted,
        preflight.site_environment(config),
        split_record(config, lambda source: _hashes(source, cache, echo)),
        found,
    )


def _hashes(
    source: ImageSource, cache: FeatureCache, echo: Callable[[str], None]
) -> list[str | None]:
    """Return each image's content hash; of images that are all new, see first that some decode."""

    def try_some(unknown: list[int]) -> None:
        if len(unknown) == len(source):
            decode_some(source, unknown)

    return cache.content_hashes(source, echo, try_some)


def run(overrides: Sequence[str], *, echo: Callable[[str], None] = print) -> int:
    """Run a federation to its end and return its true exit status.

    One whose Ray is too slow to start, which a busy machine does to it, is started again.

    Raises
    ------
    FedRSCLIPError
        If it cannot start.
    KeyboardInterrupt
        After everything was stopped.
    """
    with Waiting.on_terminal(echo) as waiting:
        waiting.waits_for("a look at images and CLIP")
        simulation = prepare(overrides, echo=waiting.echo)
    folder = RunFolder(paths.runs_dir().resolve() / simulation.submission.name)
    logs = SiteLogs(paths.logs_dir().resolve())
    echo(_headline(simulation.submission.config))
    for key, commit in simulation.found_revisions.items():
        echo(f"{key} is not set: this run records {commit}; set it for the same in other runs")
    try:
        failure = _simulate(simulation, folder, echo)
        for start in range(2, _STARTS + 1):
            if failure is None or not failure.ray_was_slow:
                break
            echo(f"{RAY_WAS_SLOW}: starting the run again, {start} of at most {_STARTS} times")
            failure = _simulate(_to_be_resumed(simulation, folder), folder, echo)
    except KeyboardInterrupt:
        if folder.state().word == COMPLETED:
            echo("the run was completed before it could be interrupted")
            _show_completed(folder, echo)
            return 0
        _offer_resume(folder, echo)
        raise
    if failure is None:
        return 0
    echo(f"the run failed: {failure.reason} (log: {failure.log})")
    for sentence in logs.failures():
        echo(sentence)
    _offer_resume(folder, echo)
    return 1


def _simulate(
    simulation: Simulation, folder: RunFolder, echo: Callable[[str], None]
) -> Failure | None:
    """Run it on a SuperLink of its own and leave no process; ``None`` if it completed."""
    follower, resumed = Follower(folder), folder.has_begun()
    rounds = Rounds(follower, simulation.split)
    federation = simulation.submission.config.federation
    with scratch_folder() as scratch, Waiting.on_terminal(echo) as waiting:
        link = SuperLink(scratch, simulation.environment)
        run_id, status = "", None

        def look() -> None:
            link.check()
            what = awaited(follower, federation.num_rounds, rounds.last_round, resumed=resumed)
            waiting.waits_for(what)

        try:
            waiting.waits_for("Flower's SuperLink")
            app = stage_app(scratch / "app")
            connection = link.start()
            waiting.waits_for("Flower, which takes the run")
            settings = simulation_settings(federation)
            run_id = connection.submit(app, simulation.submission.run_config(), settings)
            status = follow(connection, run_id, rounds, waiting.echo, check=look)
            waiting.waits_for("the pictures")
            if status.completed and _show_results(follower, waiting.echo):
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


def _offer_resume(folder: RunFolder, echo: Callable[[str], None]) -> None:
    if folder.can_be_resumed():
        echo(f"resume it: fedrsclip run resume={folder.name}")


def _show_results(follower: Follower, echo: Callable[[str], None]) -> bool:
    """Print table and pictures of a completed run; return whether it is one."""
    results = follower.results()
    if results is None or results["status"] != COMPLETED:
        return False
    _show_completed(follower.folder, echo)
    return True


def _show_completed(folder: RunFolder, echo: Callable[[str], None]) -> None:
    results = folder.results()
    if results is not None:
        echo("")
        echo(final_table(results))
        echo("")
    draw(folder, echo)
    echo(f"results: {folder.path}")


def _keep_log(folder: RunFolder, superlink: Path, run: str) -> Path:
    """Save what Flower logged; the folder it lay in is about to go."""
    target = paths.logs_dir() / f"{folder.name}.flower.log"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(superlink, target)
    with target.open("a", encoding="utf-8") as file:
        file.write(run)
    return target


def failure_of(status: RunStatus, follower: Follower, log: Path) -> Failure:
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
    return Failure(RAY_WAS_SLOW if ray_was_slow else reason, log, ray_was_slow)


def _headline(config: Config) -> str:
    federation = config.federation
    return (
        f"run {config.run.name}: {config.method} with {config.model.name}, "
        f"{federation.num_clients} clients ({config.partition.name}), "
        f"{federation.num_rounds} rounds"
    )


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


def _new_name(method: str, data: str) -> str:
    return f"{method}-{data}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
