"""The linear probe against what is known of logistic regression."""

import numpy as np
import pytest

from fedrsclip.bench import probe
from fedrsclip.bench.probe import fit, probe_accuracy
from fedrsclip_core.data.features.feature_set import FeatureSet

pytestmark = pytest.mark.unit


def clouds(seed: int, count: int = 60) -> FeatureSet:
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    features = np.eye(4, dtype=np.float32)[labels] + 0.2 * generator.standard_normal((count, 4))
    return FeatureSet(features.astype(np.float32), labels)


def test_the_fit_is_a_minimum() -> None:
    data, penalty = clouds(0), 1e-2
    weights = fit(data, penalty)

    def loss(w: np.ndarray) -> float:
        scores = np.c_[data.features.astype(float), np.ones(len(data))] @ w.T
        top = scores.max(axis=1)
        right = scores[np.arange(len(data)), data.labels]
        entropy = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - right
        return float(entropy.mean() + penalty / 2 * (w[:, :-1] ** 2).sum())

    generator = np.random.default_rng(1)
    for _ in range(50):
        step = 1e-3 * generator.standard_normal(weights.shape)
        assert loss(weights + step) > loss(weights)


def test_a_stronger_penalty_gives_smaller_weights() -> None:
    sizes = [np.linalg.norm(fit(clouds(0), penalty)[:, :-1]) for penalty in (1e-3, 1e-1, 1.0)]
    assert sizes == sorted(sizes, reverse=True)


def test_clouds_apart_are_told_apart() -> None:
    parts = {"train": clouds(0), "val": clouds(1), "test": clouds(2)}
    assert probe_accuracy(parts) > 0.95
    shuffled = FeatureSet(parts["train"].features, np.roll(parts["train"].labels, 1))
    assert probe_accuracy(parts | {"train": shuffled, "val": shuffled}) < 0.1


def test_the_penalty_is_chosen_on_val(monkeypatch: pytest.MonkeyPatch) -> None:
    right = np.c_[np.eye(3, 4), np.zeros(3)]
    wrong = np.roll(right, 1, axis=0)
    monkeypatch.setattr(probe, "fit", lambda data, penalty: right if penalty == 1e-3 else wrong)
    exact = FeatureSet(np.eye(3, 4, dtype=np.float32), np.arange(3))
    turned = FeatureSet(exact.features, np.array([1, 2, 0]))
    assert probe_accuracy({"train": exact, "val": exact, "test": exact}) == 1
    assert probe_accuracy({"train": exact, "val": turned, "test": turned}) == 1  # other weights
    assert probe_accuracy({"train": exact, "val": exact, "test": turned}) == 0


def test_a_client_without_val_images_has_a_probe() -> None:
    empty = FeatureSet(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert probe_accuracy({"train": clouds(0), "val": empty, "test": clouds(2)}) > 0.9
