"""The evaluation modes: counts of correct answers, from one text forward and cached features.

A training round's first step has made that forward pass already.

``zero-shot``: a hand-written template. ``global``: the shared prompt alone. ``personalized``: the
received shared prompt with the client's stored private prompt, over all classes of the
federation; ``personalized-own``: the same over the classes of the client's own training images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from fedrsclip_core.clip.text_encoder import PackedTextEncoder
from fedrsclip_core.config.schema import PromptConfig
from fedrsclip_core.data.featureset import FeatureSet
from fedrsclip_core.learning.classifier import fused_logits, private_weight, unit
from fedrsclip_core.learning.losses import TextFeatures, combine
from fedrsclip_core.learning.optimal_transport import Transport
from fedrsclip_core.learning.prompts import ClientState

Texts = dict[str, NDArray[np.float32]]
"""Unit text features by evaluation mode: ``(n_cls, dim)``, or ``(K, n_cls, dim)`` of prompts that
are kept apart for a transport."""

_TRANSPORTED_AT_ONCE = 64


@dataclass(frozen=True)
class Counts:
    """Correct answers by ``(part, mode)`` and images by ``part``."""

    correct: Mapping[tuple[str, str], int] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)


def text_features(
    encoder: PackedTextEncoder,
    shared: NDArray[np.float32] | None,
    state: ClientState,
    prompt: PromptConfig,
    zero_shot: NDArray[np.float32] | None = None,
) -> Texts:
    """Encode what each evaluation mode classifies with; modes without a meaning are absent.

    Parameters
    ----------
    encoder : PackedTextEncoder
        The frozen text encoder with the federation's classes.
    shared : NDArray[np.float32] or None
        The received shared prompt ``(n_ctx, width)``.
    state : ClientState
        The stored private part.
    prompt : PromptConfig
        How the two are fused.
    zero_shot : NDArray[np.float32] or None
        Unit text features of the hand-written template, if that mode is asked for.
    """
    private = state.private_prompt(shared)
    present = [p for p in (shared, private) if p is not None]
    if not present:
        return by_mode(None, zero_shot)
    with torch.inference_mode():
        prompts = torch.from_numpy(np.stack(present)).to(encoder.device, encoder.dtype)
        encoded = list(unit(encoder(prompts)))  # each (n_cls, dim)
        shared_text = None if shared is None else encoded.pop(0)
        private_text = None if private is None else encoded.pop(0)
        gate = None
        if state.gate is not None:
            gate = torch.from_numpy(state.gate).to(encoder.device, encoder.dtype)
        weight = private_weight(gate, prompt.fusion, prompt.beta)
        return by_mode(combine(shared_text, private_text, weight), zero_shot)


def by_mode(text: TextFeatures | None, zero_shot: NDArray[np.float32] | None = None) -> Texts:
    """Say which text features each mode classifies with; modes without a meaning are absent.

    Parameters
    ----------
    text : TextFeatures or None
        Of a client's prompts, without gradients, on any device.
    zero_shot : NDArray[np.float32] or None
        Unit text features of the hand-written template, if that mode is asked for.
    """
    texts: Texts = {} if zero_shot is None else {"zero-shot": zero_shot}
    if text is None:
        return texts
    if text.shared is not None:
        texts["global"] = text.shared.float().cpu().numpy()
    texts["personalized"] = text.fused.float().cpu().numpy()
    return texts


def count_correct(
    texts: Texts,
    parts: Mapping[str, FeatureSet],
    own_classes: NDArray[np.bool_],
    transport: Transport | None = None,
) -> Counts:
    """Classify every part in every mode.

    Parameters
    ----------
    texts : Texts
        From :func:`text_features`.
    parts : Mapping[str, FeatureSet]
        ``"val"`` and ``"test"``; an empty part counts no image.
    own_classes : NDArray[np.bool_]
        ``(n_cls,)``, classes of the client's training images.
    transport : Transport or None
        How patches are matched to prompts that are kept apart.
    """
    correct: dict[tuple[str, str], int] = {}
    for part, data in parts.items():
        for mode, text in texts.items():
            scores = similarities(data, text, transport)  # (N, n_cls)
            correct[part, mode] = _hits(scores, data.labels)
            if mode == "personalized":
                own = np.where(own_classes, scores, -np.inf)
                correct[part, "personalized-own"] = _hits(own, data.labels)
    return Counts(correct, {part: len(data) for part, data in parts.items()})


def similarities(
    data: FeatureSet, text: NDArray[np.float32], transport: Transport | None
) -> NDArray[np.float32]:
    """Compare images with classes: ``(N, n_cls)``.

    Parameters
    ----------
    data : FeatureSet
        Image features, and patch features where ``text`` needs them.
    text : NDArray[np.float32]
        Unit text features ``(n_cls, dim)``, or ``(K, n_cls, dim)`` of prompts that are kept apart.
    transport : Transport or None
        How patches are matched to prompts that are kept apart.
    """
    if text.ndim == 2:
        return data.features @ text.T
    assert data.patches is not None
    prompts = torch.from_numpy(text)  # (K, n_cls, dim)
    scores = np.empty((len(data), text.shape[1]), dtype=np.float32)
    # The plans of a whole part would take much memory at once.
    for start in range(0, len(data), _TRANSPORTED_AT_ONCE):
        rows = slice(start, start + _TRANSPORTED_AT_ONCE)
        features = torch.from_numpy(data.features[rows])
        patches = torch.from_numpy(data.patches[rows]).float()
        scores[rows] = fused_logits(features, prompts, 1.0, patches, transport).numpy()
    return scores


def _hits(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> int:
    if not len(labels):
        return 0
    return int((scores.argmax(axis=1) == labels).sum())
