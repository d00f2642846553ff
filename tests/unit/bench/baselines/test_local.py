"""Local LDA and logistic regression against what is known of them."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from fedrsclip.bench.baselines import logistic
from fedrsclip.bench.baselines.lda import lda, local_lda, pooled_covariance
from fedrsclip.bench.baselines.logistic import chosen, fit, local_logistic, pooled_logistic
from fedrsclip_core.data.features.feature_set import FeatureSet
from tests.unit.bench.baselines.clouds import client, cloud, empty, federation, right

pytestmark = pytest.mark.unit


def test_with_many_images_lda_is_scikit_learns_own() -> None:
    # Classes of unlike sizes: the prior counts.
    parts = [cloud(0, [0, 1], 8000), cloud(1, [2], 2000)]
    data = FeatureSet(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )
    own = LinearDiscriminantAnalysis(solver="lsqr").fit(data.features, data.labels)
    points = cloud(2, [0, 1, 2], 200).features
    found = lda(data, 3)(points)
    shares = np.exp(found - found.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    assert np.abs(shares - own.predict_proba(points)).max() < 0.05


def test_the_covariance_is_the_pooled_one_within_classes() -> None:
    data = cloud(0, [0, 1, 2], 500)
    centred = np.concatenate(
        [
            data.features[data.labels == c] - data.features[data.labels == c].mean(0)
            for c in range(3)
        ]
    )
    scatter = centred.T @ centred / (len(data) - 3)
    middle = np.trace(scatter) / 6 * np.eye(6)
    found = pooled_covariance(data)
    shrinkage = 1 - found[0, 1] / scatter[0, 1]
    assert 0 < shrinkage < 1
    assert np.allclose(found, (1 - shrinkage) * scatter + shrinkage * middle, atol=1e-6)


def test_few_images_are_shrunk_and_single_ones_need_no_covariance() -> None:
    few = pooled_covariance(cloud(0, [0, 1], 2))
    assert np.linalg.matrix_rank(few) == len(few)
    assert np.array_equal(pooled_covariance(cloud(0, [0, 1, 2], 1)), np.eye(6))


def test_lda_never_answers_a_class_that_the_client_lacks() -> None:
    found = local_lda(federation(client(0, [1, 3]), client(1, [0, 2])))
    first, second = found.rounds[-1].personalized
    everything = cloud(9, [0, 1, 2, 3], 50)
    assert set(first(everything.features).argmax(axis=1)) == {1, 3}
    assert right(second, cloud(9, [0, 2], 50)) > 0.9
    assert (found.rounds[-1].shared, found.bytes_per_round, found.round) == (None, 0, 0)


def test_the_logistic_fit_is_a_minimum() -> None:
    data, penalty = cloud(0, [0, 1, 2], 30), 1e-2
    classifier = fit(data, penalty, 3)
    bias = classifier(np.zeros((1, 6), np.float32))[0]
    weights = (classifier(np.eye(6, dtype=np.float32)) - bias).T

    def loss(weights: np.ndarray, bias: np.ndarray) -> float:
        scores = data.features.astype(float) @ weights.T + bias
        top = scores.max(axis=1)
        right = scores[np.arange(len(data)), data.labels]
        entropy = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - right
        return float(entropy.mean() + penalty / 2 * (weights**2).sum())

    generator = np.random.default_rng(1)
    for _ in range(50):
        step = 1e-2 * generator.standard_normal((3, 7))
        assert loss(weights + step[:, :6], bias + step[:, 6]) > loss(weights, bias)


@pytest.mark.parametrize("classes", [[2], [1, 3], [0, 1, 3]])
def test_each_client_answers_its_own_classes(classes: list[int]) -> None:
    classifier, _ = chosen(cloud(0, classes, 12), cloud(1, classes, 6), 4)
    assert right(classifier, cloud(2, classes, 50)) > 0.9
    answers = classifier(cloud(2, [0, 1, 2, 3], 50).features).argmax(axis=1)
    assert set(answers) <= set(classes)


def test_the_penalty_is_chosen_on_val(monkeypatch: pytest.MonkeyPatch) -> None:
    right_one, turned = cloud(0, [0, 1], 10), cloud(0, [1, 0], 10)
    flip = FeatureSet(turned.features, 1 - turned.labels)
    fits = {1e-3: fit(right_one, 1e-2, 2)}
    other = fit(flip, 1e-2, 2)
    monkeypatch.setattr(logistic, "fit", lambda data, penalty, _: fits.get(penalty, other))
    assert chosen(right_one, right_one, 2)[1] == 1e-3
    assert chosen(right_one, empty(), 2)[1] == 1.0  # nothing speaks against the strongest


def test_pooled_sees_what_no_client_has() -> None:
    parts = federation(client(0, [0, 1]), client(1, [2, 3]))
    pooled, local = pooled_logistic(parts), local_logistic(parts)
    shared = pooled.rounds[-1].shared
    assert shared is not None
    assert right(shared, cloud(9, [0, 1, 2, 3], 50)) > 0.9
    assert pooled.bytes_per_round is None
    first = local.rounds[-1].personalized[0]
    assert right(first, cloud(9, [0, 1, 2, 3], 50)) < 0.6
