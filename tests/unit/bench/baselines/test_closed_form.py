"""What the server computes from sums is what it would compute from all images."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid

from fedrsclip.bench.baselines.closed_form import fed3r, fedncm
from tests.unit.bench.baselines.clouds import client, cloud, federation, right

pytestmark = pytest.mark.unit

POINTS = cloud(9, [0, 1, 2, 3], 50)


def test_fedncm_is_the_nearest_mean_of_all_images() -> None:
    parts = federation(client(0, [0, 1]), client(1, [1, 2, 3], 5))
    outcome = fedncm(parts)
    pooled = parts.pooled("train")
    means = NearestCentroid().fit(pooled.features, pooled.labels).centroids_
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    shared = outcome.rounds[-1].shared
    assert shared is not None
    assert np.allclose(shared(POINTS.features), 10 * POINTS.features @ means.T, atol=1e-5)
    # 4 classes, of each a sum of 6 numbers and a count.
    assert (outcome.round, outcome.bytes_per_round) == (1, 4 * 4 * 7)


def test_fed3r_is_ridge_regression_on_all_images() -> None:
    parts = federation(client(0, [0, 1]), client(1, [1, 2, 3], 5))
    outcome = fed3r(parts)
    pooled = parts.pooled("train")
    ridge = Ridge(alpha=outcome.chosen, fit_intercept=False)
    ridge.fit(pooled.features.astype(float), np.eye(4)[pooled.labels])
    shared = outcome.rounds[-1].shared
    assert shared is not None
    assert np.allclose(shared(POINTS.features), ridge.predict(POINTS.features.astype(float)))
    assert right(shared, POINTS) > 0.9
    assert outcome.bytes_per_round == 4 * (6 * 6 + 6 * 4)


def test_how_classes_are_dealt_does_not_matter() -> None:
    first, second = client(0, [0, 1, 2, 3]), client(1, [0, 1, 2, 3])
    whole = federation(first, second)
    for baseline in (fedncm, fed3r):
        alone = baseline(federation(whole_client(whole)))
        together = baseline(whole)
        one, other = alone.rounds[-1].shared, together.rounds[-1].shared
        assert one is not None and other is not None
        assert np.allclose(one(POINTS.features), other(POINTS.features))


def whole_client(parts):  # type: ignore[no-untyped-def]
    return {part: parts.pooled(part) for part in ("train", "val", "test")}


def test_a_class_without_images_is_never_answered() -> None:
    outcome = fedncm(federation(client(0, [0, 1]), client(1, [1, 2])))
    shared = outcome.rounds[-1].shared
    assert shared is not None
    assert 3 not in shared(POINTS.features).argmax(axis=1)
