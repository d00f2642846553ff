"""Shared prompts that were trained elsewhere and given as a file: kept here, by their sha256."""

import re
from pathlib import Path

from fedrsclip_core.errors import ModelError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.fileio import sha256_of_file, write_bytes
from fedrsclip_core.runs.published import read_prompt
from fedrsclip_core.runs.shared_prompt import SharedPrompt

_SHA256 = "sha256:"
_IMPORTED = re.compile(f"{_SHA256}[0-9a-f]{{64}}")


def is_imported(source: str) -> bool:
    """Whether a text names an imported file."""
    return _IMPORTED.fullmatch(source) is not None


def import_prompt(file: Path) -> str:
    """Keep a shared prompt in this home and return the name by which a run starts from it.

    The name says the content and nothing of where the file was.

    Raises
    ------
    ModelError
        If it is none, or damaged.
    OSError
        If it cannot be kept.
    """
    read_prompt(file)
    name = f"{_SHA256}{sha256_of_file(file)}"
    kept = _kept(name)
    if not kept.exists():
        write_bytes(kept, file.read_bytes())
    imported_prompt(name)  # the file may have changed meanwhile
    return name


def imported_prompt(name: str) -> SharedPrompt:
    """Return an imported shared prompt.

    Raises
    ------
    ModelError
        If it is not here or no longer what was imported.
    """
    file = _kept(name)
    if not file.is_file():
        raise ModelError(
            f"no such file was imported on this machine ({file}): start the run where the file is, "
            "by its path"
        )
    if sha256_of_file(file) != name.removeprefix(_SHA256):
        raise ModelError(f"{file} is damaged: remove it, and import the prompt again by its path")
    return read_prompt(file)


def _kept(name: str) -> Path:
    return paths.imports_dir() / f"{name.removeprefix(_SHA256)}.safetensors"
