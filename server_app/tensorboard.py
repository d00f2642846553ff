"""The figures of ``metrics.jsonl`` as TensorBoard's event files, a step per round."""

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from fedrsclip_core import machine
from fedrsclip_core.config.schema import RunConfig
from fedrsclip_core.runs import fileio
from fedrsclip_core.runs.records import PARTS, WAYS, RoundRecord

# Later versions of the format have the restarts that TensorBoard looks for.
_FILE_VERSION = "brain.Event:2"


def event_writer(
    run: RunConfig, folder: Path, records: Sequence[RoundRecord]
) -> Callable[[RoundRecord], None]:
    """Return what writes a round's event: nothing, unless ``run.tensorboard``.

    Parameters
    ----------
    run : RunConfig
        Says whether events are wanted.
    folder : Path
        The run's folder.
    records : Sequence[RoundRecord]
        The rounds that earlier attempts have left: later ones of theirs are repeated now.

    Raises
    ------
    ConfigError
        If the package for it is not installed.
    """
    if not run.tensorboard:
        return lambda record: None
    machine.check_tensorboard(run)
    target = folder / "tensorboard"
    # Events of earlier attempts keep their times; without any, the earlier rounds are told now.
    untold = [] if any(target.glob("events.*")) else list(records)
    first = 1 + max((record["round"] for record in records), default=-1)
    # TensorBoard reads the files of a folder by their names: attempts in the order of their times.
    name = f"events.out.tfevents.{time.time_ns() / 1e9:020.9f}.{socket.gethostname()}"
    waiting = _head(first) + b"".join(map(_event, untold))

    def write(record: RoundRecord) -> None:
        nonlocal waiting
        fileio.append_bytes(target / name, waiting + _event(record))
        waiting = b""

    return write


def figures(record: RoundRecord) -> Iterator[tuple[str, float]]:
    """Yield a round's numbers, named by their keys in ``metrics.jsonl``, as in ``test/global``."""
    clients, traffic = record["clients"], record["bytes"]
    chosen: dict[str, Any] = {
        **{part: record[part] for part in PARTS},
        "loss": record["loss"],
        "clients": {**clients, "dropped": len(clients["dropped"])},
        "eval_dropped": len(record["eval_dropped"]),
        "bytes": {way: traffic[way] for way in WAYS},
        "seconds": record["seconds"],
        "eval_seconds": record["eval_seconds"],
    }
    yield from _numbers(chosen, "")


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}/")
        elif value is not None:
            yield prefix + key, float(value)


def _head(first: int) -> bytes:
    """Return the start of a file: TensorBoard then forgets what it knows of ``first`` and later."""
    from tensorboard.compat.proto.event_pb2 import (  # type: ignore[import-untyped]
        Event,
        SessionLog,
    )

    version = Event(wall_time=time.time(), file_version=_FILE_VERSION)
    start = SessionLog(status=SessionLog.START)
    return _framed(version) + _framed(Event(wall_time=time.time(), step=first, session_log=start))


def _event(record: RoundRecord) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in figures(record)]
    summary = Summary(value=values)
    return _framed(Event(wall_time=time.time(), step=record["round"], summary=summary))


def _framed(event: Any) -> bytes:
    from tensorboard.summary.writer.record_writer import (  # type: ignore[import-untyped]
        RecordWriter,
    )

    data = BytesIO()
    RecordWriter(data).write(event.SerializeToString())
    return data.getvalue()
