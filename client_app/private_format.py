"""What a private file holds: its tensors' names and shapes, and what it was trained for."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.learning.prompts import ClientState

Tensors = Mapping[str, NDArray[np.float32]]

_NAMES = {
    "private": "private_prompt",
    "weight": "gate",
    "offset_u": "offset_u",
    "offset_v": "offset_v",
    "class_offsets": "class_offsets",
}
"""The tensors of a file by :class:`ClientState`'s attributes; files keep the names they had."""


@dataclass(frozen=True)
class PrivateFormat:
    """What a private prompt was trained for; a file with another one is foreign.

    Attributes
    ----------
    clip : str
        The CLIP's fingerprint.
    classes : str
        Digest of the federation's class names and words.
    n_ctx, width : int
        The prompt's shape.
    fusion : str
        What the fusion weights beside the prompt mean (``prompt.fusion``).
    gate_size : int
        Their number; 0 for none. Files call weights of any kind a gate.
    rank : int
        Of the offset from the shared prompt; 0 for a private prompt of its own.
    offset_classes, dim : int
        Shape of the private class offsets; 0 for none. Without a private prompt ``n_ctx`` is 0.
    """

    clip: str
    classes: str
    n_ctx: int
    width: int
    fusion: str
    gate_size: int
    rank: int = 0
    offset_classes: int = 0
    dim: int = 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of a file's tensors by name."""
        shapes: dict[str, tuple[int, ...]] = {}
        if self.n_ctx and not self.rank:
            shapes["private"] = (self.n_ctx, self.width)
        if self.rank:
            shapes = {"offset_u": (self.n_ctx, self.rank), "offset_v": (self.rank, self.width)}
        if self.gate_size:
            shapes["weight"] = (self.gate_size,)
        if self.offset_classes:
            shapes["class_offsets"] = (self.offset_classes, self.dim)
        return {_NAMES[name]: shape for name, shape in shapes.items()}


def tensors_of(state: ClientState) -> Tensors:
    """Return the tensors of a state that exist, float32, by their names in a file."""
    parts = {stored: getattr(state, name) for name, stored in _NAMES.items()}
    return {
        name: np.asarray(value, dtype=np.float32)
        for name, value in parts.items()
        if value is not None
    }


def state_of(tensors: Tensors) -> ClientState:
    """Return the state that a file's tensors make; the inverse of :func:`tensors_of`."""
    return ClientState(**{name: tensors.get(stored) for name, stored in _NAMES.items()})


def own_tensors(tensors: Tensors) -> Tensors:
    """Return those of a file's tensors that make the state; others lie beside it."""
    return {name: tensor for name, tensor in tensors.items() if name in _NAMES.values()}
