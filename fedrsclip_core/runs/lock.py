"""Who works on a folder: one process at a time, asked by others without a trace."""

import fcntl
import os
import struct
import sys
import time
from pathlib import Path
from typing import IO

FILE = ".lock"
"""In a folder, whether anybody holds it or not."""

_RETRY_SECONDS = 0.1
_FLOCK = "hhqqi4x"
"""Linux's ``struct flock``: type, whence, start, length, process."""


def hold(folder: Path, *, patience: float = 0.0) -> IO[bytes]:
    """Hold a folder against other processes until the file that is returned is closed.

    The kernel lets go when the last process that has the file open ends, however it ends; a
    process that inherits the file holds the folder, too.

    Parameters
    ----------
    folder : Path
        An existing folder.
    patience : float
        Seconds to wait for another process to let go.

    Raises
    ------
    BlockingIOError
        If another process holds the folder.
    """
    deadline = time.monotonic() + patience
    lock = (folder / FILE).open("ab")
    while True:
        try:
            _lock(lock)
            return lock
        except BlockingIOError:
            if time.monotonic() >= deadline:
                lock.close()
                raise
        except BaseException:
            lock.close()
            raise
        time.sleep(_RETRY_SECONDS)


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder; nobody who wants to hold it is kept from that."""
    try:
        with (folder / FILE).open("rb") as lock:
            return _is_locked(lock)
    except (FileNotFoundError, IsADirectoryError):  # a folder in its place cannot be held
        return False


# flock cannot be asked without taking it, record locks are lost with any descriptor of the file
# and are not inherited. Only locks of open files can do both; Python has them on Linux alone.
if sys.platform == "linux":

    def _lock(lock: IO[bytes]) -> None:
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_WRLCK))

    def _is_locked(lock: IO[bytes]) -> bool:
        found = fcntl.fcntl(lock, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
        return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)

    def _whole_file(kind: int) -> bytes:
        return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)

else:

    def _lock(lock: IO[bytes]) -> None:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _is_locked(lock: IO[bytes]) -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
