"""The site's own log: sentences and tracebacks that must not reach the server.

It is a file because in a simulation Ray forwards what a client prints to the server.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

from fedrsclip_core import paths

_PROGRESS_EVERY = 30.0


class SiteLog:
    """``<home>/logs/<client>.log``, readable by its owner only.

    Parameters
    ----------
    client_name : str
        A name that can be a file's.
    """

    def __init__(self, client_name: str) -> None:
        self._path = paths.logs_dir() / f"{client_name}.log"

    def write(self, text: str) -> None:
        """Append ``text`` with the time; a log that cannot be written stops nothing.

        Then standard error says so: without ``text``, since a simulation forwards it.
        """
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with os.fdopen(os.open(self._path, flags, 0o600), "ab") as file:
                file.write(line.encode(errors="backslashreplace"))
        except OSError as error:
            why = f"the log of {self._path.stem} cannot be written ({error.strerror})"
            print(f"{why}: free some space in FEDRSCLIP_HOME", file=sys.stderr, flush=True)

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
