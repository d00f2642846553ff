"""Safetensors files that prove that they are whole: a sha256 over metadata and tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.runs.fileio import sha256_of, write_bytes

Tensors = Mapping[str, NDArray[Any]]


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
    sealed = {**metadata, "sha256": _checksum(metadata, whole)}
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
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise DamagedFileError(f"it cannot be read ({error}), so it is damaged") from error
    if metadata.pop("sha256", "") != _checksum(metadata, tensors):
        raise DamagedFileError("its checksum does not match its content, so it is damaged")
    return metadata, tensors


def _checksum(metadata: Mapping[str, str], tensors: Tensors) -> str:
    parts: list[bytes | str] = [json.dumps(dict(metadata), sort_keys=True)]
    for name in sorted(tensors):
        parts += [name, tensors[name].tobytes()]
    return sha256_of(*parts)
