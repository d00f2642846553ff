"""Where things live; nothing depends on the working directory."""

import os
import re
from pathlib import Path

from fedrsclip_core.errors import ConfigError

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def home() -> Path:
    """Return ``$FEDRSCLIP_HOME``, by default ``.fedrsclip`` in the user's home directory."""
    return Path(os.environ.get("FEDRSCLIP_HOME") or Path.home() / ".fedrsclip").expanduser()


def runs_dir() -> Path:
    """Folder with one sub-folder per run (server side)."""
    return home() / "runs"


def private_dir(federation: str, run_name: str, client_name: str) -> Path:
    """Folder with one client's private prompts of one run."""
    return home() / "private" / federation / run_name / client_name


def evaluations_dir(federation: str, run_name: str) -> Path:
    """Folder with one file per client of this machine: what it found in the final evaluation."""
    return home() / "evaluations" / federation / run_name


def bench_dir(name: str) -> Path:
    """Folder with the results of one benchmark."""
    return home() / "bench" / name


def tuned_file() -> Path:
    """File of the values that this user has tuned."""
    return home() / "tuned.yaml"


def features_dir() -> Path:
    """Folder of the feature caches."""
    return home() / "features"


def logs_dir() -> Path:
    """Folder of the site logs."""
    return home() / "logs"


def safe_name(value: str, what: str) -> str:
    """Return ``value`` if it can be one path component.

    Raises
    ------
    ConfigError
        Otherwise; ``what`` names the setting.
    """
    if not _SAFE_NAME.fullmatch(value):
        raise ConfigError(
            f"{what} is {value!r}: use at most 100 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    return value
