"""The folder of a run at the server: the only place that knows the names of what lies in it."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import fileio, lock, paths
from fedrsclip_core.runs.records import (
    Description,
    Ending,
    Results,
    RoundRecord,
    SplitRecord,
    UnreadableError,
    parse_object,
    read_object,
)

RUNNING, COMPLETED, FAILED, INTERRUPTED = "running", "completed", "failed", "interrupted"

STOPPED = "the run was stopped"
"""The reason of a run that was ended from outside; nothing inside it knows by whom."""

_METRICS = "metrics.jsonl"
_DESCRIPTION = "run.json"
_RESULTS = "results.json"
_DIGESTS = "digests.json"
_SPLIT = "split.json"
_CHECKPOINTS = "checkpoint"
_CHECKPOINT = re.compile(r"round-(\d{6})\.safetensors")


@dataclass(frozen=True)
class State:
    """Whether a process works on a run, and how the run has ended if none does.

    Attributes
    ----------
    word : str
        ``RUNNING``, ``COMPLETED``, ``FAILED`` or ``INTERRUPTED``.
    reason : str
        Why it failed, or how an interrupted one is resumed.
    """

    word: str
    reason: str = ""


class RunFolder:
    """Reads and writes what a run leaves; a file that is not there is ``None``.

    A file that is damaged raises ``UnreadableError`` when it is asked for, and no other.

    Parameters
    ----------
    path : Path
        The folder, which need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def named(cls, name: str) -> "RunFolder":
        """Return the folder of a run of this machine, which need not be there.

        Raises
        ------
        ConfigError
            If the name cannot be one.
        """
        return cls(paths.runs_dir() / paths.safe_name(name, "run"))

    @classmethod
    def newest(cls) -> "RunFolder":
        """Return the folder of the run that was started or resumed last.

        Raises
        ------
        ConfigError
            If there is no run here.
        """
        root = paths.runs_dir()
        found = sorted(root.glob(f"*/{_DESCRIPTION}"), key=lambda path: path.stat().st_mtime_ns)
        if not found:
            raise ConfigError(
                f"there is no run in {root}: look at the server, with its FEDRSCLIP_HOME"
            )
        return cls(found[-1].parent)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def shared_prompt(self) -> Path:
        """The file of the shared prompt; see ``runs.shared_prompt``."""
        return self.path / "shared_prompt.safetensors"

    def evaluations(self, federation: str) -> Path:
        """Return where clients on the same machine, as in a simulation, keep their evaluations."""
        below = paths.evaluations_dir(federation, self.name).relative_to(paths.home())
        return self.path.parent.parent / below

    def has_begun(self) -> bool:
        """Whether a run has written something here."""
        return any((self.path / name).is_file() for name in (_DESCRIPTION, _METRICS, _RESULTS))

    def can_be_resumed(self) -> bool:
        """Whether there is a checkpoint."""
        return bool(self.checkpoints())

    def hold(self) -> IO[bytes]:
        """Hold the folder against other processes; see ``runs.lock.hold``."""
        return lock.hold(self.path)

    def state(self) -> State:
        """Return how the run stands."""
        # Asked first: what a run writes at its end is there once nobody holds it.
        if lock.is_held(self.path):
            return State(RUNNING)
        try:
            ending = self.ending()
        except UnreadableError as error:
            return State(FAILED, str(error))
        if ending is None:
            return State(
                INTERRUPTED,
                "no process works on it any more, it was killed: resume it by fedrsclip run "
                f"resume={self.name}, "
                "or in a deployment submit it again with run.resume=true",
            )
        if ending["status"] == COMPLETED:
            return State(COMPLETED)
        return State(FAILED, str(ending.get("reason")))

    def ending(self) -> Ending | None:
        """Return how the run has ended, also if the rest of its summary cannot be used."""
        return read_object(self.path / _RESULTS, Ending)

    def written(self) -> tuple[float, float] | None:
        """Return when the run began and when it last wrote something, in seconds of the epoch."""
        files = [self.path / name for name in (_DESCRIPTION, _DIGESTS, _METRICS)]
        times = [path.stat().st_mtime for path in files if path.is_file()]
        return (min(times), max(times)) if times else None

    def description(self) -> Description | None:
        """Return what the run was started with."""
        return read_object(self.path / _DESCRIPTION, Description)

    def write_description(self, description: Description) -> None:
        """Write what the run is started with."""
        fileio.write_json(self.path / _DESCRIPTION, description)

    def write_config(self, text: str) -> None:
        """Write the configuration for a person; no program reads it."""
        fileio.write_text(self.path / "config.yaml", text)

    def results(self) -> Results | None:
        """Return the summary of a run that has ended."""
        return read_object(self.path / _RESULTS, Results)

    def write_results(self, results: Results) -> None:
        """Write the summary, as the last file of a run."""
        fileio.write_json(self.path / _RESULTS, results)

    def remove_results(self) -> None:
        """Remove the summary of a run that is resumed."""
        (self.path / _RESULTS).unlink(missing_ok=True)

    def results_time(self) -> int | None:
        """Return when the summary was written, in nanoseconds of the epoch."""
        path = self.path / _RESULTS
        return path.stat().st_mtime_ns if path.is_file() else None

    def digests(self) -> dict[str, str | None] | None:
        """Return the digests by part, once the clients have told theirs."""
        return read_object(self.path / _DIGESTS, dict[str, str | None])

    def write_digests(self, digests: Mapping[str, str | None]) -> None:
        """Write the digests by part."""
        fileio.write_json(self.path / _DIGESTS, digests)

    def split(self) -> SplitRecord | None:
        """Return which images are where, where a simulation or a person has written it."""
        return read_object(self.path / _SPLIT, SplitRecord)

    def keep_split(self, record: SplitRecord) -> None:
        """Write which images are where, only once; a resumed run has the split that it had."""
        if not (self.path / _SPLIT).exists():
            fileio.write_json(self.path / _SPLIT, record)

    def checkpoint(self, server_round: int) -> Path:
        """Return the file of the checkpoint after a round."""
        return self.path / _CHECKPOINTS / f"round-{server_round:06d}.safetensors"

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Return the checkpoints with their rounds, the oldest first."""
        files = self.path.glob(f"{_CHECKPOINTS}/round-*.safetensors")
        found = ((_CHECKPOINT.fullmatch(path.name), path) for path in files)
        return sorted((int(match[1]), path) for match, path in found if match)

    def append_round(self, record: RoundRecord) -> None:
        """Append a round's record."""
        fileio.append_line(self.path / _METRICS, fileio.to_json(record))

    def rounds_size(self) -> int:
        """Return the bytes of the rounds' records."""
        path = self.path / _METRICS
        return path.stat().st_size if path.is_file() else 0

    def cut_rounds(self, size: int) -> None:
        """Cut off the records after the first ``size`` bytes."""
        if self.rounds_size() > size:
            os.truncate(self.path / _METRICS, size)

    def rounds(self, *, from_now: bool = False) -> "RoundLog":
        """Return the rounds, to be read once or again and again; ``from_now``: only later ones."""
        return RoundLog(self.path / _METRICS, self.rounds_size() if from_now else 0)


class Follower:
    """Reads what a server writes into a run's folder from now on; what was there does not count."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._log = folder.rounds(from_now=True)
        self._old_results = folder.results_time()

    def new_rounds(self) -> list[RoundRecord]:
        """Return the records that were added since the last call."""
        return self._log.read()

    def has_results(self) -> bool:
        """Whether the summary was written."""
        return self.folder.results_time() not in (None, self._old_results)

    def results(self) -> Results | None:
        """Return the summary if it was written."""
        return self.folder.results() if self.has_results() else None


class RoundLog:
    """The records of a run's rounds, also while they are written.

    Attributes
    ----------
    records : list[RoundRecord]
        The rounds that were read.
    damaged : list[int]
        Numbers of the whole lines that are no record.
    cut : bool
        Whether the last line has no end: it is being written, or its writer was killed.
    size : int
        Bytes of the file without such a line.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        self._path = path
        self._known = 0
        self._read_from(start)

    def _read_from(self, start: int) -> None:
        self._start = self.size = start
        self._lines = 0
        self.cut = False
        self.records: list[RoundRecord] = []
        self.damaged: list[int] = []

    def read(self) -> list[RoundRecord]:
        """Read what was added since the last time, and return its records.

        Raises
        ------
        UnreadableError
            If the file is there and cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                self._read(file)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise UnreadableError(self._path.name, "cannot be read", str(error.strerror)) from None
        new = self.records[min(self._known, len(self.records)) :]
        self._known = len(self.records)
        return new

    def _read(self, file: IO[bytes]) -> None:
        size = os.fstat(file.fileno()).st_size
        if size < self.size:  # a run that is resumed cuts off what comes after its checkpoint
            self._read_from(min(self._start, size))
        file.seek(self.size)
        self.cut = False
        for line in file:
            self.cut = not line.endswith(b"\n")
            if self.cut:
                return
            self.size += len(line)
            self._lines += 1
            try:
                self.records.append(parse_object(line, self._path.name, RoundRecord))
            except UnreadableError:
                self.damaged.append(self._lines)
