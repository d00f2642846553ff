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
from fedrsclip_core.learning.dual_prompt import TextFeatures, logits


@dataclass(frozen=True)
class Batch:
    """Some of a client's images.

    Attributes
    ----------
    features : Tensor
        Unit image features ``(N, dim)``.
    labels : Tensor
        Class indices ``(N,)``.
    patches : Tensor or None
        Unit patch features ``(N, V, dim)``, for prompts that are kept apart.
    """

    features: Tensor
    labels: Tensor
    patches: Tensor | None = None


@dataclass(frozen=True)
class PromptLoss:
    """The loss of one client's batches: what they have in common.

    Attributes
    ----------
    config : LossConfig
        Weights and forms.
    logit_scale : float
        Inverse temperature.
    template : Tensor or None
        Unit text features of the hand-written template ``(n_cls, dim)``; ``lambda_contrast``
        needs them.
    """

    config: LossConfig
    logit_scale: float
    template: Tensor | None = None

    def terms(self, batch: Batch, text: TextFeatures) -> dict[str, Tensor]:
        """Compute every term that has a weight and a meaning.

        Returns
        -------
        dict[str, Tensor]
            Scalars by the names of the wire contract, without their weights.
        """
        config, scale = self.config, self.logit_scale
        terms: dict[str, Tensor] = {}
        # Their order is that in which they and their gradients are added up.
        if config.lambda_fused:
            scores = text.fused_logits(batch.features, batch.patches, scale)
            terms["loss-fused"] = functional.cross_entropy(scores, batch.labels)
        if config.lambda_shared and text.shared is not None:
            scores = logits(batch.features, text.shared, scale)
            terms["loss-shared"] = functional.cross_entropy(scores, batch.labels)
        if config.lambda_private and text.private is not None:
            scores = logits(batch.features, text.private, scale)
            terms["loss-private"] = functional.cross_entropy(scores, batch.labels)
        if config.lambda_dpac and text.shared is not None and text.private is not None:
            terms["loss-dpac"] = dual_prompt_alignment(text.shared, text.private)
        if config.lambda_cmfac:
            terms["loss-cmfac"] = cross_modal_alignment(batch.features, batch.labels, text.fused)
        if config.lambda_contrast and text.shared is not None and text.private is not None:
            if self.template is None:
                raise ValueError("the contrast needs the template's text features")
            terms["loss-contrast"] = contrast(
                text.shared, text.private, self.template, config.contrast_temperature
            )
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Weigh and add the terms."""
        weights = {
            "loss-fused": self.config.lambda_fused,
            "loss-shared": self.config.lambda_shared,
            "loss-private": self.config.lambda_private,
            "loss-dpac": self.config.lambda_dpac,
            "loss-cmfac": self.config.lambda_cmfac,
            "loss-contrast": self.config.lambda_contrast,
        }
        return torch.stack([weights[name] * value for name, value in terms.items()]).sum()


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
