"""The output folder: ours or empty, and what people put into it stays."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs.fileio import write_json, write_text

STATE_FILE = "deploy.json"
_FORMAT = 1
PRIVATE_FOLDER = 0o700


def claim(folder: Path, federation: str, overrides: Sequence[str]) -> None:
    """Make ``folder`` the output folder of a federation.

    Raises
    ------
    ConfigError
        If it holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"out={folder} is not a folder")
    if folder.is_dir() and any(folder.iterdir()):
        known = _state(folder)["federation"]
        if known != federation:
            raise ConfigError(
                f"out={folder} holds the federation {known}, not {federation}: choose another one"
            )
    make_private(folder)
    state = {"format": _FORMAT, "federation": federation, "overrides": list(overrides)}
    write_json(folder / STATE_FILE, state)


def known_overrides(folder: Path) -> list[str]:
    """Return the overrides with which ``folder`` was rendered.

    Raises
    ------
    ConfigError
        If it was not rendered by `fedrsclip deploy`.
    """
    return [str(override) for override in _state(folder)["overrides"]]


def make_private(folder: Path) -> None:
    """Create a folder that only its owner may enter."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(PRIVATE_FOLDER)


def write_kept(path: Path, text: str, *, mode: int) -> None:
    """Write a file that people edit, unless it is there."""
    if not path.exists():
        write_text(path, text, mode=mode)


def _state(folder: Path) -> dict[str, Any]:
    foreign = ConfigError(
        f"out={folder} is not empty and was not rendered by `fedrsclip deploy`: choose a new folder"
    )
    try:
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise foreign from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise foreign
    return state
