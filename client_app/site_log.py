"""The site's own log: sentences and tracebacks that must not reach the server.

It is a file because in a simulation Ray forwards what a client prints to the server.
"""

import fcntl
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from fedrsclip_core.printable import printable
from fedrsclip_core.runs import paths

_PROGRESS_EVERY = 30.0
_MAX_BYTES = 2**20


class SiteLog:
    """``<home>/logs/<client>.log`` and the one before it, readable by their owner only.

    Parameters
    ----------
    client_name : str
        A name that can be a file's.
    max_bytes : int
        Size of each of the two files; what is older is deleted.
    """

    def __init__(self, client_name: str, *, max_bytes: int = _MAX_BYTES) -> None:
        self._path = paths.logs_dir() / f"{client_name}.log"
        self._max_bytes = max_bytes

    def write(self, text: str) -> None:
        """Append ``text`` with the time; a log that cannot be written stops nothing.

        Then standard error says so: without ``text``, since a simulation forwards it.
        """
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        # What a server says may be in a sentence.
        shown = "\n".join(printable(part, self._max_bytes) for part in text.split("\n"))
        line = f"{now} {shown}".encode(errors="backslashreplace")[: self._max_bytes - 1] + b"\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._opened(len(line)) as file:
                file.write(line)
        except OSError as error:
            why = f"the log of {self._path.stem} cannot be written ({error.strerror})"
            with suppress(OSError):  # it may lie on the same disk
                print(f"{why}: free some space in FEDRSCLIP_HOME", file=sys.stderr, flush=True)

    def _opened(self, length: int) -> BinaryIO:
        """Open and lock a log with room for ``length`` bytes.

        Each message may be a process of its own, so that logging's RotatingFileHandler, which
        knows nothing of others, would let one write to a file that another has moved away.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        while True:
            file = os.fdopen(os.open(self._path, flags, 0o600), "ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if _is_at(self._path, file):
                    if os.fstat(file.fileno()).st_size + length <= self._max_bytes:
                        return file
                    self._path.replace(self._path.with_suffix(".log.1"))
            except OSError:
                file.close()
                raise
            file.close()

    def progress(self, what: str) -> Callable[[int, int], None]:
        """Return a callback ``(done, total)`` that writes a line now and then and at the end."""
        written = float("-inf")

        def report(done: int, total: int) -> None:
            nonlocal written
            if done == total or time.monotonic() - written >= _PROGRESS_EVERY:
                written = time.monotonic()
                self.write(f"{what}: {done} of {total}")

        return report

    def failure(self, what: str, error: BaseException) -> None:
        """Append the sentence of ``error`` and its traceback."""
        details = "".join(traceback.format_exception(error))
        self.write(f"{what} failed: {error}\n{details}")


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether ``path`` is still the file that was opened."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False
