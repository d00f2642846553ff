"""Figures of counted answers: F1, calibration, and the intervals in which the truth may lie."""

from math import sqrt

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054
"""The normal distribution's 97.5th percentile: 95 % lie within it on both sides."""


def macro_f1(confusion: NDArray[np.int64]) -> float | None:
    """Average F1 over the classes that have images; ``None`` without images."""
    hits, true, answered = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    present = true > 0
    if not present.any():
        return None
    return float((2 * hits[present] / (true + answered)[present]).mean())


def calibration_error(calibration: NDArray[np.float64]) -> float | None:
    """Average the gap of confidence and accuracy over the bins; ``None`` without images."""
    count, confidence, correct = calibration.T
    if not count.sum():
        return None
    return float(np.abs(confidence - correct).sum() / count.sum())


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share; ``of`` is at least 1."""
    share, spread = hits / of, _Z * _Z / of
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(both: int, first: int, second: int, neither: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares of the same images.

    Parameters
    ----------
    both, first, second, neither : int
        Images that both classifiers have right, only the first, only the second, or none.

    References
    ----------
    Newcombe, Improved confidence intervals for the difference between binomial proportions based
    on paired data, Statistics in Medicine 17, 1998: method 10.
    """
    of = both + first + second + neither
    one, two = both + first, both + second
    share_one, share_two = one / of, two / of
    (low_one, high_one), (low_two, high_two) = wilson(one, of), wilson(two, of)
    product = sqrt(one * (of - one) * two * (of - two))
    shift = float(both * neither - first * second)
    if shift > 0:
        shift = max(0.0, shift - of / 2)
    correlation = shift / product if product else 0.0

    def half(a: float, b: float) -> float:
        return sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))

    difference = share_one - share_two
    below = half(share_one - low_one, high_two - share_two)
    above = half(high_one - share_one, share_two - low_two)
    return difference - below, difference + above
