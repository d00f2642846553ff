"""Classification by optimal transport between an image's patches and a class's prompts.

The classifier of FedOTP (Li, Huang, Wang, Shi: "Global and Local Prompts Cooperation via Optimal
Transport for Federated Learning", CVPR 2024). For each image and class, a plan ``T`` moves the
mass ``gamma <= 1`` from the image's ``V`` patches to the class's text features, one for each
prompt. Every prompt takes ``gamma / K`` and a patch gives at most ``1 / V``, so that with
``gamma < 1`` the patches that fit no prompt stay out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedrsclip_core.config.schema import TRANSPORT, PromptConfig


@dataclass(frozen=True)
class Transport:
    """How patches are matched to prompts.

    Attributes
    ----------
    mass : float
        The mass ``gamma`` that a plan moves, in (0, 1]; 1 is balanced transport.
    eps : float
        Weight of the entropy; in float32 at least 0.03, because ``exp(-2 / eps)`` must not vanish.
    iterations : int
        A fixed number, not a tolerance: an image's plan must not depend on the rest of its batch.
    """

    mass: float
    eps: float
    iterations: int = 40

    @classmethod
    def of(cls, prompt: PromptConfig) -> "Transport | None":
        """Read it from the configuration; ``None`` with another fusion."""
        if prompt.fusion != TRANSPORT:
            return None
        return cls(prompt.transport_mass, prompt.transport_eps)


def transport_plan(similarity: Tensor, transport: Transport) -> Tensor:
    """Solve ``min_T <1 - S, T> + eps <T, log T>`` under a bound for patches, exact for prompts.

    ``sum_k T <= 1 / V`` and ``sum_v T = gamma / K``. The solution has the form ``T = u * exp(S /
    eps) * w`` with ``u <= 1`` for each patch and ``w`` for each prompt (the paper's scaling by
    Dykstra's algorithm). Plain alternation needs hundreds of steps as ``gamma`` nears 1, because
    the size of ``w`` moves slowly; here a Newton step sets it in each iteration.

    Parameters
    ----------
    similarity : Tensor
        Cosines ``(N, K, n_cls, V)`` of K prompts and V patches.
    transport : Transport
        Mass, entropy and iterations.

    Returns
    -------
    Tensor
        Plans ``(N, K, n_cls, V)``, without a gradient. The prompts' sums are exact; the patches'
        bound holds as far as the iteration has converged.
    """
    num_prompts, num_patches = similarity.shape[1], similarity.shape[-1]
    bound, mass = 1 / num_patches, transport.mass
    with torch.no_grad():
        # A factor common to one image and class changes the scalings, not the plan.
        top = similarity.amax(dim=(1, 3), keepdim=True)
        kernel = torch.exp((similarity - top) / transport.eps).contiguous()  # (N, K, n_cls, V)
        scaling = mass / kernel.sum(dim=(1, 3), keepdim=True)  # (N, 1, n_cls, 1)
        for _ in range(transport.iterations):
            offered = (kernel * scaling).sum(dim=1, keepdim=True)  # (N, 1, n_cls, V)
            offered = offered * _size(offered, bound, mass)
            limited = kernel * (bound / offered).clamp(max=1)  # (N, K, n_cls, V)
            scaling = mass / num_prompts / limited.sum(dim=-1, keepdim=True)  # (N, K, n_cls, 1)
        return limited * scaling


def _size(offered: Tensor, bound: float, mass: float) -> Tensor:
    """Newton step for the factor ``s`` with which ``sum_v min(s * offered, bound)`` is ``mass``.

    That sum is concave in ``s``, so a step that leaves the patches below the bound nothing to
    carry has gone too far; it is replaced by one in proportion.
    """
    full = offered >= bound  # (N, 1, n_cls, V)
    number = full.sum(dim=-1, keepdim=True, dtype=offered.dtype)  # (N, 1, n_cls, 1)
    missing = mass - bound * number
    free = offered.masked_fill(full, 0).sum(dim=-1, keepdim=True)  # (N, 1, n_cls, 1)
    proportion = mass / offered.clamp(max=bound).sum(dim=-1, keepdim=True)
    return torch.where((missing > 0) & (free > 0), missing / free, proportion)


def transport_logits(
    patches: Tensor, prompts: Tensor, scale: float, transport: Transport
) -> Tensor:
    """Transported similarity ``<T, S>`` over the temperature.

    It is ``gamma`` minus the transported cost ``<T, 1 - S>`` that the paper compares; the
    constant cancels in the softmax. The gradient goes through ``S`` alone: the plan is the inner
    one of the paper's two stages of optimisation.

    Parameters
    ----------
    patches : Tensor
        Unit patch features ``(N, V, dim)``.
    prompts : Tensor
        Unit text features of each prompt ``(K, n_cls, dim)``.
    scale : float
        Inverse temperature.
    transport : Transport
        Mass and entropy.

    Returns
    -------
    Tensor
        ``(N, n_cls)``.
    """
    flat = functional.linear(patches, prompts.flatten(0, 1))  # (N, V, K * n_cls)
    cosines = flat.view(*flat.shape[:2], *prompts.shape[:2]).permute(0, 2, 3, 1)
    moved = transport_plan(cosines, transport) * cosines  # (N, K, n_cls, V)
    return scale * moved.sum(dim=(1, 3))
