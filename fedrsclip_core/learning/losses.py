"""The loss of FedRSCLIP and of the methods it is compared with, term by term.

``L = lambda_fused CE(z, y) + lambda_shared CE(z_s, y) + lambda_private CE(z_k, y)
+ lambda_dpac L_dpac + lambda_cmfac L_cmfac + lambda_contrast L_contrast``

The two constraints of FedRSCLIP are named in the paper's abstract (arXiv 2501.02461) without a
formula; the forms here are this project's reading. The contrastive term is FedPGP's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedrsclip_core.config.schema import LossConfig
from fedrsclip_core.learning.dual_prompt import TextFeatures, logits

_PRIOR_IMAGES = 2.0
"""Of :func:`scarce_alignment`: as many images weigh as much as the shared side's word."""


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
class ClassTargets:
    """What a client's training images say of its classes, on the device of the features.

    Attributes
    ----------
    counts : Tensor
        Training images of each class ``(n_cls,)``.
    directions : Tensor
        Whitened class directions ``(n_cls, dim)``, unit or zero.
    gate : float
        How far the images tell them, in [0, 1].
    """

    counts: Tensor
    directions: Tensor
    gate: float


@dataclass(frozen=True)
class PromptLoss:
    """The loss of one client's batches: what they have in common.

    Attributes
    ----------
    config : LossConfig
        Weights and forms.
    logit_scale : float
        Inverse temperature.
    classes : ClassTargets or None
        What the client's images say of its classes; every form of a constraint but the first needs
        it.
    template : Tensor or None
        Unit text features of the hand-written template ``(n_cls, dim)``; ``lambda_contrast``
        needs them.
    """

    config: LossConfig
    logit_scale: float
    classes: ClassTargets | None = None
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
        if config.lambda_dpac and text.anchor is not None and text.private is not None:
            terms["loss-dpac"] = self._dpac(text.anchor, text.private)
        if config.lambda_cmfac:
            terms["loss-cmfac"] = self._cmfac(batch, text.fused)
        if config.lambda_contrast and text.shared is not None and text.private is not None:
            if self.template is None:
                raise ValueError("the contrast needs the template's text features")
            terms["loss-contrast"] = contrast(
                text.shared, text.private, self.template, config.contrast_temperature
            )
        return terms

    def _dpac(self, shared: Tensor, private: Tensor) -> Tensor:
        if self.config.dpac_form == "all":
            return dual_prompt_alignment(shared, private)
        counts = self._classes.counts
        if self.config.dpac_form == "own":
            return own_alignment(shared, private, counts)
        return scarce_alignment(shared, private, counts)

    def _cmfac(self, batch: Batch, fused: Tensor) -> Tensor:
        if self.config.cmfac_form == "pull":
            return cross_modal_alignment(batch.features, batch.labels, fused)
        classes = self._classes
        return whitened_alignment(fused, classes.directions, classes.counts, classes.gate)

    @property
    def _classes(self) -> ClassTargets:
        if self.classes is None:
            raise ValueError("this form of a constraint needs what the images say of the classes")
        return self.classes

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


def own_alignment(shared: Tensor, private: Tensor, counts: Tensor) -> Tensor:
    """``mean_{c: n_c > 0} (1 - cos(T_s[c], T_k[c]))``: the client's own classes alone.

    The private features of other classes must get away from the client's images; to hold them to
    the shared ones would work against that.
    """
    own = counts > 0
    return dual_prompt_alignment(shared[own], private[own])


def scarce_alignment(shared: Tensor, private: Tensor, counts: Tensor) -> Tensor:
    """``mean_{c: n_c > 0} k / (n_c + k) (1 - cos(T_s[c], T_k[c]))``: strong for few images.

    The weight is that of a prior worth ``k = 2`` images beside ``n_c`` seen ones.
    """
    own = counts > 0
    weights = _PRIOR_IMAGES / (counts[own] + _PRIOR_IMAGES)  # (n_own,)
    return (weights * (1 - (shared[own] * private[own]).sum(dim=-1))).mean()


def cross_modal_alignment(features: Tensor, labels: Tensor, text: Tensor) -> Tensor:
    """``mean_i (1 - cos(v_i, T[y_i]))``: text features are pulled to their class's images."""
    return 1 - (features * text[labels]).sum(dim=-1).mean()


def whitened_alignment(text: Tensor, directions: Tensor, counts: Tensor, gate: float) -> Tensor:
    """``rho mean_{c: n_c > 0} (1 - cos(T[c], u_c))``: text features turn to what separates a class.

    ``u_c`` are whitened class directions and ``rho`` the gate
    (:class:`~fedrsclip_core.learning.class_statistics.ClassStatistics`). A pull to the images
    themselves is lowest where all text features move along the gap between the modalities, which
    changes no answer; these directions have no part in common.
    """
    own = counts > 0
    return gate * (1 - (text[own] * directions[own]).sum(dim=-1)).mean()


def contrast(shared: Tensor, private: Tensor, template: Tensor, temperature: float) -> Tensor:
    """``mean_c -log(e^p / (e^p + e^n))``, ``p = cos(T_s, T_0) / tau``, ``n = cos(T_s, T_k) / tau``.

    The shared prompt's text features ``T_s`` are pulled to the hand-written template's ``T_0``
    and pushed apart from the private prompt's ``T_k`` (Cui, Li, Wang, Shi: "Harmonizing
    Generalization and Personalization in Federated Prompt Learning", ICML 2024).
    """
    positive = (shared * template).sum(dim=-1)  # (n_cls,)
    negative = (shared * private).sum(dim=-1)  # (n_cls,)
    return functional.softplus((negative - positive) / temperature).mean()
