"""What a node of a Ray cluster is asked: whether it has what the others have."""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from fedrsclip_core.errors import FedRSCLIPError, RunError

_COMPARED = ("torch", "transformers", "flwr", "numpy")
_FILE = ".shared"


@dataclass(frozen=True)
class Expected:
    """What a node must have, as found where the command was started.

    Attributes
    ----------
    software : dict[str, str]
        Versions, and the digest of the code.
    token_file, token : str
        A file in a folder that this command holds, and what it says.
    """

    software: dict[str, str]
    token_file: str
    token: str

    @classmethod
    def in_held(cls, folder: Path) -> "Expected":
        """Write the file into a folder on which this process has the lock."""
        from fedrsclip_core.runs.fileio import write_text

        expected = cls(software(), str(folder / _FILE), token_hex(8))
        write_text(Path(expected.token_file), expected.token)
        return expected


@contextmanager
def expected_in(home: Path) -> Iterator[Expected]:
    """Have what is expected, with a file in ``FEDRSCLIP_HOME`` that is gone afterwards."""
    from fedrsclip_core.runs import lock

    with TemporaryDirectory(prefix=".probe-", dir=home) as probe, lock.hold(Path(probe)):
        yield Expected.in_held(Path(probe))


def software() -> dict[str, str]:
    """Return what must be the same at all nodes, so that they compute the same bits."""
    from fedrsclip_core.wire.digests import code_digest

    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: version(name) for name in _COMPARED}, "code": code_digest()}


def problem_here(expected: Expected, configurations: Sequence[str] = ()) -> str:
    """Say why this node cannot take part; empty if it can.

    Parameters
    ----------
    expected : Expected
        What it must have.
    configurations : Sequence[str]
        Resolved ones, whose CLIP and images are looked for; where they are says the environment.
    """
    found = software()
    for name, wanted in expected.software.items():
        if found[name] != wanted and name == "code":
            return "it has another version of this code: install the same everywhere"
        if found[name] != wanted:
            return f"it has {name} {found[name]}, here it is {wanted}: install the same everywhere"
    try:
        _check_shared(Path(expected.token_file), expected.token)
        for configuration in configurations:
            _check_files(configuration)
    except FedRSCLIPError as error:
        return str(error)
    return ""


def _check_shared(file: Path, token: str) -> None:
    from fedrsclip_core.runs import lock

    if not _says(file, token):
        raise RunError(
            f"it does not see {file.parent}: FEDRSCLIP_HOME must be a folder that all nodes "
            "share, under the same path"
        )
    if not os.access(file.parent, os.W_OK):
        raise RunError(f"it may not write to {file.parent}: start Ray as the same user everywhere")
    if not lock.is_held(file.parent):
        raise RunError(
            f"it does not see who has locked {file.parent}: the disk of FEDRSCLIP_HOME must be "
            "mounted with locks that hold between machines"
        )


def _says(file: Path, token: str) -> bool:
    try:
        return file.read_text(encoding="utf-8") == token
    except OSError:
        return False


def _check_files(configuration: str) -> None:
    from fedrsclip_core.clip.files import find_clip
    from fedrsclip_core.config.resolved import from_json

    config = from_json(configuration)
    find_clip(config.model, _site_path("model.path"))
    images = _site_path("data.path")
    if images is not None and not images.exists():
        raise RunError(f"there are no images at {images}")


def _site_path(key: str) -> Path | None:
    from fedrsclip_core.config.site_keys import SITE_KEYS

    value = os.environ.get(SITE_KEYS[key].variable)
    return Path(value) if value else None
