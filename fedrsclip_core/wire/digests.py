"""Digests by which server and clients find out that they do not run the same thing."""

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fedrsclip_core.config.resolved import to_json
from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs.fileio import sha256_of

PACKAGES = ("server_app", "client_app", "fedrsclip_core")


def app_files() -> dict[str, Path]:
    """Return the app's files as loaded, by their name inside the app, sorted.

    Raises
    ------
    ConfigError
        If one of the packages is not importable.
    """
    files: dict[str, Path] = {}
    for package in PACKAGES:
        folder = package_folder(package)
        files |= {f"{package}/{_name(folder, path)}": path for path in folder.rglob("*.py")}
    return dict(sorted(files.items()))


def package_folder(package: str) -> Path:
    """Return the folder from which ``package`` is, or would be, imported."""
    loaded = getattr(sys.modules.get(package), "__file__", None)
    if loaded is None:
        spec = find_spec(package)
        loaded = spec.origin if spec is not None else None
    if loaded is None:
        raise ConfigError(
            f"the package {package} cannot be imported: install fedrsclip with pip, or submit "
            "the whole app with `flwr run`"
        )
    return Path(loaded).resolve().parent


@cache
def code_digest() -> str:
    """sha256 over this process's code, read once: an edited file changes no loaded module."""
    return files_digest(app_files())


def files_digest(files: Mapping[str, Path]) -> str:
    """sha256 over names and bytes of files."""
    return contents_digest({name: path.read_bytes() for name, path in files.items()})


def contents_digest(contents: Mapping[str, bytes]) -> str:
    """sha256 over the names and bytes of files that are in memory, in the order of the names."""
    return sha256_of(*(part for item in sorted(contents.items()) for part in item))


def config_digest(config: Config) -> str:
    """sha256 over the configuration without site keys."""
    return sha256_of(to_json(config))


def class_digest(class_names: Sequence[str], words: Sequence[str]) -> str:
    """sha256 over the class names, in order, and the words that the text encoder reads."""
    return sha256_of(json.dumps([list(class_names), list(words)], ensure_ascii=True))


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
