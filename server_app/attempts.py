"""One attempt at a run: a new folder, or the folder of a run that was interrupted."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.config.unread import unread_keys
from fedrsclip_core.config.validation import flattened
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import lock, paths
from fedrsclip_core.runs.records import Description, Results, RoundRecord, UnreadableError
from fedrsclip_core.runs.run_folder import COMPLETED, RunFolder
from server_app.admission import COMMON_PARTS
from server_app.checkpoint import Checkpoint, newest_checkpoint
from server_app.given_start import given_start

_CLIP_OF, _VALUES = "clip-of", "values"
"""In ``digests.json``: what the CLIP's digest is over. Versions before 0.2 did not say it."""
_MAY_CHANGE = {
    "run.name",
    "run.resume",
    "run.private_aside",
    "privacy.share_label_counts",
    "run.tensorboard",
    "federation.client_cpus",
    "federation.client_gpus",
    "federation.connect_timeout",
    "federation.prepare_timeout",
    "federation.round_timeout",
    "federation.min_clients",
    "federation.min_replies",
    "federation.max_failed_rounds",
    "federation.max_prompt_norm",
}
"""Keys that may differ when a run is resumed: they do not enter what is learned."""

_NO_RUN = 0
"""No run's id at Flower."""

Echo = Callable[[str], None]


@dataclass(frozen=True)
class Attempt:
    """Where a run starts.

    Attributes
    ----------
    folder : RunFolder
        The run's folder.
    checkpoint : Checkpoint or None
        Where to resume; ``None`` starts from the beginning.
    records : list[RoundRecord]
        The records that belong to the checkpoint.
    finished : Results or None
        The summary, if the run is completed and nothing is left to do.
    """

    folder: RunFolder
    checkpoint: Checkpoint | None = None
    records: list[RoundRecord] = field(default_factory=list)
    finished: Results | None = None

    @property
    def seconds(self) -> float:
        """Seconds that the run took until the checkpoint."""
        return 0.0 if self.checkpoint is None else self.checkpoint.seconds


@contextmanager
def open_attempt(config: Config, run_id: int, overrides: str, echo: Echo) -> Iterator[Attempt]:
    """Take hold of the run's folder.

    A run that Flower starts again (``run_id`` is known) is resumed where it was; so is another
    one with ``run.resume``.

    Parameters
    ----------
    config : Config
        The run's configuration.
    run_id : int
        Flower's run id; names the run if ``run.name`` is not set.
    overrides : str
        What was submitted; kept so that the run can be submitted again.
    echo : Callable[[str], None]
        Receives lines for a person.

    Raises
    ------
    RunError
        If the name is taken, another process holds the folder, or the run cannot go on.
    """
    name = config.run.name or f"run-{run_id}"
    folder = RunFolder(paths.runs_dir() / paths.safe_name(name, "run.name"))
    known = _known(folder)
    _check_name(folder, known, config.run.resume, run_id)
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        held = folder.hold()
    except BlockingIOError:
        raise _is_running(name) from None
    with held:
        yield _attempt(config, folder, known, run_id, overrides, echo)


def check_start(config: Config) -> None:
    """Refuse what :func:`open_attempt` and the run's start would refuse, before it is submitted.

    Nothing is written, and nobody who holds the folder is disturbed.

    Parameters
    ----------
    config : Config
        With ``run.name``; of a run that this machine's server would carry out.

    Raises
    ------
    RunError
        If the name is taken, there is nothing to resume, or what to start from is not here.
    """
    run = config.run
    if run.name is not None:
        folder = RunFolder.named(run.name)
        known = _known(folder)
        _check_name(folder, known, run.resume, _NO_RUN)
        if folder.path.exists() and not folder.path.is_dir():
            raise RunError(f"{folder.path} is not a folder: choose another run.name")
        if known is not None:
            if lock.is_held(folder.path):
                raise _is_running(run.name)
            _check_unfinished(folder)
            _check_same(config, known["config"], run.name)
    if run.shared_init_from is not None and not run.resume:
        given_start(run.shared_init_from)


def _check_unfinished(folder: RunFolder) -> None:
    ending = folder.ending()
    if ending is not None and ending["status"] == COMPLETED:
        raise RunError(f"run {folder.name} is completed: there is nothing to resume")


def _is_running(name: str) -> RunError:
    return RunError(f"run {name} is running in another process: wait for it or stop it")


def _check_name(folder: RunFolder, known: Description | None, resume: bool, run_id: int) -> None:
    if known is None:
        if resume:
            raise RunError(f"there is no run {folder.name} to resume in {folder.path.parent}")
        if folder.has_begun():
            raise RunError(f"a run named {folder.name} exists already: choose another run.name")
    elif not resume and run_id not in known["flower_run_ids"]:
        raise RunError(
            f"a run named {folder.name} exists already: choose another run.name, or resume it by "
            "run.resume=true"
        )


def _attempt(
    config: Config,
    folder: RunFolder,
    known: Description | None,
    run_id: int,
    overrides: str,
    echo: Echo,
) -> Attempt:
    name = folder.name
    before: list[int] = []
    if known is not None:
        before = known["flower_run_ids"]
        ending = folder.ending()
        if ending is not None and ending["status"] == COMPLETED:
            if run_id not in before:
                _check_unfinished(folder)
            return Attempt(folder, finished=folder.results())
        _check_same(config, known["config"], name)
        folder.remove_results()
    checkpoint = newest_checkpoint(folder, echo)
    folder.write_description(
        {
            "run": name,
            "flower_run_ids": [*(i for i in before if i != run_id), run_id],
            "overrides": overrides,
            "config": {key: v for key, v in flattened(config) if key not in SITE_KEYS},
        }
    )
    records = _rewound(folder, checkpoint, echo)
    if checkpoint is not None:
        echo(f"run {name} is resumed after round {checkpoint.progress.server_round}")
    elif known is not None:
        echo(
            f"run {name} was interrupted before its first checkpoint: it starts from the beginning"
        )
    return Attempt(folder, checkpoint, records)


def _known(folder: RunFolder) -> Description | None:
    try:
        return folder.description()
    except UnreadableError as error:
        raise RunError(f"{folder.path}: {error}; start the run under another run.name") from error


def _check_same(config: Config, old: Mapping[str, Any], name: str) -> None:
    # A key that an older version did not have meant there what it means by default.
    before = dict(flattened(Config())) | dict(old)
    # The default of a key that this run does not read may have changed since.
    may_differ = _MAY_CHANGE | set(SITE_KEYS) | unread_keys(config).keys()
    for key, value in flattened(config):
        if key not in may_differ and before[key] != value:
            raise RunError(
                f"run {name} was started with {key}={before[key]}, now it is {value}: resume it "
                "with the same configuration, or start a new run"
            )


def _rewound(folder: RunFolder, checkpoint: Checkpoint | None, echo: Echo) -> list[RoundRecord]:
    """Cut ``metrics.jsonl`` back to the checkpoint and return what is left of it."""
    wanted = 0 if checkpoint is None else checkpoint.metrics_bytes
    if folder.rounds_size() < wanted:
        echo("metrics.jsonl is shorter than the checkpoint says: some rounds are missing in it")
    folder.cut_rounds(wanted)
    log = folder.rounds()
    records = log.read()
    # A last line without its end would take the next round's line with it.
    folder.cut_rounds(log.size)
    for number in log.damaged:
        echo(f"line {number} of metrics.jsonl is damaged: its round is missing in the summary")
    return records


def begun_digests(folder: RunFolder, checkpoint: Checkpoint | None) -> dict[str, str]:
    """Return the digests with which a run that is resumed began, by part; empty for a new one.

    Raises
    ------
    RunError
        If their file is damaged.
    """
    found = folder.digests() if checkpoint is not None else None
    begun = {part: digest for part, digest in (found or {}).items() if digest}
    if begun.pop(_CLIP_OF, None) != _VALUES:
        # A version before 0.2 gave the same CLIP another digest; the clients are compared with
        # each other, as at a run's start.
        begun.pop("clip", None)
    return begun


def keep_digests(
    folder: RunFolder, begun: Mapping[str, str], found: Mapping[str, str | None], echo: Echo
) -> None:
    """Write ``digests.json``; the clients' own parts were compared when they were admitted."""
    if begun and begun.get("code") != found["code"]:
        echo("the code differs from that at the run's start: results may differ in bits")
    # A part that no client tells this time was told before.
    kept = {part: begun[part] for part in COMMON_PARTS if part in begun}
    folder.write_digests({**found, **kept, _CLIP_OF: _VALUES})
