"""The evaluation modes: counts of correct answers, from one text forward and cached features.

A training round's first step has made that forward pass already.

``zero-shot``: a hand-written template. ``global``: the shared side alone. ``personalized``: the
received shared side with the client's stored private one, over all classes of the federation;
``personalized-own``: the same over the classes of the client's own training images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedrsclip_core.clip.text_encoder import PackedTextEncoder
from fedrsclip_core.config.schema import PromptConfig
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT, SharedTensors
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.learning.classifier import Classifier
from fedrsclip_core.learning.dual_prompt import DualPrompt, Given, TextFeatures
from fedrsclip_core.learning.prompts import ClientState

Classifiers = dict[str, Classifier]
"""By evaluation mode; modes without a meaning are absent."""


@dataclass(frozen=True)
class Counts:
    """Correct answers by ``(part, mode)`` and images by ``part``."""

    correct: Mapping[tuple[str, str], int] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)


def classifiers(
    encoder: PackedTextEncoder,
    shared: SharedTensors,
    state: ClientState,
    prompt: PromptConfig,
    given: Given,
) -> Classifiers:
    """Encode what each evaluation mode classifies with.

    Parameters
    ----------
    encoder : PackedTextEncoder
        The frozen text encoder with the federation's classes.
    shared : SharedTensors
        The received shared tensors.
    state : ClientState
        The stored private side.
    prompt : PromptConfig
        How the two are fused.
    given : Given
        What is not learned.
    """
    prompts = DualPrompt(encoder, shared, state, prompt, given)
    with torch.inference_mode():
        return by_mode(prompts.text_features(), given.template, encoder.logit_scale)


def by_mode(
    text: TextFeatures | None, template: NDArray[np.float32], logit_scale: float
) -> Classifiers:
    """Say which text features each mode classifies with.

    Parameters
    ----------
    text : TextFeatures or None
        Of a client's two sides, without gradients, on any device.
    template : NDArray[np.float32]
        Unit text features of the hand-written template ``(n_cls, dim)``.
    logit_scale : float
        Inverse temperature of the logits.
    """
    found = {"zero-shot": Classifier(template)}
    if text is None:
        return found
    if text.shared is not None:
        found["global"] = Classifier(_array(text.shared))
    bias = None if text.log_prior is None else _array(text.log_prior) / logit_scale
    found["personalized"] = Classifier(_array(text.fused), text.transport, bias)
    return found


def shared_features(
    encoder: PackedTextEncoder, shared: SharedTensors, given: Given
) -> NDArray[np.float32]:
    """Return the unit text features ``(n_cls, dim)`` of the shared side alone.

    Raises
    ------
    ValueError
        If nothing is shared.
    """
    sides = DualPrompt(encoder, shared, ClientState(None), PromptConfig(), given)
    with torch.inference_mode():
        text = sides.text_features()
    if text is None or text.shared is None:
        raise ValueError("nothing is shared")
    return _array(text.shared)


def tuned_classifier(
    encoder: PackedTextEncoder,
    prompt: NDArray[np.float32],
    bias: NDArray[np.float32],
    given: Given,
) -> Classifier:
    """Encode a private copy of the shared prompt, which classifies alone.

    Parameters
    ----------
    encoder : PackedTextEncoder
        The frozen text encoder with the federation's classes.
    prompt : NDArray[np.float32]
        The tuned copy ``(n_ctx, width)``.
    bias : NDArray[np.float32]
        Of each class's logit ``(n_cls,)``.
    given : Given
        What is not learned.
    """
    text = shared_features(encoder, {SHARED_PROMPT: prompt}, given)
    return Classifier(text, bias=bias / encoder.logit_scale)


def count_correct(
    classifiers: Mapping[str, Classifier],
    parts: Mapping[str, FeatureSet],
    own_classes: NDArray[np.bool_],
) -> Counts:
    """Classify every part in every mode.

    Parameters
    ----------
    classifiers : Mapping[str, Classifier]
        By mode.
    parts : Mapping[str, FeatureSet]
        ``"val"`` and ``"test"``; an empty part counts no image.
    own_classes : NDArray[np.bool_]
        ``(n_cls,)``, classes of the client's training images.
    """
    correct: dict[tuple[str, str], int] = {}
    for part, data in parts.items():
        for mode, classifier in classifiers.items():
            scores = classifier.similarities(data.features, data.patches)  # (N, n_cls)
            correct[part, mode] = _hits(scores, data.labels)
            if mode == "personalized":
                own = np.where(own_classes, scores, -np.inf)
                correct[part, "personalized-own"] = _hits(own, data.labels)
    return Counts(correct, {part: len(data) for part, data in parts.items()})


def _hits(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> int:
    if not len(labels):
        return 0
    return int((scores.argmax(axis=1) == labels).sum())


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.float().cpu().numpy())
