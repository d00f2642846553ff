"""The classifier of a client: text features of two prompts, fused and compared with images."""

import torch
from torch import Tensor

from fedrsclip_core.learning.optimal_transport import Transport, transport_logits
from fedrsclip_core.learning.prompts import TRANSPORT


def unit(tensor: Tensor) -> Tensor:
    """Scale the last dimension to length one."""
    length: Tensor = torch.linalg.vector_norm(tensor, dim=-1, keepdim=True)
    return tensor / length


def fuse(shared: Tensor, private: Tensor, weight: Tensor | float) -> Tensor:
    """Fuse two sets of text features: ``unit((1 - weight) * shared + weight * private)``.

    A weight above 1 goes beyond the private features, away from the shared ones; a negative one
    the other way.

    Parameters
    ----------
    shared, private : Tensor
        Unit text features ``(n_cls, dim)``.
    weight : Tensor or float
        The private share: a number, ``(1,)`` or one per class ``(n_cls,)``.

    Returns
    -------
    Tensor
        Unit features ``(n_cls, dim)``.
    """
    if isinstance(weight, Tensor):
        weight = weight[:, None]  # (1 or n_cls, 1)
    return unit((1 - weight) * shared + weight * private)


def private_weight(gate: Tensor | None, fusion: str, beta: float) -> Tensor | float | None:
    """Return the private share: ``beta`` if fixed, the gate's sigmoid, or the gate itself.

    ``None`` under ``transport``: there each image's plan says which prompt it is compared with.

    Parameters
    ----------
    gate : Tensor or None
        What the client has learned, ``(1,)`` or ``(n_cls,)``.
    fusion : str
        ``prompt.fusion``; under ``class_weight`` the share is not bounded.
    beta : float
        The share where there is no gate.
    """
    if fusion == TRANSPORT:
        return None
    if gate is None:
        return beta
    return gate if fusion == "class_weight" else torch.sigmoid(gate)


def fused_logits(
    features: Tensor,
    fused: Tensor,
    scale: float,
    patches: Tensor | None = None,
    transport: Transport | None = None,
) -> Tensor:
    """Classify by fused text features, or by both prompts' if they were kept apart.

    Parameters
    ----------
    features : Tensor
        Unit image features ``(N, dim)``.
    fused : Tensor
        Unit text features: fused ``(n_cls, dim)``, or of each prompt ``(K, n_cls, dim)``.
    scale : float
        Inverse temperature.
    patches : Tensor or None
        Unit patch features ``(N, V, dim)``; needed if the prompts were kept apart.
    transport : Transport or None
        How patches are matched to prompts; needed if the prompts were kept apart.

    Returns
    -------
    Tensor
        ``(N, n_cls)``.
    """
    if fused.dim() == 2:
        return logits(features, fused, scale)
    if patches is None or transport is None:
        raise ValueError("prompts that are not fused need patch features and a transport")
    return transport_logits(patches, fused, scale, transport)


def logits(features: Tensor, text: Tensor, scale: float) -> Tensor:
    """Cosine similarities over the temperature: ``(N, dim), (n_cls, dim) -> (N, n_cls)``."""
    return scale * features @ text.T
