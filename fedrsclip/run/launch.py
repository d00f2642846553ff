"""`fedrsclip run`: one simulated federation from overrides to results, leaving nothing behind."""

import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrsclip.data.split_record import split_record
from fedrsclip.report import draw_pictures
from fedrsclip.run import preflight
from fedrsclip.run.own_tuning import own_overrides
from fedrsclip.run.processes import undisturbed
from fedrsclip.run.resume import with_resumed
from fedrsclip.run.site_logs import SiteLogs
from fedrsclip.run.staging import stage_app
from fedrsclip.run.superlink import RunStatus, StatusQuestion, SuperLink, scratch_folder, tail
from fedrsclip_core import machine
from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.schema import Config
from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.lines import final_table, round_line
from fedrsclip_core.runs.records import SplitRecord
from fedrsclip_core.runs.run_folder import COMPLETED, STOPPED, Follower, RunFolder

_TAIL_SECONDS = 0.2
_SOONEST_QUESTION, _LATEST_QUESTION = 5.0, 30.0


@dataclass(frozen=True)
class Submission:
    """What is handed to Flower and what stays on this machine."""

    config: Config
    overrides: tuple[str, ...]
    environment: dict[str, str]
    split: SplitRecord
    found_revisions: dict[str, str]


def prepare(overrides: Sequence[str], *, echo: Callable[[str], None] = print) -> Submission:
    """Compose, check machine, model and data, and settle what a server cannot know.

    Images are read for the record of the split only where no earlier run has read them.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show, before anything is started.
    """
    overrides = configuration.for_simulation(_with_own_tuning(overrides, echo))
    travelling, _ = configuration.split_site_overrides(overrides)
    config = preflight.compose_here(overrides)
    machine.check_resources(config.federation)
    machine.check_tensorboard(config.run)
    classes = preflight.check_for_simulation(config)
    if not config.data.class_names and config.data.name != "demo_scenes":
        listed = ",".join(map(configuration.quote, classes))
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
    cache = FeatureCache.of_images(paths.features_dir(), preflight.check_model(config))
    return Submission(
        configuration.compose(travelling),
        tuple(travelling),
        preflight.site_environment(config),
        split_record(config, lambda source: cache.content_hashes(source, echo)),
        found,
    )


def _with_own_tuning(overrides: Sequence[str], echo: Callable[[str], None]) -> list[str]:
    """Add what this user has tuned, and say so; a resumed run keeps what it was started with."""
    resumed = with_resumed(overrides)
    if resumed != list(overrides):
        return resumed
    own = own_overrides(overrides, paths.tuned_file())
    if own:
        echo(f"tuned values: {' '.join(own)}, from {paths.tuned_file()}")
    return [*own, *overrides]


def run(overrides: Sequence[str], *, echo: Callable[[str], None] = print) -> int:
    """Run a federation to its end and return its true exit status.

    Raises
    ------
    FedRSCLIPError
        If it cannot start.
    KeyboardInterrupt
        After everything was stopped.
    """
    submission = prepare(overrides, echo=echo)
    config = submission.config
    assert config.run.name is not None
    folder = RunFolder(paths.runs_dir().resolve() / config.run.name)
    follower = Follower(folder)
    logs = SiteLogs(paths.logs_dir().resolve())
    echo(_headline(config))
    for key, commit in submission.found_revisions.items():
        echo(f"{key} is not set: this run records {commit}; set it for the same in other runs")
    with scratch_folder() as scratch:
        link = SuperLink(scratch, submission.environment)
        run_id = None
        status = None
        try:
            app = stage_app(scratch / "app")
            link.start()
            run_config = configuration.to_run_config(config, submission.overrides)
            run_id = link.submit(app, run_config, _federation_config(config))
            status = _follow(link, run_id, follower, submission.split, echo)
            if status.status == "finished:completed" and _show_results(follower, echo):
                return 0
            log = _keep_log(config.run.name, link, run_id)
            echo(f"the run failed: {_reason(status, follower, log)} (log: {log})")
            for sentence in logs.failures():
                echo(sentence)
            _offer_resume(folder, echo)
            return 1
        except KeyboardInterrupt:
            _offer_resume(folder, echo)
            raise
        finally:
            with undisturbed():
                if run_id is not None and status is None and link.running:
                    echo("stopping the run")
                    link.stop_run(run_id)
                link.end()


def _offer_resume(folder: RunFolder, echo: Callable[[str], None]) -> None:
    if folder.can_be_resumed():
        echo(f"go on with it: fedrsclip run resume={folder.name}")


def _follow(
    link: SuperLink,
    run_id: str,
    follower: Follower,
    split: SplitRecord,
    echo: Callable[[str], None],
) -> RunStatus:
    """Keep the split and print a line per round until Flower says that the run is over."""
    pace = QuestionPace(time.monotonic())
    with StatusQuestion(link, run_id) as question:
        while True:
            status = question.answer()
            for record in follower.new_rounds():
                follower.folder.keep_split(split)
                echo(round_line(record))
                pace.round_came(time.monotonic())
            if status is not None and status.finished:
                return status
            # After the results only Flower's own shutdown is left.
            if pace.is_due(time.monotonic()) or follower.has_results():
                question.ask()
                pace.asked(time.monotonic())
            if not link.running:
                raise RunError(f"Flower's SuperLink ended by itself: {tail(link.log)}")
            time.sleep(_TAIL_SECONDS)


class QuestionPace:
    """When to ask Flower for a run's status, which costs more than a second of CPU.

    As long as rounds come, the run lives; when they stay away for twice as long as the last one
    took, or before the first, it is asked, and then ever less often.

    Parameters
    ----------
    now : float
        The run's start, in seconds of a monotonic clock.
    """

    def __init__(self, now: float) -> None:
        self._pause = _SOONEST_QUESTION
        self._last_round = now
        self._next = now + self._pause

    def is_due(self, now: float) -> bool:
        """Whether to ask."""
        return now >= self._next

    def asked(self, now: float) -> None:
        """Take note that it was asked."""
        self._pause = min(1.5 * self._pause, _LATEST_QUESTION)
        self._next = now + self._pause

    def round_came(self, now: float) -> None:
        """Take note of a round's end."""
        took = now - self._last_round
        self._pause = min(max(2 * took, _SOONEST_QUESTION), _LATEST_QUESTION)
        self._last_round, self._next = now, now + self._pause


def _show_results(follower: Follower, echo: Callable[[str], None]) -> bool:
    """Print table and pictures of a completed run; return whether it is one."""
    results = follower.results()
    if results is None or results["status"] != COMPLETED:
        return False
    echo("")
    echo(final_table(results))
    echo("")
    _draw(follower.folder, echo)
    echo(f"results: {follower.folder.path}")
    return True


def _draw(folder: RunFolder, echo: Callable[[str], None]) -> None:
    """Draw a run's pictures; one that cannot be drawn must not cost the run its status."""
    try:
        for picture in draw_pictures(folder.path):
            echo(f"picture: {picture}")
    except Exception as error:
        echo(f"the pictures were not drawn ({type(error).__name__}: {error})")


def _keep_log(name: str, link: SuperLink, run_id: str) -> Path:
    """Save what Flower logged; the folder it lay in is about to go."""
    target = paths.logs_dir() / f"{name}.flower.log"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(link.log, target)
    with target.open("a", encoding="utf-8") as file:
        file.write(link.run_log(run_id))
    return target


def _reason(status: RunStatus, follower: Follower, log: Path) -> str:
    details = status.details.removeprefix("Simulation failed with exception: ")
    results = follower.results()
    reason = results["reason"] if results else None
    if reason in (None, STOPPED):
        # Whatever ends a ServerApp looks like a stop from inside; Flower may know more.
        reason = details or reason or status.status
    # Flower hides this one behind a general sentence.
    if "ActorPool is empty" in log.read_text(encoding="utf-8", errors="replace"):
        return (
            f"{reason.rstrip('.')}: Ray could start no client with the CPUs and GPUs that "
            "federation.client_cpus and federation.client_gpus ask for"
        )
    return reason


def _headline(config: Config) -> str:
    federation = config.federation
    return (
        f"run {config.run.name}: {config.method} with {config.model.name}, "
        f"{federation.num_clients} clients ({config.partition.name}), "
        f"{federation.num_rounds} rounds"
    )


def _federation_config(config: Config) -> str:
    federation = config.federation
    # Ray would start as many client processes as the machine has room for; more than there are
    # clients only cost memory.
    cpus = min(machine.available_cpus(), federation.client_cpus * federation.num_clients)
    return (
        f"num-supernodes={federation.num_clients} "
        f"client-resources-num-cpus={federation.client_cpus} "
        f"client-resources-num-gpus={float(federation.client_gpus)} "
        f"init-args-num-cpus={cpus}"
    )


def _new_name(method: str, data: str) -> str:
    return f"{method}-{data}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
