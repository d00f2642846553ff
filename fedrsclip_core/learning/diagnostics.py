"""What a client keeps at home of its final evaluation: confusions and calibration, per mode.

The file stays on the client's disk. It says which classes the client has and how well each is
known, so nothing of it belongs on the wire.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.learning.classifier import Classifier

BINS = 15
"""Bins of confidence, equal in width over (0, 1]."""

_SUMS = ("count", "confidence", "correct")


@dataclass(frozen=True)
class Tally:
    """One mode's answers on one part.

    Attributes
    ----------
    confusion : NDArray[np.int64]
        Images by true and answered class, ``(n_cls, n_cls)``.
    calibration : NDArray[np.float64]
        For each bin of confidence the images, their summed confidence and the correct answers,
        ``(BINS, 3)``.
    """

    confusion: NDArray[np.int64]
    calibration: NDArray[np.float64]

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.confusion + other.confusion, self.calibration + other.calibration)


def describe(
    classifiers: Mapping[str, Classifier],
    parts: Mapping[str, FeatureSet],
    own_classes: NDArray[np.bool_],
    logit_scale: float,
    calibrated: float,
) -> dict[str, dict[str, Any]]:
    """Tally every part in every mode, as data for JSON by part and mode.

    ``personalized-calibrated`` has the answers of ``personalized`` with other confidences.

    Parameters
    ----------
    classifiers : Mapping[str, Classifier]
        By evaluation mode.
    parts : Mapping[str, FeatureSet]
        ``"val"`` and ``"test"``.
    own_classes : NDArray[np.bool_]
        ``(n_cls,)``, classes of the client's training images.
    logit_scale : float
        Inverse temperature of the confidences.
    calibrated : float
        That of ``personalized-calibrated``.
    """
    return {
        part: {
            mode: _to_json(found)
            for mode, found in _modes(classifiers, data, own_classes, logit_scale, calibrated)
        }
        for part, data in parts.items()
    }


def tally(scores: NDArray[np.floating], labels: NDArray[np.int64], logit_scale: float) -> Tally:
    """Count answers and confidences.

    Parameters
    ----------
    scores : NDArray
        Cosine similarities ``(N, n_cls)``; ``-inf`` for a class that may not be answered.
    labels : NDArray[np.int64]
        ``(N,)``.
    logit_scale : float
        Confidence is the greatest softmax of ``logit_scale * scores``.
    """
    n_cls = scores.shape[1]
    confusion = np.zeros((n_cls, n_cls), dtype=np.int64)
    calibration = np.zeros((BINS, len(_SUMS)))
    if not len(labels):
        return Tally(confusion, calibration)
    answers = scores.argmax(axis=1)
    np.add.at(confusion, (labels, answers), 1)
    logits = logit_scale * scores.astype(np.float64)
    confidence = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)  # (N,)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    sums = np.stack([np.ones_like(confidence), confidence, answers == labels], axis=1)
    np.add.at(calibration, bins, sums)
    return Tally(confusion, calibration)


def from_json(value: Mapping[str, Any]) -> Tally:
    """Read what :func:`describe` wrote of one part and mode.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is something else.
    """
    calibration = [[float(x) for x in value["calibration"][name]] for name in _SUMS]
    return Tally(np.array(value["confusion"], dtype=np.int64), np.array(calibration).T)


def _modes(
    classifiers: Mapping[str, Classifier],
    data: FeatureSet,
    own_classes: NDArray[np.bool_],
    logit_scale: float,
    calibrated: float,
) -> Iterator[tuple[str, Tally]]:
    for mode, classifier in classifiers.items():
        scores = classifier.similarities(data.features, data.patches)  # (N, n_cls)
        yield mode, tally(scores, data.labels, logit_scale)
        if mode == "personalized":
            own = np.where(own_classes, scores, -np.inf)
            yield f"{mode}-own", tally(own, data.labels, logit_scale)
            yield f"{mode}-calibrated", tally(scores, data.labels, calibrated)


def _to_json(found: Tally) -> dict[str, Any]:
    columns = zip(_SUMS, found.calibration.T.tolist(), strict=True)
    return {"confusion": found.confusion.tolist(), "calibration": dict(columns)}
