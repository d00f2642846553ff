"""One attempt at a run: a new folder, or the folder of a run that was interrupted."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedrsclip_core.config.schema import SITE_KEYS, Config
from fedrsclip_core.config.validation import flattened
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import fileio, paths
from fedrsclip_core.runs import run_folder as runs
from server_app.checkpoint import Checkpoint, newest_checkpoint
from server_app.phase import Record

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
"""Keys that may be different when a run goes on: they do not enter what is learned."""

Echo = Callable[[str], None]


@dataclass(frozen=True)
class Attempt:
    """Where a run starts.

    Attributes
    ----------
    folder : Path
        The run's folder.
    run_name : str
        Its name.
    checkpoint : Checkpoint or None
        Where to go on; ``None`` starts anew.
    records : list[Record]
        The records that belong to the checkpoint.
    finished : Mapping[str, Any] or None
        The summary, if the run is completed and nothing is left to do.
    """

    folder: Path
    run_name: str
    checkpoint: Checkpoint | None = None
    records: list[Record] = field(default_factory=list)
    finished: Mapping[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """Seconds that the run took until the checkpoint."""
        return 0.0 if self.checkpoint is None else self.checkpoint.seconds


@contextmanager
def open_attempt(config: Config, run_id: int, overrides: str, echo: Echo) -> Iterator[Attempt]:
    """Take hold of the run's folder.

    A run that Flower starts again (``run_id`` is known) goes on where it was; so does another
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
    folder = paths.runs_dir() / paths.safe_name(name, "run.name")
    known = _known(folder)
    _check_name(folder, name, known, config.run.resume, run_id)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = runs.hold(folder)
    except BlockingIOError:
        raise RunError(
            f"run {name} is going on in another process: wait for it or stop it"
        ) from None
    with lock:
        yield _attempt(config, folder, name, known, run_id, overrides, echo)


def _check_name(
    folder: Path, name: str, known: Mapping[str, Any] | None, resume: bool, run_id: int
) -> None:
    if known is None:
        if resume:
            raise RunError(f"there is no run {name} to resume in {folder.parent}")
        if (folder / "results.json").exists() or (folder / "metrics.jsonl").exists():
            raise RunError(f"a run named {name} exists already: choose another run.name")
    elif not resume and run_id not in known["flower_run_ids"]:
        raise RunError(
            f"a run named {name} exists already: choose another run.name, or go on with it by "
            "run.resume=true"
        )


def _attempt(
    config: Config,
    folder: Path,
    name: str,
    known: Mapping[str, Any] | None,
    run_id: int,
    overrides: str,
    echo: Echo,
) -> Attempt:
    before: list[int] = []
    if known is not None:
        before = known["flower_run_ids"]
        results = folder / "results.json"
        finished = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else None
        if finished and finished["status"] == "completed":
            if run_id not in before:
                raise RunError(f"run {name} is completed: there is nothing to resume")
            return Attempt(folder, name, finished=finished)
        _check_same(config, known["config"], name)
        results.unlink(missing_ok=True)
    checkpoint = newest_checkpoint(folder / "checkpoint", name, echo)
    about = {
        "run": name,
        "flower_run_ids": [*(i for i in before if i != run_id), run_id],
        "overrides": overrides,
        "config": {key: v for key, v in flattened(config) if key not in SITE_KEYS},
    }
    fileio.write_json(folder / "run.json", about)
    records = _rewound(folder / "metrics.jsonl", checkpoint, echo)
    if checkpoint is not None:
        echo(f"run {name} goes on after round {checkpoint.progress.server_round}")
    elif known is not None:
        echo(f"run {name} was interrupted before its first checkpoint: it starts anew")
    return Attempt(folder, name, checkpoint, records)


def _known(folder: Path) -> Mapping[str, Any] | None:
    path = folder / "run.json"
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise RunError(f"{path} is damaged: start the run under another run.name") from error


def _check_same(config: Config, old: Mapping[str, Any], name: str) -> None:
    for key, value in flattened(config):
        if key not in _MAY_CHANGE | set(SITE_KEYS) and old.get(key) != value:
            raise RunError(
                f"run {name} was started with {key}={old.get(key)}, now it is {value}: resume it "
                "with the same configuration, or start a new run"
            )


def _rewound(metrics: Path, checkpoint: Checkpoint | None, echo: Echo) -> list[Record]:
    """Cut ``metrics.jsonl`` back to the checkpoint and return what is left of it."""
    if not metrics.is_file():
        return []
    wanted = 0 if checkpoint is None else checkpoint.metrics_bytes
    if metrics.stat().st_size < wanted:
        echo("metrics.jsonl is shorter than the checkpoint says: some rounds are missing in it")
    else:
        os.truncate(metrics, wanted)
    records = []
    for number, line in enumerate(metrics.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            records.append(dict(json.loads(line)))
        except ValueError:
            echo(f"line {number} of metrics.jsonl is damaged: its round is missing in the summary")
    return records


def keep_digests(
    folder: Path,
    found: Mapping[str, str | None],
    checkpoint: Checkpoint | None,
    echo: Echo,
) -> None:
    """Write ``digests.json``, or compare it with what an interrupted run began with.

    Raises
    ------
    RunError
        If the clients have another CLIP, other classes or another split than at the start.
    """
    path = folder / "digests.json"
    if checkpoint is not None and path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        for part in ("clip", "classes", "split"):
            if before[part] != found[part]:
                raise RunError(
                    f"the run cannot go on: the {part} of its clients is another than at its "
                    "start; give them the same again, or start a new run"
                )
        if before["code"] != found["code"]:
            echo("the code is another than at the run's start: results may differ in bits")
    fileio.write_json(path, found)
