"""The folders of runs at the server: which one is meant, and whether a process works on it."""

import fcntl
import json
from pathlib import Path
from typing import Any

from fedrsclip_core import paths
from fedrsclip_core.errors import ConfigError, RunError


def named(name: str) -> Path:
    """Return the folder of a run.

    Raises
    ------
    ConfigError
        If there is no run of that name here.
    """
    root = paths.runs_dir()
    folder = root / paths.safe_name(name, "run")
    if not (folder / "run.json").is_file():
        raise ConfigError(f"there is no run {name} in {root}")
    return folder


def newest() -> Path:
    """Return the folder of the run that was started or resumed last.

    Raises
    ------
    ConfigError
        If there is no run here.
    """
    root = paths.runs_dir()
    found = sorted(root.glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ConfigError(f"there is no run in {root}: look at the server, with its FEDRSCLIP_HOME")
    return found[-1].parent


def is_held(folder: Path) -> bool:
    """Whether a process works on the run or benchmark in this folder."""
    lock = folder / ".lock"
    if not lock.is_file():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; ``None`` if there is no such file.

    Raises
    ------
    RunError
        If the file holds anything else.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RunError(f"{path.name} is damaged: it holds no JSON object")
    return value
