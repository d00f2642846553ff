"""Logistic regression on the image features, without any text: a linear probe.

``local_logistic``: each client on its own images. ``pooled_logistic``: on all clients' images
together, which no federation sees.
"""

from warnings import catch_warnings, simplefilter

import numpy as np

from fedrsclip.bench.baselines.federation import (
    Classifier,
    Classifiers,
    Federation,
    Outcome,
    accuracy,
    linear,
    shared_by_all,
)
from fedrsclip_core.data.features.feature_set import FeatureSet

PENALTIES = tuple(10.0**-k for k in range(9))
_STEPS = 500


def local_logistic(federation: Federation) -> Outcome:
    """Fit each client's own, with a penalty chosen on its own validation images."""
    num_classes = federation.num_classes
    found = [chosen(c["train"], c["val"], num_classes)[0] for c in federation.clients]
    return Outcome([Classifiers(None, found)], round=0, bytes_per_round=0)


def pooled_logistic(federation: Federation) -> Outcome:
    """Fit one on the images of all clients."""
    train, val = federation.pooled("train"), federation.pooled("val")
    best, penalty = chosen(train, val, federation.num_classes)
    everybody = shared_by_all(best, len(federation.clients))
    return Outcome([everybody], round=0, bytes_per_round=None, chosen=penalty)


def chosen(train: FeatureSet, val: FeatureSet, num_classes: int) -> tuple[Classifier, float]:
    """Return the fit that is best on ``val``, and its penalty; among equals the strongest one."""
    fits = {penalty: fit(train, penalty, num_classes) for penalty in PENALTIES}
    best = max(fits, key=lambda penalty: accuracy(fits[penalty], val))
    return fits[best], best


def fit(data: FeatureSet, penalty: float, num_classes: int) -> Classifier:
    """Minimise mean cross entropy + ``penalty / 2 * ||W||^2``; the bias has no penalty.

    Of two classes, ``W`` is the difference of their weights. A class without training images is
    never answered.
    """
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    own = np.unique(data.labels)
    weights = np.zeros((num_classes, data.features.shape[1]))
    bias = np.full(num_classes, -np.inf)
    bias[own] = 0.0
    if len(own) > 1:
        model = LogisticRegression(C=1 / (penalty * len(data)), tol=1e-6, max_iter=_STEPS)
        with catch_warnings():
            # Images that a hyperplane separates have their minimum far away if the penalty is weak.
            simplefilter("ignore", ConvergenceWarning)
            model.fit(data.features.astype(np.float64), data.labels)
        rows = own if len(own) > 2 else own[1:]
        weights[rows], bias[rows] = model.coef_, model.intercept_
    return linear(weights, bias)
