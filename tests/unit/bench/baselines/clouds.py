"""Federations of clouds of points, one cloud a class."""

from collections.abc import Mapping, Sequence

import numpy as np

from fedrsclip.bench.baselines.federation import Classifier, Federation
from fedrsclip_core.config.compose import compose
from fedrsclip_core.data.features.feature_set import FeatureSet

DIM = 6


def cloud(seed: int, classes: Sequence[int], count: int, *, noise: float = 0.25) -> FeatureSet:
    """Return ``count`` unit points of each class around a corner of its own."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.array(classes, dtype=np.int64), count)
    points = np.eye(DIM)[labels] + noise * generator.standard_normal((len(labels), DIM))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return FeatureSet(points.astype(np.float32), labels)


def empty() -> FeatureSet:
    return FeatureSet(np.zeros((0, DIM), np.float32), np.zeros(0, np.int64))


def client(seed: int, classes: Sequence[int], count: int = 12) -> dict[str, FeatureSet]:
    return {
        "train": cloud(3 * seed, classes, count),
        "val": cloud(3 * seed + 1, classes, 4),
        "test": cloud(3 * seed + 2, classes, 8),
    }


def federation(
    *clients: Mapping[str, FeatureSet], num_classes: int = 4, rounds: int = 6
) -> Federation:
    config = compose([f"federation.num_rounds={rounds}", "optimizer.batch_size=8"])
    return Federation(clients, num_classes, 10.0, config)


def right(classifier: Classifier, data: FeatureSet) -> float:
    return float((classifier(data.features).argmax(axis=1) == data.labels).mean())
