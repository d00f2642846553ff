"""The learned context vectors: their starts and what a client keeps of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.schema import RANDOM_INIT, TRANSPORT
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs.fileio import sha256_of

if TYPE_CHECKING:
    from fedrsclip_core.clip.files import ClipFiles


@dataclass(frozen=True)
class ClientState:
    """What never leaves a client's disk.

    Attributes
    ----------
    private : NDArray[np.float32] or None
        The private prompt ``(n_ctx, width)``; ``None`` where the method has none of its own.
    weight : NDArray[np.float32] or None
        What is learned of the fusion: the private features' share itself, ``(n_cls,)`` for
        ``fusion: class_weight``, or its logit, ``(1,)`` for ``gate`` and ``(n_cls,)`` for
        ``class_gate``; ``None`` where nothing is learned.
    offset_u, offset_v : NDArray[np.float32] or None
        Under ``private_rank``, ``(n_ctx, rank)`` and ``(rank, width)``: the private prompt is
        the shared one plus their product.
    class_offsets : NDArray[np.float32] or None
        Private class offsets ``(n_cls, dim)``, added to the private text features.
    """

    private: NDArray[np.float32] | None
    weight: NDArray[np.float32] | None = None
    offset_u: NDArray[np.float32] | None = None
    offset_v: NDArray[np.float32] | None = None
    class_offsets: NDArray[np.float32] | None = None


def random_prompt(n_ctx: int, width: int, std: float, *key: str | int) -> NDArray[np.float32]:
    """Draw context vectors from N(0, std), a pure function of ``key``.

    Parameters
    ----------
    n_ctx, width : int
        Number of vectors and the text encoder's width.
    std : float
        Standard deviation; CoOp uses 0.02.
    *key : str or int
        Names the draw, e.g. ``("private", seed, client_name)``.

    Returns
    -------
    NDArray[np.float32]
        ``(n_ctx, width)``.
    """
    entropy = int(sha256_of(*(str(part) for part in key))[:32], 16)
    draws = np.random.default_rng(entropy).standard_normal((n_ctx, width))
    return (std * draws).astype(np.float32)


def word_prompt(
    files: "ClipFiles", words: str, n_ctx: int, std: float, *key: str | int
) -> NDArray[np.float32]:
    """Start from the token embeddings of ``words``.

    Fewer tokens than ``n_ctx`` are preceded by random vectors, so that the words keep their place
    next to the class name.

    Raises
    ------
    ConfigError
        If the words have more tokens than ``n_ctx``.
    """
    from fedrsclip_core.clip.tokens import token_ids
    from fedrsclip_core.clip.weights import load_token_rows

    ids = token_ids(files, words)
    if len(ids) > n_ctx:
        raise ConfigError(
            f"the prompt start {words!r} has {len(ids)} tokens but prompt.n_ctx is {n_ctx}: "
            f"use fewer words, prompt.n_ctx={len(ids)}, or {RANDOM_INIT!r}"
        )
    start = random_prompt(n_ctx, files.width, std, *key)  # (n_ctx, width)
    if ids:
        start[n_ctx - len(ids) :] = load_token_rows(files.folder, ids)
    return start


def initial_prompt(
    files: "ClipFiles", init: str, n_ctx: int, std: float, *key: str | int
) -> NDArray[np.float32]:
    """Start a prompt ``(n_ctx, width)`` as ``shared_init`` or ``private_init`` says."""
    if init == RANDOM_INIT:
        return random_prompt(n_ctx, files.width, std, *key)
    return word_prompt(files, init, n_ctx, std, *key)


def initial_offset(
    n_ctx: int, width: int, rank: int, *key: str | int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Start the private offset's factors: ``U`` random, ``V`` zero, so that their product is zero.

    ``U`` has deviation ``rank ** -0.5``: ``U U^T`` is then 1 on average, and the first steps on
    ``V`` move the private prompt as far as steps on a prompt of its own would.

    Returns
    -------
    tuple[NDArray[np.float32], NDArray[np.float32]]
        ``U (n_ctx, rank)`` and ``V (rank, width)``.
    """
    return random_prompt(n_ctx, rank, rank**-0.5, *key), np.zeros((rank, width), np.float32)


def initial_weight(fusion: str, beta: float, num_classes: int) -> NDArray[np.float32] | None:
    """Start what is learned of the fusion at ``beta``; ``None`` where nothing is."""
    if fusion in ("fixed", TRANSPORT):
        return None
    if fusion == "class_weight":
        return np.full(num_classes, beta, dtype=np.float32)
    clipped = min(max(beta, 1e-4), 1 - 1e-4)
    size = num_classes if fusion == "class_gate" else 1
    return np.full(size, np.log(clipped / (1 - clipped)), dtype=np.float32)
