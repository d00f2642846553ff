"""What is shared, as a run leaves it behind: how the file is written and read."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.config.shared_tensors import (
    NAMES,
    OFFSETS,
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
    SharedTensors,
)
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs.sealed import DamagedFileError, read_tensors, write_sealed

_FORMAT = "fedrsclip-shared-prompt-3"
_UNSEALED = ("fedrsclip-shared-prompt-1", "fedrsclip-shared-prompt-2")
"""Formats without a checksum; the first knew one tensor and did not name it in the metadata."""
_DTYPE = "float32"
"""Of the towers, in files that do not say it."""


class NoSharedPromptError(Exception):
    """A file that is no shared prompt of a run, or a damaged one; the text says why."""


@dataclass(frozen=True)
class SharedPrompt:
    """What is shared with all that is needed to classify images with it.

    Attributes
    ----------
    shared : SharedTensors
        At least one tensor in a file of its own.
    class_names, words : tuple of str
        The federation's classes and what the text encoder reads for each; empty if the server
        did not know them.
    model, hub_id, revision, dtype : str
        The CLIP as the configuration named it; ``hub_id`` and ``revision`` may be empty.
    clip : str
        The CLIP's digest; empty if nobody said it.
    templates : tuple of str
        The zero-shot templates.
    run : str
        The run's name.
    server_round : int
        The round after which it was written.
    reading : Reading
        How the federation's images became RGB; the default in files that do not say it.
    calibrated_factor : float or None
        What to multiply the CLIP's inverse temperature by, so that the shared side is as sure as it
        is right on the clients' validation images; ``None`` if that was not measured.
    """

    shared: SharedTensors
    class_names: tuple[str, ...]
    words: tuple[str, ...]
    model: str
    hub_id: str
    revision: str
    dtype: str
    clip: str
    templates: tuple[str, ...]
    run: str
    server_round: int
    reading: Reading = AS_THEY_ARE
    calibrated_factor: float | None = None


def write_shared_prompt(path: Path, prompt: SharedPrompt) -> None:
    """Replace ``path`` atomically.

    Raises
    ------
    OSError
        If the disk is full or not writable; the previous file is then intact.
    """
    metadata = {"format": _FORMAT, **described(prompt)}
    write_sealed(path, prompt.shared, metadata)


def described(prompt: SharedPrompt) -> dict[str, str]:
    """Return the metadata beside the tensors, without a format."""
    return {
        "class_names": json.dumps(prompt.class_names),
        "words": json.dumps(prompt.words),
        "model": prompt.model,
        "hub_id": prompt.hub_id,
        "revision": prompt.revision,
        "dtype": prompt.dtype,
        "clip": prompt.clip,
        "tensors": json.dumps(list(prompt.shared)),
        "templates": json.dumps(prompt.templates),
        "run": prompt.run,
        "round": str(prompt.server_round),
        "bands": json.dumps(prompt.reading.bands),
        "stretch": json.dumps(prompt.reading.stretch),
        "nodata": json.dumps(prompt.reading.nodata),
        "calibrated_factor": json.dumps(prompt.calibrated_factor),
    }


def read_shared_prompt(path: Path) -> SharedPrompt:
    """Return what ``path`` holds.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    NoSharedPromptError
        If it is of something else, or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        metadata, tensors, sealed = read_tensors(path)
        if metadata.get("format") not in (_FORMAT, *_UNSEALED):
            raise NoSharedPromptError(
                "is not a shared prompt of a run: give the shared_prompt.safetensors of a run's "
                "folder"
            )
        if metadata["format"] == _FORMAT and not sealed:
            raise DamagedFileError("it has no checksum")
        found = prompt_of(tensors, {"tensors": f'["{SHARED_PROMPT}"]', **metadata})
        if not found.shared:
            raise ValueError("its tensors are none")
        return found
    except (DamagedFileError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise NoSharedPromptError(
            f"is damaged ({type(error).__name__}: {error}): copy it from the run's folder again"
        ) from error


def prompt_of(
    tensors: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str]
) -> SharedPrompt:
    """Return what :func:`described` said of some of the tensors, checked.

    Raises
    ------
    KeyError, TypeError, ValueError
        If something is wrong.
    """
    shared = {name: tensors[name] for name in _texts(metadata["tensors"])}
    class_names, words = _texts(metadata["class_names"]), _texts(metadata["words"])
    if len(words) != len(class_names):
        raise ValueError(f"{len(class_names)} classes but words for {len(words)}")
    if not set(NAMES).issuperset(shared):
        raise ValueError(f"its tensors are {', '.join(shared)}")
    for name, tensor in shared.items():
        if tensor.ndim != 2 or tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(f"{name} is not a finite float32 matrix")
    _check_offsets(shared, len(class_names))
    return SharedPrompt(
        shared={name: np.ascontiguousarray(shared[name]) for name in NAMES if name in shared},
        class_names=class_names,
        words=words,
        model=metadata["model"],
        hub_id=metadata["hub_id"],
        revision=metadata["revision"],
        dtype=metadata.get("dtype", _DTYPE),
        clip=metadata["clip"],
        templates=_texts(metadata.get("templates", "[]")),
        run=metadata.get("run", ""),
        server_round=int(metadata.get("round", 0)),
        reading=_reading(metadata),
        calibrated_factor=_factor(metadata),
    )


def _reading(metadata: Mapping[str, str]) -> Reading:
    nodata = json.loads(metadata.get("nodata", "null"))
    if nodata is not None and type(nodata) not in (int, float):
        raise ValueError("nodata is no number")
    bands, stretch = (_texts(metadata.get(name, "[]")) for name in ("bands", "stretch"))
    try:
        return Reading(bands, stretch, None if nodata is None else float(nodata))
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _factor(metadata: Mapping[str, str]) -> float | None:
    factor = json.loads(metadata.get("calibrated_factor", "null"))
    if factor is None:
        return None
    if type(factor) not in (int, float) or not 0 < factor < math.inf:
        raise ValueError("calibrated_factor is no positive number")
    return float(factor)


def _check_offsets(shared: Mapping[str, NDArray[np.float32]], n_cls: int) -> None:
    factors = [shared.get(name) for name in (SHARED_OFFSETS_U, SHARED_OFFSETS_V)]
    u, v = (None if factor is None else factor.shape for factor in factors)
    if (u is None) != (v is None) or (u is not None and v is not None and u[1] != v[0]):
        raise ValueError(f"its factors {u} and {v} have no product")
    for name in set(OFFSETS) & shared.keys() - {SHARED_OFFSETS_V}:
        if n_cls and len(shared[name]) != n_cls:
            raise ValueError(f"{n_cls} classes but {name} for {len(shared[name])}")


def _texts(value: str) -> tuple[str, ...]:
    return tuple(str(text) for text in json.loads(value))
