"""``local_lda``: each client's own linear discriminant analysis. No text, no federation."""

import numpy as np

from fedrsclip.bench.baselines.federation import (
    Array,
    Classifier,
    Classifiers,
    Federation,
    Outcome,
    class_counts,
    class_sums,
    linear,
)
from fedrsclip_core.data.features.feature_set import FeatureSet


def local_lda(federation: Federation) -> Outcome:
    """Fit each client's LDA on its own training images."""
    found = [lda(client["train"], federation.num_classes) for client in federation.clients]
    return Outcome([Classifiers(None, found)], round=0, bytes_per_round=0)


def lda(data: FeatureSet, num_classes: int) -> Classifier:
    """Fit Gaussian classes with one covariance ``S`` and the classes' shares as prior.

    The logit of class ``c`` is ``v S^-1 m_c - m_c S^-1 m_c / 2 + log(n_c / n)``; a class without
    training images is never answered.
    """
    counts = class_counts(data, num_classes)
    means = class_sums(data, num_classes) / np.maximum(counts, 1)[:, None]  # (C, d)
    weights: Array = np.linalg.solve(pooled_covariance(data), means.T).T.astype(
        np.float64
    )  # (C, d)
    with np.errstate(divide="ignore"):
        prior = np.log(counts / counts.sum())
    return linear(weights, prior - 0.5 * (weights * means).sum(axis=1))


def pooled_covariance(data: FeatureSet) -> Array:
    """Return the covariance within classes ``(d, d)``, shrunk towards a multiple of the identity.

    Shrunk by OAS (Chen, Wiesel, Eldar and Hero, IEEE Trans. Signal Processing 2010). The identity
    where no class has two images.
    """
    from scipy.linalg import helmert  # type: ignore[import-untyped]
    from sklearn.covariance import OAS  # type: ignore[import-untyped]

    features = data.features.astype(np.float64)
    # Orthonormal contrasts of a class's images: n_c - 1 rows with mean 0 and its covariance, so
    # that OAS counts degrees of freedom and not images.
    rows = [
        helmert(int((data.labels == c).sum())) @ features[data.labels == c]
        for c in np.unique(data.labels)
    ]
    contrasts = np.concatenate(rows)  # (n - own classes, d)
    if not len(contrasts):
        return np.eye(features.shape[1])
    found: Array = OAS(store_precision=False, assume_centered=True).fit(contrasts).covariance_
    return found
