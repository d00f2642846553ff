"""Keep a list of programs running: what a host's ``start`` does, and what systemd watches.

``keep([Program("superlink", [...]), Program("proxy", [...])], logs=home / "logs")`` starts them in
this order. It returns when it has been told to end (SIGTERM, SIGINT, SIGHUP) and has ended them,
the last one first. A program that ends by itself is started again, after a pause that grows while
it does not stay. One with ``once`` is started until it has ended well, and then left alone: for
example a registration, which cannot succeed before another program of the list is up.

Nothing is left behind: what a program has started ends with it, and if this process itself is
killed, the kernel ends the programs. Their output comes out here line by line with their names in
front, and is kept in files of a bounded size.
"""

import ctypes
import logging
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType

from fedrsclip_core.errors import ConfigError

_LOG_BYTES = 2**20
_LINE_BYTES = 2**16
_READS_PER_TURN = 32
"""More than a pipe can hold: the last words of a program are read to their end."""
_TURN_SECONDS = 0.2
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_STAYS_AFTER = 30.0
"""Seconds after which a program has started well, and the pause is the first one again."""
_PATIENCE = 20.0
"""Seconds between asking a program to end and killing it. Flower's take 5 at the most."""
_PATIENCE_WITH_REST = 5.0
"""The same for what a program has left behind."""
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Program:
    """What is kept running.

    Attributes
    ----------
    name : str
        Stands before each line of its output and names its log.
    command : Sequence[str]
        Program and arguments.
    environment : Mapping[str, str]
        Variables beside those of this process.
    folder : Path, optional
        Its working directory.
    once : bool
        Whether it is done when it has ended with exit code 0.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    once: bool = False


def given_program(argument: str, usage: str) -> Program:
    """Return the program that ``NAME=PROGRAM`` on a command line gives.

    Raises
    ------
    ConfigError
        If it gives none, or one that this user cannot run.
    """
    name, _, path = argument.partition("=")
    if not (name.isidentifier() and path):
        raise ConfigError(f"{argument!r} is no program: give NAME=PROGRAM, as in {usage}")
    if not (Path(path).is_file() and os.access(path, os.X_OK)):
        raise ConfigError(f"{name}: {path} is not there, or may not be run by this user")
    return Program(name, [path])


def keep(
    programs: Sequence[Program], *, logs: Path, echo: Callable[[str], None] | None = None
) -> None:
    """Run programs until this process is told to end; then end them and return.

    To be called in the main thread of a process that has no other, since it forks. A second signal
    kills what has not ended yet.

    Parameters
    ----------
    programs : Sequence[Program]
        In the order in which they are started.
    logs : Path
        Folder for ``<program>.log``, 1 MiB each, and as much again in ``<program>.log.1``.
    echo : Callable[[str], None], optional
        Takes each line for people; by default it is printed.

    Raises
    ------
    OSError
        If there can be no folder for the logs.
    """
    logs.mkdir(parents=True, exist_ok=True)
    say = echo or _print
    kept = [_Kept(program, _Log(logs / f"{program.name}.log", say)) for program in programs]
    with _asked_to_end() as asked:
        while not asked:
            for one in kept:
                one.look(lambda: _pass_on(kept))
            _pass_on(kept)
        running = [one for one in reversed(kept) if one.runs]
        names = ", ".join(one.program.name for one in running)
        say(f"{asked[0].name}: ending {names or 'nothing, nothing runs'}")
        for one in running:
            one.end(lambda: _pass_on(kept), hurried=lambda: len(asked) > 1)
        say("everything has ended")


class _Kept:
    """One program: its process, or when it is started again."""

    def __init__(self, program: Program, log: "_Log") -> None:
        self.program = program
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._next_start = 0.0
        self._pause = _FIRST_PAUSE
        self.output: int | None = None
        self._line = b""

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    def look(self, meanwhile: Callable[[], None]) -> None:
        """Start it if it is time, and see whether it has ended."""
        if self._process is None:
            if time.monotonic() >= self._next_start:
                self._start()
        elif (status := self._process.poll()) is not None:
            self._clear(meanwhile)
            self._plan(_ending(status), well=status == 0)

    def _start(self) -> None:
        self._started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                self.program.command,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(self.program.environment),
                cwd=self.program.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with(os.getpid()),
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._plan(f"cannot be started: {error}", well=False)
            return
        assert self._process.stdout is not None
        self.output = self._process.stdout.fileno()
        os.set_blocking(self.output, False)
        self._log.say(f"started, process {self._process.pid}")

    def _plan(self, what: str, *, well: bool) -> None:
        """Say how it has ended and when it is started again, if it is."""
        now = time.monotonic()
        lived = now - self._started
        if well and self.program.once:
            self._next_start = float("inf")
            self._log.say("done")
            return
        if lived >= _STAYS_AFTER:
            self._pause = _FIRST_PAUSE
        self._next_start = now + self._pause
        self._log.say(f"{what} after {lived:.0f} s; it is started again in {self._pause:.0f} s")
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def read(self) -> None:
        """Pass on the lines that it has written, of one that never stops only some."""
        with suppress(BlockingIOError):
            for _ in range(_READS_PER_TURN):
                if self.output is None:
                    return
                data = os.read(self.output, _LINE_BYTES)
                *lines, self._line = (self._line + data).split(b"\n")
                for line in lines:
                    self._log.say(line.decode(errors="replace"))
                if len(self._line) >= _LINE_BYTES:
                    self._flush()
                if not data:  # it has closed its end
                    self.output = None

    def _flush(self) -> None:
        self._log.say(self._line.decode(errors="replace"))
        self._line = b""

    def end(self, meanwhile: Callable[[], None], hurried: Callable[[], bool]) -> None:
        """Ask it to end, and kill it with all that it has started if it does not."""
        if self._process is None:
            return
        self._process.terminate()  # and not what it has started: it knows better how to end that
        deadline = time.monotonic() + _PATIENCE
        while self._process.poll() is None:
            if hurried() or time.monotonic() >= deadline:
                self._log.say("does not end and is killed")
                self._signal(signal.SIGKILL)
                self._process.wait()
            meanwhile()
        self._clear(meanwhile)

    def _clear(self, meanwhile: Callable[[], None]) -> None:
        """End what the ended process has left behind, pass on its last words and forget it."""
        assert self._process is not None and self._process.stdout is not None
        deadline = time.monotonic() + _PATIENCE_WITH_REST
        while self._signal(signal.SIGTERM) and time.monotonic() < deadline:
            meanwhile()
        self._signal(signal.SIGKILL)
        self.read()
        self._flush()
        self._process.stdout.close()
        self._process = self.output = None

    def _signal(self, number: signal.Signals) -> bool:
        """Send a signal to the process and all that it has started; return whether any is left."""
        assert self._process is not None
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True


class _Log:
    """Lines of one program: to people with its name in front, to a file with the time."""

    def __init__(self, path: Path, echo: Callable[[str], None]) -> None:
        self._name, self._echo = path.stem, echo
        self._file = _File(path, maxBytes=_LOG_BYTES, backupCount=1, delay=True, encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def say(self, line: str) -> None:
        """Write a line that is not empty, without what would act on a terminal."""
        plain = _COLOUR.sub("", line).rstrip()
        if line := "".join(sign if sign.isprintable() else "?" for sign in plain.expandtabs()):
            self._echo(f"{self._name}: {line}")
            self._file.handle(logging.makeLogRecord({"msg": line}))


class _File(RotatingFileHandler):
    """A log that cannot be written, as on a full disk, stops nothing."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Do without this line."""


def _pass_on(kept: Sequence[_Kept]) -> None:
    """Pass on what the programs write until the next turn."""
    deadline = time.monotonic() + _TURN_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        with selectors.DefaultSelector() as selector:
            for one in kept:
                if one.output is not None:
                    selector.register(one.output, selectors.EVENT_READ, one)
            for key, _ in selector.select(left):
                key.data.read()


@contextmanager
def _asked_to_end() -> Iterator[list[signal.Signals]]:
    """Collect the signals that ask this process to end; a program under nohup ignores SIGHUP."""
    asked: list[signal.Signals] = []

    def note(number: int, _: FrameType | None) -> None:
        asked.append(signal.Signals(number))

    ignored = [n for n in _ENDING_SIGNALS if signal.getsignal(n) == signal.SIG_IGN]
    before = {n: signal.signal(n, note) for n in _ENDING_SIGNALS if n not in ignored}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with(parent: int) -> Callable[[], None]:
    """Return what a child does first, so that the kernel ends it when its parent is gone."""
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return prepare


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:  # one of the real-time signals
        return f"was ended by signal {-status}"


def _print(line: str) -> None:
    # Without a terminal or reader the programs run on.
    with suppress(OSError):
        print(line, flush=True)
