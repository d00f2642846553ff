"""Classifiers that the server computes in one round from sums over the clients' images."""

import numpy as np

from fedrsclip.bench.baselines.federation import (
    FLOAT32,
    Array,
    Federation,
    Outcome,
    accuracy,
    class_sums,
    linear,
    shared_by_all,
)

RIDGES = tuple(10.0**k for k in range(-6, 3))


def fedncm(federation: Federation) -> Outcome:
    """Classify by the nearest class mean (FedNCM: Legate et al., NeurIPS 2023).

    Each client sends the sum of its features and the number of its images of each class.
    """
    num_classes, num_clients = federation.num_classes, len(federation.clients)
    counts = federation.counts().sum(axis=0)
    sums = np.sum([class_sums(c["train"], num_classes) for c in federation.clients], axis=0)
    # A sum has the direction of its mean: the cosine needs no division by the number.
    bias = np.where(counts > 0, 0.0, -np.inf)
    classifier = linear(federation.logit_scale * _unit(sums), bias)
    size = FLOAT32 * num_classes * (federation.dim + 1)
    return Outcome([shared_by_all(classifier, num_clients)], round=1, bytes_per_round=size)


def fed3r(federation: Federation) -> Outcome:
    """Classify by ridge regression on one-hot labels (Fed3R: Fanì et al., ICML 2024).

    Each client sends ``X^T X (d, d)`` and ``X^T Y (d, C)`` of its images. The ridge is chosen by
    the validation images that clients answer rightly, summed up by the server.
    """
    dim, num_classes, num_clients = federation.dim, federation.num_classes, len(federation.clients)
    train = [client["train"] for client in federation.clients]
    gram = np.zeros((dim, dim))
    for one in train:
        features = one.features.astype(np.float64)
        gram += features.T @ features
    targets = np.sum([class_sums(one, num_classes) for one in train], axis=0)  # (C, d)
    val = federation.pooled("val")
    fits = {ridge: linear(_ridge(gram, targets, ridge)) for ridge in RIDGES}
    best = max(fits, key=lambda ridge: accuracy(fits[ridge], val))
    size = FLOAT32 * dim * (dim + num_classes)
    rounds = [shared_by_all(fits[best], num_clients)]
    return Outcome(rounds, round=1, bytes_per_round=size, chosen=best, confident=False)


def _ridge(gram: Array, targets: Array, ridge: float) -> Array:
    """Return ``Y^T X (X^T X + ridge I)^-1 (C, d)``.

    Rows as they are: at unit length they were 1 to 3 points worse on validation images.
    """
    return np.asarray(np.linalg.solve(gram + ridge * np.eye(len(gram)), targets.T).T, np.float64)


def _unit(rows: Array) -> Array:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Array = rows / np.where(lengths > 0, lengths, 1.0)
    return found
