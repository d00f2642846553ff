"""How sure a classifier may be: the inverse temperature that fits validation images.

Temperature scaling (Guo, Pleiss, Sun, Weinberger: "On Calibration of Modern Neural Networks", ICML
2017). Answers stay the same, confidences change.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_RANGE = 10.0
_HALVINGS = 50
_PRIOR_WEIGHT = 1.0
"""Of the squared logarithm of the change: a client may have a handful of validation images only."""


def fit_logit_scale(
    scores: NDArray[np.floating], labels: NDArray[np.int64], logit_scale: float
) -> float:
    """Minimise the images' summed cross-entropy plus half the squared log change of the scale.

    Parameters
    ----------
    scores : NDArray
        Similarities ``(N, n_cls)``; logits are ``scale * scores``.
    labels : NDArray[np.int64]
        ``(N,)``.
    logit_scale : float
        The scale that training used; without an image it is returned.

    Returns
    -------
    float
        The inverse temperature, within a factor of ten of ``logit_scale``.
    """
    values = scores.astype(np.float64)
    own = values[np.arange(len(labels)), labels]  # (N,)

    def slope(log_change: float) -> float:
        """Return the objective's derivative by the log of the scale: it changes its sign once."""
        scale = logit_scale * math.exp(log_change)
        logits = scale * values
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        expected = (weights * values).sum(axis=1) / weights.sum(axis=1)  # (N,)
        return float(scale * (expected - own).sum() + _PRIOR_WEIGHT * log_change)

    low, high = -math.log(_RANGE), math.log(_RANGE)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return logit_scale * math.exp((low + high) / 2)


def cross_entropies(
    scores: NDArray[np.floating],
    labels: NDArray[np.int64],
    logit_scale: float,
    factors: Sequence[float],
) -> list[float]:
    """Sum the images' cross-entropies at each of some scales.

    Parameters
    ----------
    scores : NDArray
        Similarities ``(N, n_cls)``.
    labels : NDArray[np.int64]
        ``(N,)``.
    logit_scale : float
        Logits are ``factor * logit_scale * scores``.
    factors : Sequence[float]
        Of the scale.
    """
    values = scores.astype(np.float64)
    # Of each image how far every class lies above its own: (N, n_cls).
    above = logit_scale * (values - values[np.arange(len(labels)), labels][:, None])
    most = above.max(axis=1, initial=0.0)  # (N,)
    shifted = above - most[:, None]
    return [
        float((factor * most + np.log(np.exp(factor * shifted).sum(axis=1))).sum())
        for factor in factors
    ]


def fit_factor(sums: NDArray[np.float64], factors: Sequence[float]) -> float:
    """Return the factor that :func:`fit_logit_scale` would find, from the sums of many clients.

    Parameters
    ----------
    sums : NDArray[np.float64]
        Cross-entropies ``(len(factors),)``, added up over clients.
    factors : Sequence[float]
        Ascending, equally far apart by their logarithms; between them a parabola decides.
    """
    log = np.log(factors)
    objective = sums + _PRIOR_WEIGHT * log**2 / 2
    least = int(objective.argmin())
    if least in (0, len(factors) - 1):
        return float(factors[least])
    before, at, after = objective[least - 1 : least + 2]
    bend = before - 2 * at + after
    beyond = 0.0 if bend <= 0 else (before - after) / (2 * bend)  # in steps, within half of one
    return math.exp(log[least] + beyond * (log[1] - log[0]))
