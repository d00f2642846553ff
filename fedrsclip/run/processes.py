"""Start, watch and end processes together with everything that they start.

Flower's SuperLink detaches its executor into a session of its own, and Ray lives there: ending
the SuperLink alone leaves half a dozen processes behind. So the process groups of all descendants
are remembered while their parents still live, and ended together.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fedrsclip_core.errors import RunError

_PROC = Path("/proc")
_LAST_SECONDS = 30.0
"""Ray's workers have a low priority: on a busy machine they need seconds even to be killed."""


class ProcessTree:
    """A child process in its own session and all process groups that descend from it.

    Parameters
    ----------
    command : Sequence[str]
        Program and arguments.
    environment : Mapping[str, str]
        Its whole environment.
    folder : Path
        Its working directory.
    log : Path
        Where its output goes.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._groups = {self._child.pid}

    @property
    def running(self) -> bool:
        """Whether the child itself lives."""
        return self._child.poll() is None

    def members(self) -> list[int]:
        """Return the pids of the tree; remembers the groups that are new in it."""
        table = process_table()
        known = 0
        while known != len(self._groups):
            known = len(self._groups)
            inside = {pid for pid, (_, group) in table.items() if group in self._groups}
            self._groups |= {group for parent, group in table.values() if parent in inside}
        return [pid for pid, (_, group) in table.items() if group in self._groups]

    def end(self, patience: float = 8.0) -> None:
        """End the whole tree, politely first.

        Raises
        ------
        RunError
            If something survives, naming the pids.
        """
        for sent, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, _LAST_SECONDS)):
            deadline = time.monotonic() + seconds
            left = self.members()
            for group in self._groups:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, sent)
            while left and time.monotonic() < deadline:
                time.sleep(0.1)
                self._child.poll()
                left = self.members()
            if not left:
                return
        raise RunError(f"processes {left} could not be ended: end them by hand")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore a second Ctrl-C while the first one is still being cleaned up after."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def process_table() -> dict[int, tuple[int, int]]:
    """Return (parent, process group) of each living process."""
    if _PROC.is_dir():
        return dict(filter(None, map(_from_proc, _PROC.glob("[0-9]*"))))
    listing = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,pgid=,state="], capture_output=True, text=True, check=True
    )
    rows = (line.split() for line in listing.stdout.splitlines())
    return {int(row[0]): (int(row[1]), int(row[2])) for row in rows if row[3][0] != "Z"}


def _from_proc(folder: Path) -> tuple[int, tuple[int, int]] | None:
    try:
        stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, parent, group = stat.rpartition(")")[2].split()[:3]
    return None if state == "Z" else (int(folder.name), (int(parent), int(group)))
