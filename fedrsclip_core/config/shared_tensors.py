"""What a method shares: the tensors that travel and are averaged, by name and shape."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.schema import PromptConfig

SHARED_PROMPT = "shared_prompt"
"""The context vectors ``(n_ctx, width)``."""

SHARED_OFFSETS = "shared_offsets"
"""One vector for each class ``(n_cls, dim)``, added to the class's text features."""

SHARED_OFFSETS_U, SHARED_OFFSETS_V = "shared_offsets_u", "shared_offsets_v"
"""The factors ``(n_cls, rank)`` and ``(rank, dim)`` of class offsets of low rank."""

SHARED_COEFFICIENTS = "shared_coefficients"
"""Class offsets as coefficients ``(n_cls, size)`` of directions that all clients know."""

OFFSETS = (SHARED_OFFSETS, SHARED_OFFSETS_U, SHARED_OFFSETS_V, SHARED_COEFFICIENTS)

NAMES = (SHARED_PROMPT, *OFFSETS)
"""All names, in the order in which they travel."""

SharedTensors = Mapping[str, NDArray[np.float32]]
"""Of :func:`shared_shapes`; empty where a method shares nothing."""

Shapes = Mapping[str, tuple[int, int]]


def shared_shapes(prompt: PromptConfig, *, n_cls: int, width: int, dim: int) -> Shapes:
    """Return the shapes of what is shared, in the order in which it travels.

    Parameters
    ----------
    prompt : PromptConfig
        The run's.
    n_cls : int
        The federation's classes.
    width, dim : int
        The text encoder's width and the size of its projection.
    """
    shapes: dict[str, tuple[int, int]] = {}
    if prompt.shared:
        shapes[SHARED_PROMPT] = (prompt.n_ctx, width)
    size = prompt.basis_size(n_cls=n_cls, width=width, dim=dim)
    if size is not None:
        shapes[SHARED_COEFFICIENTS] = (n_cls, size)
    elif prompt.offsets_rank is not None:
        shapes[SHARED_OFFSETS_U] = (n_cls, prompt.offsets_rank)
        shapes[SHARED_OFFSETS_V] = (prompt.offsets_rank, dim)
    elif prompt.shared_offsets is not None:
        shapes[SHARED_OFFSETS] = (n_cls, dim)
    return shapes


def num_numbers(shapes: Shapes) -> int:
    """Count the numbers that travel each way in a round."""
    return sum(map(math.prod, shapes.values()))
