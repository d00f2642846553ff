"""A run as its folder shows it at one moment."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fedrsclip.watch import figures
from fedrsclip_core.runs.records import Results, RoundRecord, UnreadableError
from fedrsclip_core.runs.run_folder import COMPLETED, RUNNING, RunFolder
from fedrsclip_core.runs.units import duration

T = TypeVar("T")

_UNKNOWN_PREPARATION = 3600.0


@dataclass(frozen=True)
class RunView:
    """What is known of a run.

    Attributes
    ----------
    name, folder : str, Path
        The run.
    state : str
        As in ``runs.run_folder``.
    reason : str
        Why it failed, or how an interrupted one is resumed.
    config : Mapping[str, Any]
        Its configuration by dotted keys; empty if that cannot be read.
    rounds : Sequence[RoundRecord]
        Its rounds so far.
    silent : float
        Seconds since it wrote something.
    problems : Sequence[str]
        A sentence for each file that is missing or damaged.
    results : Results or None
        Its summary, once it has ended.
    """

    name: str
    folder: Path
    state: str
    reason: str
    config: Mapping[str, Any]
    rounds: Sequence[RoundRecord]
    silent: float
    problems: Sequence[str]
    results: Results | None = None

    @property
    def ended(self) -> bool:
        """Whether no process works on it any more."""
        return self.state != RUNNING

    @property
    def status(self) -> int:
        """The exit status: 0 if the run is completed."""
        return 0 if self.state == COMPLETED else 1

    @property
    def steps(self) -> int:
        """Rounds that are there to be reported."""
        return len(self.rounds)

    @property
    def num_rounds(self) -> int | None:
        """Rounds of the whole run."""
        total = self.config.get("federation.num_rounds")
        if total is None and self.results is not None:
            return self.results["num_rounds"]
        return None if total is None else int(total)

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds until its last round ends."""
        return figures.seconds_left(self.rounds, self.num_rounds, self.silent)

    @property
    def warning(self) -> str:
        """A sentence if a running run has been silent for suspiciously long."""
        if self.ended or self.silent <= figures.patience(self.rounds, self._preparation):
            return ""
        if not self.rounds:
            return f"no round for {duration(self.silent)}: do the clients prepare at all?"
        slowest = max(map(figures.seconds, self.rounds))
        limit = self.config.get("federation.round_timeout")
        waits = f"; it waits {duration(limit)} for a client" if limit else ""
        return (
            f"no new round for {duration(self.silent)}, the slowest so far took "
            f"{duration(slowest)}: the server seems to hang or to wait for clients{waits}"
        )

    @property
    def _preparation(self) -> float:
        keys = ("federation.connect_timeout", "federation.prepare_timeout")
        known = [self.config[key] for key in keys if key in self.config]
        return float(sum(known)) if known else _UNKNOWN_PREPARATION


class RunWatch:
    """Looks at a run's folder again and again, without a trace there."""

    def __init__(self, path: Path) -> None:
        self._folder = RunFolder(path)
        self._log = self._folder.rounds()

    def look(self) -> RunView:
        """Return the run as it is now."""
        folder, problems = self._folder, list[str]()
        # Asked first: what a run writes at its end is there once it is not running any more.
        state = folder.state()
        found = _unless_damaged(folder.description, problems)
        if found is None and not problems:
            problems.append("run.json is missing: the run's settings are not known")
        results = None
        if state.word != RUNNING:
            results = _unless_damaged(folder.results, problems)
        _unless_damaged(self._log.read, problems)
        problems += [
            f"line {number} of metrics.jsonl is damaged: its round is missing here"
            for number in self._log.damaged
        ]
        written = folder.written()
        return RunView(
            name=folder.name,
            folder=folder.path,
            state=state.word,
            reason=state.reason,
            config=found["config"] if found else {},
            rounds=tuple(self._log.records),
            silent=max(0.0, time.time() - written[1]) if written else 0.0,
            problems=problems,
            results=results,
        )


def _unless_damaged(read: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return read()
    except UnreadableError as error:
        problems.append(str(error))
        return None
