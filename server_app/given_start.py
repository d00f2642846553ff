"""A start of what is shared that was trained before: by a run of this server, or elsewhere."""

from collections.abc import Mapping, Sequence

import numpy as np

from fedrsclip_core.config.shared_tensors import (
    OFFSETS,
    SHARED_OFFSETS_V,
    Shapes,
    SharedTensors,
)
from fedrsclip_core.errors import ModelError, RunError
from fedrsclip_core.runs.imported import imported_prompt, is_imported
from fedrsclip_core.runs.published import hub_prompt, is_hub_id
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.runs.shared_prompt import NoSharedPromptError, SharedPrompt, read_shared_prompt

_ROWS = set(OFFSETS) - {SHARED_OFFSETS_V}
"""Tensors with a row for each class."""


def given_start(source: str) -> SharedPrompt:
    """Read what ``run.shared_init_from`` names, whatever CLIP it is for.

    Parameters
    ----------
    source : str
        A run at this server, ``owner/name`` of the hub, or ``sha256:`` of a file that whoever
        started the run has imported here.

    Raises
    ------
    RunError
        If it is not there or damaged.
    """
    if is_imported(source) or is_hub_id(source):
        try:
            return imported_prompt(source) if is_imported(source) else hub_prompt(source)
        except ModelError as error:
            raise RunError(f"run.shared_init_from is {source}: {error}") from error
    path = RunFolder.named(source).shared_prompt
    refused = f"run.shared_init_from is {source} but {path}"
    try:
        return read_shared_prompt(path)
    except FileNotFoundError:
        raise RunError(
            f"{refused} is not there: name a run whose method shares something"
        ) from None
    except NoSharedPromptError as error:
        raise RunError(f"{refused} {error}") from error


def fitting_start(
    source: str, shapes: Shapes, clip: str, class_names: Sequence[str]
) -> SharedTensors:
    """Return what ``run.shared_init_from`` names if a run can start with it.

    Class offsets follow their classes, which may stand in another order.

    Parameters
    ----------
    source : str
        As of :func:`given_start`.
    shapes : Shapes
        What the run shares.
    clip : str
        The digest of its CLIP.
    class_names : Sequence[str]
        Its classes; empty where the server does not know them.

    Raises
    ------
    RunError
        If it is of another CLIP, other classes or other shapes, or is not there.
    """
    found = given_start(source)
    refused = f"run.shared_init_from is {source}, which"
    if found.clip != clip:
        raise RunError(
            f"{refused} was trained for another CLIP, or by a version before 0.2, which gave the "
            "same CLIP another digest: give model.path that CLIP, or name a newer run"
        )
    shared = found.shared
    if _ROWS & shared.keys() and found.class_names and class_names:
        shared = _in_order(shared, found.class_names, class_names, refused)
    held = {tensor: value.shape for tensor, value in shared.items()}
    if held != shapes:
        raise RunError(f"{refused} holds {_listed(held)}, expected {_listed(shapes)}")
    return shared


def _in_order(
    shared: SharedTensors, own: Sequence[str], wanted: Sequence[str], refused: str
) -> SharedTensors:
    """Return the tensors with their rows in the order of the run's classes."""
    if set(own) != set(wanted):
        missing = next((name for name in wanted if name not in own), None)
        lacks = (
            f"has no offset of {missing!r}"
            if missing is not None
            else f"has one of {next(name for name in own if name not in wanted)!r}, too"
        )
        raise RunError(
            f"{refused} {lacks}: class offsets start a run of the same classes only; a prompt "
            "(method=fedrsclip) starts a run of any"
        )
    places = [own.index(name) for name in wanted]
    return {
        name: np.ascontiguousarray(tensor[places]) if name in _ROWS else tensor
        for name, tensor in shared.items()
    }


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
