"""How sure a classifier may be: the inverse temperature that fits validation images.

Temperature scaling (Guo, Pleiss, Sun, Weinberger: "On Calibration of Modern Neural Networks", ICML
2017). Answers stay the same, confidences change.
"""

import math

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
