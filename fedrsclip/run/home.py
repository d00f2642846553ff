"""Whether a run can work in ``FEDRSCLIP_HOME``, asked before anything is started."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import lock, paths
from fedrsclip_core.runs.fileio import write_text

_MIN_FREE_GIB = 1.0
_ELSEWHERE = "set FEDRSCLIP_HOME to a folder that can"


def check_home() -> str:
    """Write to the folder, lock in it, and look at its space.

    Returns
    -------
    str
        What was found.

    Raises
    ------
    RunError
        In one sentence that says what to do.
    """
    home = paths.home()
    if home.exists() and not home.is_dir():
        raise RunError(f"FEDRSCLIP_HOME is {home}, which is a file: set it to a folder")
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".probe-", dir=home) as probe:
            write_text(Path(probe) / "written", "")
            _check_locks(Path(probe), home)
        free = shutil.disk_usage(home).free / 2**30
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"{home} is full: make room there, or {_ELSEWHERE} be written"
            ) from error
        raise RunError(f"{home} cannot be written ({error.strerror}): {_ELSEWHERE}") from error
    _check_folders(home)
    if free < _MIN_FREE_GIB:
        raise RunError(f"{home} has {free:.1f} GiB left: at least {_MIN_FREE_GIB:g} is needed")
    return f"{home} is writable, {free:.1f} GiB free"


def _check_locks(probe: Path, home: Path) -> None:
    try:
        lock.hold(probe).close()
    except OSError as error:
        raise RunError(
            f"the file system of {home} has no locks ({error.strerror}), without which two runs "
            "could write one folder: set FEDRSCLIP_HOME to a folder on a local disk"
        ) from error


def _check_folders(home: Path) -> None:
    """Look at what earlier runs made, perhaps as another user."""
    for path in (paths.runs_dir(), paths.features_dir(), paths.logs_dir(), home / "private"):
        if not os.path.lexists(path):
            continue
        if not path.is_dir():
            raise RunError(f"{path} is not a folder: move it away, or {_ELSEWHERE} be written")
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise RunError(
                f"{path} cannot be written (Permission denied): it may be another user's, as after "
                f"a run with sudo; change its owner, or {_ELSEWHERE} be written"
            )
