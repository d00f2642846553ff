"""Follow a run that Flower has taken until it is over, also across a restart of the SuperLink."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from fedrsclip.report import draw_pictures
from fedrsclip.run.connection import Connection, RunStatus, run_status
from fedrsclip_core.errors import RunError
from fedrsclip_core.printable import printable
from fedrsclip_core.runs.lines import round_line
from fedrsclip_core.runs.records import SplitRecord
from fedrsclip_core.runs.run_folder import Follower, RunFolder

_LOOK_SECONDS = 0.2
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}m")
_REST_SECONDS = 10.0

Echo = Callable[[str], None]


@dataclass(frozen=True)
class Timing:
    """How long a follower waits, in seconds.

    Attributes
    ----------
    silence : float
        Without a line and without an answer, after which nobody is restarting the SuperLink.
    soonest, latest : float
        From a line to the first question about the run's status, and between two questions.
    """

    silence: float = 600.0
    soonest: float = 5.0
    latest: float = 30.0


USUAL = Timing()


class UnknownRunError(RunError):
    """A run that the SuperLink does not know: nothing is left to wait for."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"the SuperLink does not know run {run_id}: its database is another one or was lost, "
            "and then the sites' keys with it (register.sh registers them again)"
        )


class Progress(Protocol):
    """Where one reads what a run does."""

    def lines(self) -> Iterator[str]:
        """Yield what is new."""

    def rest(self) -> Iterator[str]:
        """Yield what is left of a run that is over."""

    def seems_over(self) -> bool:
        """Whether there is a sign that the run is over, so that Flower should be asked."""

    def resume(self) -> None:
        """Take note that the run is not over."""

    def close(self) -> None:
        """Read no more."""


class Rounds:
    """The rounds in a run's folder on this machine.

    Parameters
    ----------
    follower : Follower
        Reads the run's folder.
    split : SplitRecord
        The division of the images, to be kept beside them.

    Attributes
    ----------
    last_round : int or None
        Of the newest line.
    """

    def __init__(self, follower: Follower, split: SplitRecord) -> None:
        self._follower = follower
        self._split = split
        self.last_round: int | None = None

    def lines(self) -> Iterator[str]:
        """Yield a line per new round."""
        for record in self._follower.new_rounds():
            self._follower.folder.keep_split(self._split)
            self.last_round = record["round"]
            yield round_line(record)

    def rest(self) -> Iterator[str]:
        """Yield the last ones."""
        return self.lines()

    def seems_over(self) -> bool:
        """Whether there are results: only Flower's own shutdown is left."""
        return self._follower.has_results()

    def resume(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class RunLog:
    """What the ServerApp of a run prints, wherever it is.

    Parameters
    ----------
    connection : Connection
        The SuperLink.
    run_id : str
        Flower's id of the run.
    """

    def __init__(self, connection: Connection, run_id: str) -> None:
        self._connection = connection
        self._run_id = run_id
        self._shown = 0
        self._known, self._begun, self._noted = 0, b"", False
        self._process = self._stream()

    def lines(self) -> Iterator[str]:
        """Yield new lines; a log that is read again is skipped as far as it is known."""
        assert self._process.stdout is not None
        while chunk := self._process.stdout.read(2**16):
            *whole, self._begun = (self._begun + chunk).split(b"\n")
            for line in whole:
                if self._known > 0:
                    self._known -= 1
                    continue
                self._shown += 1
                yield _readable(line)

    def rest(self) -> Iterator[str]:
        """Yield the last lines, for which the stream is given some seconds."""
        deadline = time.monotonic() + _REST_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            yield from self.lines()
            time.sleep(_LOOK_SECONDS)
        yield from self.lines()
        if self._begun:
            yield _readable(self._begun)

    def seems_over(self) -> bool:
        """Whether the stream has ended, which is said once: the run is over or its SuperLink."""
        if self._noted or self._process.poll() is None:
            return False
        self._noted = True
        return True

    def resume(self) -> None:
        """Read the log again if its stream has ended."""
        if self._process.poll() is not None:
            self.close()
            self._known, self._begun, self._noted = self._shown, b"", False
            self._process = self._stream()

    def close(self) -> None:
        """End the stream."""
        self._process.kill()
        self._process.communicate()

    def _stream(self) -> "subprocess.Popen[bytes]":
        process = self._connection.stream_log(self._run_id)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return process


def _readable(line: bytes) -> str:
    """Return a line of a log for a person; Flower's own lines have colours in them."""
    return printable(_COLOUR.sub("", line.decode(errors="replace").rstrip("\r")))


def follow(
    connection: Connection,
    run_id: str,
    progress: Progress,
    echo: Echo,
    *,
    timing: Timing = USUAL,
    check: Callable[[], None] = lambda: None,
) -> RunStatus:
    """Print a run's progress until Flower says that the run is over.

    Parameters
    ----------
    connection : Connection
        The SuperLink.
    run_id : str
        Flower's id of the run.
    progress : Progress
        Where the run's lines come from.
    echo : Callable[[str], None]
        Prints a line.
    timing : Timing
        How long to wait for what.
    check : Callable[[], None]
        Raises if the run can only be lost.

    Raises
    ------
    UnknownRunError
        If the SuperLink has lost the run.
    RunError
        If the SuperLink stays away. The run may be running nevertheless.
    """
    heard, silent = time.monotonic(), False
    pace = QuestionPace(heard, timing)
    with _Question(connection, run_id) as question:
        while True:
            status = question.answer()
            for line in progress.lines():
                echo(line)
                heard = time.monotonic()
                pace.progressed(heard)
            now = time.monotonic()
            if status is not None and status.status:
                if silent:
                    echo("the SuperLink answers again")
                heard, silent = now, False
                if status.finished:
                    for line in progress.rest():
                        echo(line)
                    return status
                progress.resume()
            elif status is not None and status.unknown:
                raise UnknownRunError(run_id)
            elif status is not None:
                if now - heard >= timing.silence:
                    raise RunError(
                        f"the SuperLink has said nothing of run {run_id} for "
                        f"{now - heard:.0f} s ({status.details})"
                    )
                if not silent:
                    limit = f"{timing.silence:.0f} s"
                    echo(f"no answer from the SuperLink: waiting for it, at most {limit}")
                silent = True
            check()
            if pace.is_due(now) or progress.seems_over():
                question.ask()
                pace.asked(now)
            time.sleep(_LOOK_SECONDS)


def draw(folder: RunFolder, echo: Echo) -> None:
    """Draw a run's pictures; one that cannot be drawn must not cost the run its status."""
    try:
        for picture in draw_pictures(folder.path, say=echo):
            echo(f"picture: {picture}")
    except Exception as error:
        echo(f"the pictures were not drawn ({type(error).__name__}: {error})")


class QuestionPace:
    """When to ask Flower for a run's status, which costs more than a second of CPU.

    As long as lines come, the run lives; when they stay away for twice as long as the last one
    took, or before the first, it is asked, and then ever less often.

    Parameters
    ----------
    now : float
        The run's start, in seconds of a monotonic clock.
    timing : Timing
        The soonest and the latest question.
    """

    def __init__(self, now: float, timing: Timing) -> None:
        self._timing = timing
        self._pause = timing.soonest
        self._last_line = now
        self._next = now + self._pause

    def is_due(self, now: float) -> bool:
        """Whether to ask."""
        return now >= self._next

    def asked(self, now: float) -> None:
        """Take note that it was asked."""
        self._pause = min(1.5 * self._pause, self._timing.latest)
        self._next = now + self._pause

    def progressed(self, now: float) -> None:
        """Take note of a line."""
        took = now - self._last_line
        self._pause = min(max(2 * took, self._timing.soonest), self._timing.latest)
        self._last_line, self._next = now, now + self._pause


class _Question:
    """Asks for a run's status without waiting for the answer; one question at a time."""

    def __init__(self, connection: Connection, run_id: str) -> None:
        self._connection = connection
        self._run_id = run_id
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "_Question":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def ask(self) -> None:
        """Ask, unless an answer is still awaited."""
        if self._process is None:
            self._process = self._connection.ask_status(self._run_id)

    def answer(self) -> RunStatus | None:
        """Return the answer once, when it has come."""
        if self._process is None or self._process.poll() is None:
            return None
        output = self._process.communicate()[0]
        self._process = None
        return run_status(output)
