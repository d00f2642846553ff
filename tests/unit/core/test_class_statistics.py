"""What training images say of classes: counts, prior, shrinkage and whitened directions."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.learning.class_statistics import ClassStatistics, oas_shrinkage, shrunk

pytestmark = pytest.mark.unit

CROSS = np.float32([[3, 1], [3, -1], [-1, 1], [-1, -1]])
"""Two classes that differ along the first axis, with equal spread along both diagonals."""


def statistics(features: NDArray[np.float32], labels: list[int], n_cls: int) -> ClassStatistics:
    return ClassStatistics(FeatureSet(features, np.array(labels)), n_cls)


def test_counts_and_prior() -> None:
    found = statistics(np.zeros((4, 2), np.float32), [0, 0, 0, 2], n_cls=3)
    assert found.counts.tolist() == [3, 0, 1]
    assert found.own_classes.tolist() == [True, False, True]
    expected = [math.log(3.1 / 4.3), math.log(0.1 / 4.3), math.log(1.1 / 4.3)]
    assert found.log_prior.tolist() == pytest.approx(expected, abs=1e-6)


def test_the_gate_opens_with_the_images() -> None:
    one_each = statistics(np.eye(3, 4, dtype=np.float32), [0, 1, 2], n_cls=3)
    assert one_each.gate == 0.0
    four = statistics(np.zeros((4, 4), np.float32), [0, 0, 1, 1], n_cls=2)
    assert four.gate == pytest.approx(0.25)  # (2 / 4) ** 2
    many = statistics(np.zeros((9, 4), np.float32), [0] * 9, n_cls=2)
    assert many.gate == 1.0


def test_shrinkage_by_hand() -> None:
    covariance = np.diag([2.0, 1.0, 0.0])
    # (1 - 2/3) * 5 + 9 over (4 + 1 - 2/3) * (5 - 9/3)
    expected = (5 / 3 + 9) / ((13 / 3) * 2)
    assert oas_shrinkage(covariance, 4) == pytest.approx(min(1.0, expected))
    assert oas_shrinkage(covariance, 40) == pytest.approx((5 / 3 + 9) / ((40 + 1 / 3) * 2))
    # Nothing to shrink: already a multiple of the identity.
    assert oas_shrinkage(np.eye(3), 10) == 1.0
    share = oas_shrinkage(covariance, 40)
    np.testing.assert_allclose(shrunk(covariance, 40), np.diag([2 - share, 1, share]), atol=1e-12)


def test_more_images_are_shrunk_less() -> None:
    draws = np.random.default_rng(0).standard_normal((500, 6)) * [4, 2, 1, 1, 0.5, 0.1]

    def share(n: int) -> float:
        return oas_shrinkage(draws[:n].T @ draws[:n] / n, n)

    assert 0 < share(500) < share(50) < share(8) <= 1


def test_directions_are_those_of_a_linear_discriminant_analysis() -> None:
    generator = np.random.default_rng(1)
    mixing = generator.standard_normal((4, 4))
    labels = np.repeat([0, 2, 3], 40)
    centres = generator.standard_normal((4, 4))
    features = (centres[labels] + generator.standard_normal((120, 4)) @ mixing).astype(np.float32)
    found = statistics(features, labels.tolist(), n_cls=4)
    means = np.stack([features[labels == c].mean(axis=0) for c in (0, 2, 3)]).astype(np.float64)
    within = features - means[np.repeat([0, 1, 2], 40)]
    covariance = shrunk(within.T @ within / 117, 117)
    expected = (means - means.mean(axis=0)) @ np.linalg.inv(covariance)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.directions[[0, 2, 3]], expected, atol=1e-5)
    assert not found.directions[1].any()


def test_a_direction_by_hand() -> None:
    found = statistics(CROSS, [0, 0, 1, 1], n_cls=2)
    # The means are (3, 0) and (-1, 0); along the second axis they agree.
    np.testing.assert_allclose(found.directions, [[1, 0], [-1, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        (CROSS, [0, 0, 0, 0]),  # one class: nothing to be told apart from
        (CROSS, [0, 1, 2, 3]),  # one image a class: no covariance
        (np.ones((4, 2), np.float32), [0, 0, 1, 1]),  # all images alike
    ],
)
def test_without_a_covariance_there_is_no_direction(
    features: NDArray[np.float32], labels: list[int]
) -> None:
    found = statistics(features, labels, n_cls=4)
    assert not found.directions.any()
