"""`fedrsclip submit`: hand a run to a SuperLink that is there, and follow it to its end."""

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fedrsclip.run.connection import WHERE, Connection, RunStatus, connect, is_here
from fedrsclip.run.follow import (
    USUAL,
    Echo,
    RunLog,
    Timing,
    UnknownRunError,
    draw,
    follow,
)
from fedrsclip.run.own_tuning import as_started_here
from fedrsclip.run.staging import scratch_folder, stage_app
from fedrsclip.run.submission import Submission, deployed
from fedrsclip_core.errors import ConfigError, RunError
from fedrsclip_core.runs.run_folder import RunFolder
from server_app.attempts import check_start

OPTIONS = (*WHERE, "attach", "stop", "restarts", "patience")
"""All arguments that are no override."""

_PAUSE = 15.0
"""Seconds in which a ServerApp that has lost its SuperLink notices it and lets go of the run."""

_INTERRUPTED = 130

_REFUSED = re.compile(r"client (?P<client>\S+) is refused: (?P<reason>.*)")
_BY_ITS_OWN_RULES = re.compile(r"failed there \((configuration|policy)\b")
_ROUND = re.compile(r"\s*round\s+[1-9]")
"""Lines of the server."""

Connect = Callable[[Mapping[str, str], Path], Connection]


def submit(
    arguments: Sequence[str],
    *,
    echo: Echo = print,
    connect: Connect = connect,
    timing: Timing = USUAL,
    pause: float = _PAUSE,
) -> int:
    """Submit a run and follow it, or follow (``attach=ID``) or stop (``stop=ID``) one.

    Parameters
    ----------
    arguments : Sequence[str]
        Where the SuperLink is, what is wanted, and overrides, in any order. An attachment needs
        no overrides and looks at none.
    echo : Callable[[str], None]
        Prints a line.
    connect : Callable[[Mapping[str, str], Path], Connection]
        Makes the connection in a scratch folder.
    timing : Timing
        How long to wait for what; ``patience=`` replaces its ``silence``.
    pause : float
        Seconds until a run that failed is submitted again.

    Returns
    -------
    int
        0 if the run completed, 130 if no longer followed, else 1.

    Raises
    ------
    FedRSCLIPError
        If the run cannot be submitted, or the SuperLink stays away or has lost it.
    """
    options, overrides = _split(arguments)
    restarts = _number(options, "restarts", 0)
    timing = replace(timing, silence=_number(options, "patience", int(timing.silence)))
    where = shlex.join(f"{name}={options[name]}" for name in WHERE if name in options)
    with scratch_folder() as scratch:
        connection = connect(options, scratch)
        if "stop" in options:
            connection.stop(options["stop"])
            echo(f"run {options['stop']} is stopped")
            return 0
        session = _Session(connection, where, echo, timing)
        try:
            if "attach" in options:
                status = session.attach(options["attach"])
            else:
                submission = deployed(as_started_here(overrides, echo), given=overrides)
                if is_here(options):
                    _check_name(submission)
                status = session.carry_out(submission, stage_app(scratch / "app"), restarts, pause)
        except KeyboardInterrupt:
            echo(session.farewell())
            return _INTERRUPTED
    return 0 if status.completed else 1


def _check_name(submission: Submission) -> None:
    """Refuse what the server of this machine would refuse, as far as it is known here.

    The SuperLink may keep its runs elsewhere, in a container or behind a tunnel: a run that is not
    known here may be known there.
    """
    if RunFolder.named(submission.name).has_begun():
        check_start(submission.config)


class _Heard:
    """What the lines of a run say of its sites and rounds."""

    def __init__(self) -> None:
        self._refused: dict[str, bool] = {}
        self._trained = False

    def note(self, line: str) -> None:
        """Take note of a line."""
        if found := _REFUSED.search(line):
            self._refused[found["client"]] = _BY_ITS_OWN_RULES.search(found["reason"]) is not None
        self._trained |= _ROUND.match(line) is not None

    @property
    def in_vain(self) -> bool:
        """Whether each site that answered refuses the run as it is, and no round came of it."""
        return bool(self._refused) and all(self._refused.values()) and not self._trained


class _Session:
    """What one call does with one SuperLink."""

    def __init__(self, connection: Connection, where: str, echo: Echo, timing: Timing) -> None:
        self._connection = connection
        self._where = where
        self._echo = echo
        self._timing = timing
        self.run_id = ""
        self._heard = _Heard()

    def carry_out(
        self, submission: Submission, app: Path, restarts: int, pause: float
    ) -> RunStatus:
        """Submit a run and follow it; one that fails is resumed at most ``restarts`` times."""
        for restart in range(restarts + 1):
            if restart:
                self.run_id = ""
                count = f"{restart} of at most {restarts} times"
                self._echo(f"resuming from the last checkpoint: {count}")
                time.sleep(pause)
                self._wait_for_an_answer()
                submission = submission.resumed()
            self.run_id = self._connection.submit(app, submission.run_config())
            self._echo(f"run {submission.name} is submitted: Flower's id is {self.run_id}")
            try:
                status = self._follow()
            except UnknownRunError as error:
                raise RunError(f"{error}; then {_again(submission)}") from None
            if not status.failed or self._heard.in_vain:
                break
        folder = RunFolder.named(submission.name)
        if folder.has_begun():  # this machine is the server
            draw(folder, self._echo)
        if status.failed and self._heard.in_vain:
            self._echo(
                "every site refuses this run by its policy or as configured, so there is nothing "
                "to resume: change what their logs name, and submit it under another run.name"
            )
        elif not status.completed:
            self._echo(f"to resume it from its last checkpoint {_again(submission)}")
        return status

    def attach(self, run_id: str) -> RunStatus:
        """Follow a run that was submitted earlier."""
        status = self._connection.status(run_id)
        if status.unknown:
            raise UnknownRunError(run_id)
        if not status.status:
            raise RunError(f"run {run_id} cannot be followed: {status.details}")
        self.run_id = run_id
        return self._follow()

    def farewell(self) -> str:
        """Say what can be done with a run that is no longer followed."""
        if not self.run_id:
            return "interrupted: no run is under way"
        return (
            f"the run may still be running. Follow it again: fedrsclip submit "
            f"attach={self.run_id} {self._where}. Stop it: fedrsclip submit "
            f"stop={self.run_id} {self._where}"
        )

    def _follow(self) -> RunStatus:
        log = RunLog(self._connection, self.run_id)
        try:
            status = follow(self._connection, self.run_id, log, self._hear, timing=self._timing)
        except UnknownRunError:
            raise
        except RunError as error:
            raise RunError(f"{error}: {self.farewell()}") from None
        finally:
            log.close()
        reason = f" ({status.details})" if status.details and not status.completed else ""
        self._echo(f"run {self.run_id}: {status.status}{reason}")
        return status

    def _hear(self, line: str) -> None:
        self._heard.note(line)
        self._echo(line)

    def _wait_for_an_answer(self) -> None:
        deadline = time.monotonic() + self._timing.silence
        while not self._connection.answers():
            if time.monotonic() >= deadline:
                raise RunError(f"the SuperLink has not answered for {self._timing.silence:.0f} s")
            time.sleep(1)


def _again(submission: Submission) -> str:
    return f"submit it again with run.name={submission.name} run.resume=true"


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Part this command's own options from overrides."""
    options: dict[str, str] = {}
    overrides: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in OPTIONS:
            options[name] = value
        else:
            overrides.append(argument)
    for name in ("attach", "stop"):
        if name in options and not options[name].isdecimal():
            raise ConfigError(f"{name} is {options[name]!r}: give Flower's id of the run")
    return options, overrides


def _number(options: Mapping[str, str], name: str, default: int) -> int:
    value = options.get(name, str(default))
    if not value.isdecimal():
        raise ConfigError(f"{name} is {value!r}: give a number, 0 or more")
    return int(value)
