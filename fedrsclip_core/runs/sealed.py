"""Safetensors files that prove that they are whole: a sha256 over metadata and tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.runs.fileio import sha256_of, write_bytes

Tensors = Mapping[str, NDArray[Any]]

_CHECKSUM = "sha256"
"""The key of the metadata."""


class DamagedFileError(Exception):
    """A sealed file cannot be read or is not what was written; the text says why."""


def write_sealed(
    path: Path, tensors: Tensors, metadata: Mapping[str, str], *, mode: int = 0o644
) -> None:
    """Replace ``path`` atomically.

    Raises
    ------
    OSError
        If the disk is full or not writable; the previous file is then intact.
    """
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    sealed = {**metadata, _CHECKSUM: _checksum(metadata, whole)}
    write_bytes(path, save(whole, sealed), mode=mode)


def read_sealed(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Return metadata (without the checksum) and tensors.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    DamagedFileError
        If it cannot be read or its checksum does not fit.
    """
    metadata, tensors, sealed = read_tensors(path)
    if not sealed:
        raise DamagedFileError("it has no checksum, so it is damaged")
    return metadata, tensors


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]], bool]:
    """Return metadata (without the checksum), tensors, and whether there is a checksum.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    DamagedFileError
        If it cannot be read or has a checksum that does not fit.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, LookupError, ValueError, TypeError) as error:
        raise DamagedFileError(f"it cannot be read ({error}), so it is damaged") from error
    checksum = metadata.pop(_CHECKSUM, None)
    if checksum not in (None, _checksum(metadata, tensors)):
        raise DamagedFileError("its checksum does not match its content, so it is damaged")
    return metadata, tensors, checksum is not None


def _checksum(metadata: Mapping[str, str], tensors: Tensors) -> str:
    parts: list[bytes | str] = [json.dumps(dict(metadata), sort_keys=True)]
    for name in sorted(tensors):
        parts += [name, tensors[name].tobytes()]
    return sha256_of(*parts)
