"""What a client's training images say of its classes: counts, and directions that tell them apart.

Once per client; training and evaluation read it, none of it leaves the client.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.data.features.feature_set import FeatureSet

_PRIOR_COUNT = 0.1
"""Images that each class is given beside its own: an absent one is unlikely, not impossible."""


@dataclass(frozen=True)
class ClassStatistics:
    """Statistics of one client's training features.

    Attributes
    ----------
    data : FeatureSet
        The training part.
    n_cls : int
        The federation's classes.
    """

    data: FeatureSet
    n_cls: int

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Training images of each class ``(n_cls,)``."""
        return np.bincount(self.data.labels, minlength=self.n_cls).astype(np.int64)

    @property
    def own_classes(self) -> NDArray[np.bool_]:
        """Classes of which the client has training images ``(n_cls,)``."""
        return np.asarray(self.counts > 0)

    @cached_property
    def log_prior(self) -> NDArray[np.float32]:
        """:func:`class_prior` of the client's counts, added to logits ``(n_cls,)``."""
        return class_prior(self.counts).astype(np.float32)

    @cached_property
    def gate(self) -> float:
        """``min(1, (n - |own|) / d)^2``: how far images tell a covariance in ``d`` dimensions."""
        free = len(self.data) - int(self.own_classes.sum())
        share: float = min(1.0, free / self.data.features.shape[1])
        return share * share

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """Whitened class directions ``(n_cls, dim)``; zero for classes that the client lacks.

        ``u_c = unit(Sigma^-1 (mu_c - mu))`` with class means ``mu_c``, the mean ``mu`` of those of
        own classes and the pooled within-class covariance ``Sigma``, shrunk towards a multiple of
        the identity (:func:`oas_shrinkage`). These are the weights of a linear discriminant
        analysis (Fisher 1936). All are zero where the images tell no covariance, or of one class
        only.
        """
        features = self.data.features.astype(np.float64)  # (N, dim)
        found = np.zeros((self.n_cls, features.shape[1]))
        own = np.flatnonzero(self.own_classes)
        free = len(features) - len(own)
        if free < 1 or len(own) < 2:
            return found.astype(np.float32)
        sums = np.zeros_like(found)
        np.add.at(sums, self.data.labels, features)
        means = sums[own] / self.counts[own, None]  # (n_own, dim)
        row_of = np.searchsorted(own, self.data.labels)
        within = features - means[row_of]
        covariance = shrunk(within.T @ within / free, free)  # (dim, dim)
        apart = np.linalg.solve(covariance, (means - means.mean(axis=0)).T).T  # (n_own, dim)
        lengths = np.linalg.norm(apart, axis=1, keepdims=True)
        found[own] = np.divide(apart, lengths, out=np.zeros_like(apart), where=lengths > 0)
        return found.astype(np.float32)


def class_prior(counts: NDArray[np.floating] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``log((n_c + 0.1) / (n + 0.1 C))`` of a client's images of each class ``(C,)``."""
    smoothed = counts + _PRIOR_COUNT
    return np.asarray(np.log(smoothed / smoothed.sum()), dtype=np.float64)


def shrunk(covariance: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Shrink a covariance ``(dim, dim)`` of ``n`` degrees of freedom to a multiple of identity."""
    dim = len(covariance)
    share = oas_shrinkage(covariance, n)
    # Features that are all the same have no covariance at all: any positive one then solves.
    variance = max(np.trace(covariance) / dim, np.finfo(np.float64).tiny)
    return np.asarray((1 - share) * covariance + share * variance * np.eye(dim))


def oas_shrinkage(covariance: NDArray[np.float64], n: int) -> float:
    """Return the share of the identity in the oracle approximating shrinkage estimator.

    Parameters
    ----------
    covariance : NDArray[np.float64]
        Empirical covariance ``(dim, dim)``.
    n : int
        Its degrees of freedom.

    References
    ----------
    Chen, Wiesel, Eldar, Hero, "Shrinkage Algorithms for MMSE Covariance Estimation", IEEE
    Transactions on Signal Processing 58(10), 2010, equation 23.
    """
    dim = len(covariance)
    square_of_trace = float(np.trace(covariance) ** 2)
    trace_of_square = float((covariance**2).sum())
    above = (1 - 2 / dim) * trace_of_square + square_of_trace
    below = (n + 1 - 2 / dim) * (trace_of_square - square_of_trace / dim)
    return 1.0 if below <= 0 else min(1.0, above / below)
