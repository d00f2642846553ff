"""Where things live; nothing depends on the working directory."""

import os
import re
from functools import cache
from pathlib import Path

from fedrsclip_core.errors import ConfigError
from fedrsclip_core.printable import printable

_CHECKOUT = Path(__file__).resolve().parents[2]
"""What the packages lie in, also where they are installed."""
_PACKED = ("fedrsclip", "fedrsclip_core", "client_app", "server_app", "conf")
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def home() -> Path:
    """Return ``$FEDRSCLIP_HOME``, by default ``.fedrsclip`` in the user's home directory.

    Raises
    ------
    ConfigError
        If it lies where it would travel with the submitted app.
    """
    return _checked(os.environ.get("FEDRSCLIP_HOME") or str(Path.home() / ".fedrsclip"))


@cache
def _checked(given: str) -> Path:
    return outside_app(place(given, "FEDRSCLIP_HOME"), "FEDRSCLIP_HOME")


def place(given: str | Path, what: str) -> Path:
    """Return the path that a person has given, with ``~`` replaced.

    Raises
    ------
    ConfigError
        If it can be none; ``what`` names the setting.
    """
    if "\0" in str(given):
        raise ConfigError(f"{what} is {str(given)!r}: a path has no NUL in it")
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise ConfigError(f"{what} is {given}: there is no such user here, or no home") from None


def free_folder(given: str, what: str) -> Path:
    """Return where a person wants a new folder.

    Raises
    ------
    ConfigError
        If something is there, or it would travel with the submitted app; ``what`` names the
        setting.
    """
    folder = outside_app(place(given, what).resolve(), what)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"there is something at {folder}: give {what}= a new or empty folder")
    return folder


def outside_app(path: Path, what: str) -> Path:
    """Return ``path`` if nothing that is written there can travel with the submitted app.

    Flower packs what it finds below the app's packages and ``conf`` and hands it to every site.

    Raises
    ------
    ConfigError
        Otherwise; ``what`` names the setting.
    """
    resolved = path.resolve()
    for folder in (resolved, *resolved.parents):
        is_app = folder.parent == _CHECKOUT or (folder.parent / "pyproject.toml").is_file()
        if folder.name in _PACKED and is_app:
            raise ConfigError(
                f"{what} is {path}, in a folder that travels to every site with the submitted "
                "code: choose one outside it"
            )
    return path


def runs_dir() -> Path:
    """Folder with one sub-folder per run (server side)."""
    return home() / "runs"


def private_root() -> Path:
    """Folder with what clients of this machine keep for themselves."""
    return home() / "private"


def imports_dir() -> Path:
    """Folder of the shared prompts that were trained elsewhere, each named by its sha256."""
    return home() / "imports"


def private_dir(federation: str, run_name: str, client_name: str) -> Path:
    """Folder with one client's private prompts of one run."""
    return private_root() / federation / run_name / client_name


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
            f"{what} is '{printable(value, 100)}': use at most 100 letters, digits, '.', '_' or "
            "'-', beginning with a letter or digit"
        )
    return value
