"""Everything that a restarted server needs to go on: one sealed file per kept round."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from numpy.typing import NDArray

from fedrsclip_core.config.shared_tensors import NAMES
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import fileio
from fedrsclip_core.runs.records import RoundRecord, UnreadableError, parse_object
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.runs.sealed import DamagedFileError, read_sealed, write_sealed
from server_app.phase import Progress

FORMAT = "1"
KEPT_ROUNDS = 3
_AGGREGATOR = "aggregator."


class _State(TypedDict):
    """What a checkpoint holds besides tensors."""

    round: int
    record: RoundRecord | None
    failed_rounds: int
    reply_seconds: NotRequired[dict[str, dict[str, list[float]]]]
    metrics_bytes: int
    seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a round.

    Attributes
    ----------
    progress : Progress
        Round, shared tensors, aggregator state and the round's record as far as it is known.
    metrics_bytes : int
        Size of ``metrics.jsonl`` at that moment: what follows is of rounds that are done again.
    seconds : float
        Seconds that the run had taken.
    """

    progress: Progress
    metrics_bytes: int
    seconds: float


def write_checkpoint(folder: RunFolder, checkpoint: Checkpoint) -> None:
    """Write a checkpoint and drop all but the last three.

    Raises
    ------
    OSError
        If the disk is full or not writable; the previous checkpoints are then intact.
    """
    progress = checkpoint.progress
    tensors = {_AGGREGATOR + name: array for name, array in progress.aggregator.items()}
    tensors |= progress.shared
    state: _State = {
        "round": progress.server_round,
        "record": progress.record,
        "failed_rounds": progress.failed_rounds,
        "reply_seconds": {
            phase: {name: list(seconds) for name, seconds in by_name.items()}
            for phase, by_name in progress.reply_seconds.items()
        },
        "metrics_bytes": checkpoint.metrics_bytes,
        "seconds": checkpoint.seconds,
    }
    metadata = {"format": FORMAT, "run": folder.name, "state": fileio.to_json(state)}
    write_sealed(folder.checkpoint(progress.server_round), tensors, metadata)
    for number, path in folder.checkpoints():
        if not progress.server_round - KEPT_ROUNDS < number <= progress.server_round:
            path.unlink(missing_ok=True)


def newest_checkpoint(folder: RunFolder, echo: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest usable checkpoint, ``None`` if none was ever written.

    A damaged one is named and passed over.

    Raises
    ------
    RunError
        If there are checkpoints and none is usable.
    """
    files = folder.checkpoints()
    for _, path in reversed(files):
        try:
            return _read(path, folder.name)
        except (DamagedFileError, FileNotFoundError) as error:
            echo(f"checkpoint {path.name} is passed over: {error}")
    if files:
        raise RunError(
            f"none of the {len(files)} checkpoints in {files[0][1].parent} can be used: restore "
            "them from a copy, or start the run again under another run.name"
        )
    return None


def _read(path: Path, run_name: str) -> Checkpoint:
    metadata, tensors = read_sealed(path)
    if (metadata.get("format"), metadata.get("run")) != (FORMAT, run_name):
        raise DamagedFileError(f"it is not of run {run_name}, or of another version")
    try:
        state = parse_object(metadata.get("state", "").encode(), path.name, _State)
    except UnreadableError as error:
        raise DamagedFileError(str(error)) from None
    shared = {name: tensors.pop(name) for name in NAMES if name in tensors}
    aggregator: dict[str, NDArray[Any]] = {
        name.removeprefix(_AGGREGATOR): array for name, array in tensors.items()
    }
    progress = Progress(
        server_round=state["round"],
        shared=shared,
        record=state["record"],
        failed_rounds=state["failed_rounds"],
        aggregator=aggregator,
        reply_seconds=state.get("reply_seconds", {}),
    )
    return Checkpoint(progress, state["metrics_bytes"], state["seconds"])
