"""A run as its folder shows it at one moment."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrsclip.watch import figures
from fedrsclip.watch.rounds import Round, RoundLog
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import run_folder as runs
from fedrsclip_core.runs.units import duration

GOING_ON = "going on"
COMPLETED = "completed"
FAILED = "failed"
INTERRUPTED = "interrupted"

_UNKNOWN_PREPARATION = 3600.0


@dataclass(frozen=True)
class RunView:
    """What is known of a run.

    Attributes
    ----------
    name, folder : str, Path
        The run.
    state : str
        ``GOING_ON``, ``COMPLETED``, ``FAILED`` or ``INTERRUPTED``.
    reason : str
        Why it failed or was interrupted.
    config : Mapping[str, Any]
        Its configuration by dotted keys; empty if that cannot be read.
    rounds : Sequence[Round]
        Its rounds so far.
    silent : float
        Seconds since it wrote something.
    problems : Sequence[str]
        A sentence for each file that is missing or damaged.
    results : Mapping[str, Any] or None
        Its summary, once it has ended.
    """

    name: str
    folder: Path
    state: str
    reason: str
    config: Mapping[str, Any]
    rounds: Sequence[Round]
    silent: float
    problems: Sequence[str]
    results: Mapping[str, Any] | None = None

    @property
    def ended(self) -> bool:
        """Whether no process works on it any more."""
        return self.state != GOING_ON

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
        total = self.config.get("federation.num_rounds") or (self.results or {}).get("num_rounds")
        return None if total is None else int(total)

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds until its last round ends."""
        return figures.seconds_left(self.rounds, self.num_rounds, self.silent)

    @property
    def warning(self) -> str:
        """A sentence if a run that goes on has been silent for suspiciously long."""
        if self.ended or self.silent <= figures.patience(self.rounds, self._preparation):
            return ""
        if not self.rounds:
            return f"no round for {duration(self.silent)}: do the clients prepare at all?"
        slowest = max(one.seconds for one in self.rounds)
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

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = RoundLog(folder / "metrics.jsonl")

    def look(self) -> RunView:
        """Return the run as it is now."""
        # Asked first: what a run writes at its end is there once nobody holds it.
        held = runs.is_held(self._folder)
        self._log.read()
        problems: list[str] = []
        about = _read(self._folder / "run.json", problems) or {}
        results = None if held else _read(self._folder / "results.json", problems)
        state, reason = _state(self._folder, held, results)
        return RunView(
            name=self._folder.name,
            folder=self._folder,
            state=state,
            reason=reason,
            config=_config(about),
            rounds=tuple(self._log.rounds),
            silent=self._silence(),
            problems=[*_missing(self._folder), *problems, *self._damaged()],
            results=results,
        )

    def _damaged(self) -> list[str]:
        return [
            f"line {number} of metrics.jsonl is damaged: its round is missing here"
            for number in self._log.damaged
        ]

    def _silence(self) -> float:
        files = [self._folder / name for name in ("run.json", "digests.json", "metrics.jsonl")]
        times = [path.stat().st_mtime for path in files if path.is_file()]
        return max(0.0, time.time() - max(times)) if times else 0.0


def has_begun(folder: Path) -> bool:
    """Whether a run has written something here."""
    names = ("run.json", "metrics.jsonl", "results.json")
    return any((folder / name).is_file() for name in names)


def _read(path: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        return runs.read_object(path)
    except RunError as error:
        problems.append(str(error))
        return None


def _missing(folder: Path) -> list[str]:
    if (folder / "run.json").is_file():
        return []
    return ["run.json is missing: the run's settings are not known"]


def _config(about: Mapping[str, Any]) -> Mapping[str, Any]:
    config = about.get("config")
    return config if isinstance(config, dict) else {}


def _state(folder: Path, held: bool, results: Mapping[str, Any] | None) -> tuple[str, str]:
    if held:
        return GOING_ON, ""
    if results is not None:
        completed = results.get("status") == COMPLETED
        return (COMPLETED, "") if completed else (FAILED, str(results.get("reason")))
    if (folder / "results.json").is_file():
        return FAILED, "results.json is damaged, so nobody knows how it ended"
    return INTERRUPTED, (
        "no process works on it any more, it was killed: go on with it by fedrsclip run "
        f"resume={folder.name}, or submit it again with run.resume=true"
    )
