"""The classifier of a client: text features of two prompts, fused and compared with images."""

import torch
from torch import Tensor


def unit(tensor: Tensor) -> Tensor:
    """Scale the last dimension to length one."""
    length: Tensor = torch.linalg.vector_norm(tensor, dim=-1, keepdim=True)
    return tensor / length


def fuse(shared: Tensor, private: Tensor, weight: Tensor | float) -> Tensor:
    """Fuse two sets of text features: ``unit((1 - weight) * shared + weight * private)``.

    Parameters
    ----------
    shared, private : Tensor
        Unit text features ``(n_cls, dim)``.
    weight : Tensor or float
        The private share: a number, ``(1,)`` or one per class ``(n_cls,)``, in [0, 1].

    Returns
    -------
    Tensor
        Unit features ``(n_cls, dim)``.
    """
    if isinstance(weight, Tensor):
        weight = weight[:, None]  # (1 or n_cls, 1)
    return unit((1 - weight) * shared + weight * private)


def private_weight(gate: Tensor | None, beta: float) -> Tensor | float:
    """Return the private share: ``beta`` if fixed, else the gate's sigmoid."""
    return beta if gate is None else torch.sigmoid(gate)


def logits(features: Tensor, text: Tensor, scale: float) -> Tensor:
    """Cosine similarities over the temperature: ``(N, dim), (n_cls, dim) -> (N, n_cls)``."""
    return scale * features @ text.T
