"""The loss of FedRSCLIP and of the methods it is compared with, term by term.

``L = lambda_fused CE(z, y) + lambda_shared CE(z_s, y) + lambda_private CE(z_k, y)
+ lambda_dpac L_dpac + lambda_cmfac L_cmfac + lambda_contrast L_contrast``

The two constraints of FedRSCLIP are named in the paper (arXiv 2501.02461) without a public
formula; the forms here are this project's reading. The contrastive term is FedPGP's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedrsclip_core.config.schema import LossConfig
from fedrsclip_core.learning.classifier import fuse, fused_logits, logits
from fedrsclip_core.learning.optimal_transport import Transport


@dataclass(frozen=True)
class TextFeatures:
    """Unit text features ``(n_cls, dim)`` of the prompts that exist, and their fusion.

    Prompts that are kept apart for a transport have ``fused`` ``(K, n_cls, dim)``.
    """

    shared: Tensor | None
    private: Tensor | None
    fused: Tensor

    def detached(self) -> "TextFeatures":
        """Return the same numbers without their gradients' history."""
        shared = None if self.shared is None else self.shared.detach()
        private = None if self.private is None else self.private.detach()
        return TextFeatures(shared, private, self.fused.detach())


def combine(
    shared: Tensor | None, private: Tensor | None, weight: Tensor | float | None
) -> TextFeatures:
    """Fuse what exists; with one prompt only, the fusion is that prompt.

    A ``weight`` of ``None`` keeps two prompts apart.

    Raises
    ------
    ValueError
        If neither exists.
    """
    if shared is not None and private is not None:
        if weight is None:
            return TextFeatures(shared, private, torch.stack([shared, private]))
        return TextFeatures(shared, private, fuse(shared, private, weight))
    alone = private if shared is None else shared
    if alone is None:
        raise ValueError("no prompt to classify with")
    return TextFeatures(shared, private, alone)


def dual_prompt_alignment(shared: Tensor, private: Tensor) -> Tensor:
    """``mean_c (1 - cos(T_s[c], T_k[c]))``: both prompts say the same thing about a class."""
    return 1 - (shared * private).sum(dim=-1).mean()


def cross_modal_alignment(features: Tensor, labels: Tensor, text: Tensor) -> Tensor:
    """``mean_i (1 - cos(v_i, T[y_i]))``: text features are pulled to their class's images."""
    return 1 - (features * text[labels]).sum(dim=-1).mean()


def contrast(shared: Tensor, private: Tensor, template: Tensor, temperature: float) -> Tensor:
    """``mean_c -log(e^p / (e^p + e^n))``, ``p = cos(T_s, T_0) / tau``, ``n = cos(T_s, T_k) / tau``.

    The shared prompt's text features ``T_s`` are pulled to the hand-written template's ``T_0``
    and pushed apart from the private prompt's ``T_k`` (Cui, Li, Wang, Shi: "Harmonizing
    Generalization and Personalization in Federated Prompt Learning", ICML 2024).
    """
    positive = (shared * template).sum(dim=-1)  # (n_cls,)
    negative = (shared * private).sum(dim=-1)  # (n_cls,)
    return functional.softplus((negative - positive) / temperature).mean()


def loss_terms(
    features: Tensor,
    labels: Tensor,
    text: TextFeatures,
    scale: float,
    config: LossConfig,
    *,
    anchor: Tensor | None,
    own_classes: Tensor,
    template: Tensor | None = None,
    patches: Tensor | None = None,
    transport: Transport | None = None,
) -> dict[str, Tensor]:
    """Compute every term that has a weight and a meaning.

    Parameters
    ----------
    features : Tensor
        Unit image features ``(N, dim)``.
    labels : Tensor
        Class indices ``(N,)``.
    text : TextFeatures
        The client's text features.
    scale : float
        Inverse temperature.
    config : LossConfig
        Weights and forms.
    anchor : Tensor or None
        What the private prompt is aligned to under ``dpac_anchor: received``, ``(n_cls, dim)``;
        ``None`` aligns both prompts to each other.
    own_classes : Tensor
        ``(n_cls,)`` bool, classes of this client's training images. Under
        ``shared_labels: own`` the shared prompt is not pushed away from the other classes, of
        which this client has no image (restricted softmax, Li and Zhan, KDD 2021).
    template : Tensor or None
        Unit text features of the hand-written template ``(n_cls, dim)``; ``lambda_contrast``
        needs them.
    patches, transport : Tensor and Transport, or None
        Unit patch features ``(N, V, dim)`` and how they are matched to prompts; prompts that are
        kept apart need them.

    Returns
    -------
    dict[str, Tensor]
        Scalars by the names of the wire contract, without their weights.
    """
    terms: dict[str, Tensor] = {}
    if config.lambda_fused:
        scores = fused_logits(features, text.fused, scale, patches, transport)
        terms["loss-fused"] = functional.cross_entropy(scores, labels)
    if config.lambda_shared and text.shared is not None:
        scores = logits(features, text.shared, scale)
        if config.shared_labels == "own":
            scores = scores.masked_fill(~own_classes, float("-inf"))
        terms["loss-shared"] = functional.cross_entropy(scores, labels)
    if config.lambda_private and text.private is not None:
        scores = logits(features, text.private, scale)
        terms["loss-private"] = functional.cross_entropy(scores, labels)
    if config.lambda_dpac and text.shared is not None and text.private is not None:
        terms["loss-dpac"] = dual_prompt_alignment(
            text.shared if anchor is None else anchor, text.private
        )
    if config.lambda_cmfac:
        terms["loss-cmfac"] = cross_modal_alignment(features, labels, text.fused)
    if config.lambda_contrast and text.shared is not None and text.private is not None:
        if template is None:
            raise ValueError("the contrast needs the template's text features")
        terms["loss-contrast"] = contrast(
            text.shared, text.private, template, config.contrast_temperature
        )
    return terms


def total_loss(terms: Mapping[str, Tensor], config: LossConfig) -> Tensor:
    """Weigh and add the terms."""
    weights = {
        "loss-fused": config.lambda_fused,
        "loss-shared": config.lambda_shared,
        "loss-private": config.lambda_private,
        "loss-dpac": config.lambda_dpac,
        "loss-cmfac": config.lambda_cmfac,
        "loss-contrast": config.lambda_contrast,
    }
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()
