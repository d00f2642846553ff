"""What a baseline is given and what it returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrsclip.bench.images import joined
from fedrsclip_core.config.schema import Config
from fedrsclip_core.data.features.feature_set import FeatureSet

Array = NDArray[np.float64]

Classifier = Callable[[NDArray[np.float32]], Array]
"""From features ``(N, d)`` to logits ``(N, C)``; ``-inf`` for a class that is never answered."""

FLOAT32 = 4
"""Bytes of a number that is sent."""


@dataclass(frozen=True, eq=False)
class Federation:
    """All clients' image features, which one process holds here and no federation does.

    Attributes
    ----------
    clients : Sequence[Mapping[str, FeatureSet]]
        Of each client its ``"train"``, ``"val"`` and ``"test"`` images.
    num_classes : int
        Classes ``C`` of the federation.
    logit_scale : float
        CLIP's inverse temperature.
    config : Config
        Seed, rounds and optimizer of the methods beside which the baseline stands.
    """

    clients: Sequence[Mapping[str, FeatureSet]]
    num_classes: int
    logit_scale: float
    config: Config

    @property
    def dim(self) -> int:
        """Numbers ``d`` of a feature."""
        return int(self.clients[0]["train"].features.shape[1])

    def pooled(self, part: str) -> FeatureSet:
        """Return all clients' images of a part."""
        return joined([client[part] for client in self.clients])

    def counts(self) -> Array:
        """Return the training images of each client and class ``(K, C)``."""
        return np.stack([class_counts(c["train"], self.num_classes) for c in self.clients])


@dataclass(frozen=True)
class Classifiers:
    """Classifiers after one round.

    Attributes
    ----------
    shared : callable or None
        The federation's.
    personalized : Sequence[callable]
        What each client classifies with.
    """

    shared: Classifier | None
    personalized: Sequence[Classifier]


@dataclass(frozen=True)
class Outcome:
    """What a baseline has learned.

    Attributes
    ----------
    rounds : Sequence[Classifiers]
        After each of the last rounds, at most five.
    round : int
        Number of the last one; 0 where nothing is sent.
    bytes_per_round : int or None
        Of one client to the server in a round; ``None`` where images would have to be.
    chosen : float or None
        The value chosen on validation images, where there is one for all clients.
    confident : bool
        Whether the softmax of the logits is meant as probabilities.
    """

    rounds: Sequence[Classifiers]
    round: int
    bytes_per_round: int | None
    chosen: float | None = None
    confident: bool = True


def shared_by_all(classifier: Classifier, num_clients: int) -> Classifiers:
    """Return what clients have who all classify with the federation's."""
    return Classifiers(classifier, [classifier] * num_clients)


def linear(weights: Array, bias: Array | float = 0.0) -> Classifier:
    """Return the classifier with logits ``v @ weights.T + bias``.

    Parameters
    ----------
    weights : NDArray[np.float64]
        ``(C, d)``.
    bias : NDArray[np.float64] or float
        ``(C,)``; ``-inf`` for a class that is never answered.
    """
    return lambda features: features.astype(np.float64) @ weights.T + bias


def accuracy(classifier: Classifier, data: FeatureSet) -> float:
    """Return the fraction of right answers; 0 without images."""
    if not len(data):
        return 0.0
    return float((classifier(data.features).argmax(axis=1) == data.labels).mean())


def class_counts(data: FeatureSet, num_classes: int) -> Array:
    """Return the images of each class ``(C,)``."""
    return np.bincount(data.labels, minlength=num_classes).astype(np.float64)


def class_sums(data: FeatureSet, num_classes: int) -> Array:
    """Return the summed features of each class ``(C, d)``."""
    sums = np.zeros((num_classes, data.features.shape[1]))
    np.add.at(sums, data.labels, data.features.astype(np.float64))
    return sums
