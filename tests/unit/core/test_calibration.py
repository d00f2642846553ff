"""The inverse temperature that fits validation images."""

import numpy as np
import pytest

from fedrsclip_core.learning.calibration import cross_entropies, fit_factor, fit_logit_scale
from fedrsclip_core.wire.messages import CALIBRATION_FACTORS

pytestmark = pytest.mark.unit


def drawn(scale: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels drawn with the probabilities that they mean at this scale."""
    generator = np.random.default_rng(0)
    scores = generator.uniform(-1, 1, (n, 4))
    weights = np.exp(scale * scores)
    shares = (weights / weights.sum(axis=1, keepdims=True)).cumsum(axis=1)
    return scores, (generator.uniform(size=(n, 1)) > shares).sum(axis=1)


@pytest.mark.parametrize("scale", [2.0, 5.0, 20.0])
def test_the_scale_of_the_labels_is_found(scale: float) -> None:
    scores, labels = drawn(scale)
    assert fit_logit_scale(scores, labels, 5.0) == pytest.approx(scale, rel=0.1)


def test_few_images_change_little() -> None:
    scores, labels = drawn(20.0)
    few, many = (fit_logit_scale(scores[:n], labels[:n], 5.0) for n in (3, 4000))
    assert 5.0 < few < 0.7 * many


def test_the_scale_is_bounded() -> None:
    certain = np.eye(3)[np.arange(300) % 3]
    assert fit_logit_scale(certain, np.arange(300) % 3, 4.0) <= 40.0
    assert fit_logit_scale(-certain, np.arange(300) % 3, 4.0) >= 0.4


def test_without_an_image_nothing_changes() -> None:
    none = np.empty((0, 3)), np.empty(0, dtype=np.int64)
    assert fit_logit_scale(*none, 4.0) == pytest.approx(4.0, rel=1e-9)


def summed(scores: np.ndarray, labels: np.ndarray, scale: float) -> np.ndarray:
    return np.array(cross_entropies(scores, labels, scale, CALIBRATION_FACTORS))


@pytest.mark.parametrize("n", [10, 30, 4000])
@pytest.mark.parametrize("scale", [0.7, 2.0, 5.0, 20.0, 40.0])
def test_the_sums_of_clients_find_what_their_pooled_images_would(scale: float, n: int) -> None:
    scores, labels = drawn(scale, n)
    parts = (slice(0, n // 5), slice(n // 5, n // 2), slice(n // 2, n))
    sums = sum(summed(scores[part], labels[part], 5.0) for part in parts)
    pooled = fit_logit_scale(scores, labels, 5.0)
    assert 5.0 * fit_factor(np.asarray(sums), CALIBRATION_FACTORS) == pytest.approx(
        pooled, rel=0.01
    )


def test_the_sums_are_cross_entropies() -> None:
    scores, labels = drawn(5.0, 50)
    sums = summed(scores, labels, 5.0)
    for factor, found in list(zip(CALIBRATION_FACTORS, sums, strict=True))[::10]:
        logits = 5.0 * factor * scores
        log_total = np.log(np.exp(logits).sum(axis=1))
        direct = (log_total - logits[np.arange(50), labels]).sum()
        assert found == pytest.approx(direct, rel=1e-9)


def test_sums_at_the_largest_scale_of_a_sharp_clip_are_finite() -> None:
    scores, labels = drawn(5.0, 50)
    sums = summed(scores, labels, 100.0)
    assert np.isfinite(sums).all() and (sums >= 0).all()


@pytest.mark.parametrize("sums", [np.linspace(1, 0, 41) * 1e9, np.linspace(0, 1, 41) * 1e9])
def test_whatever_is_told_the_factor_is_bounded(sums: np.ndarray) -> None:
    assert fit_factor(sums, CALIBRATION_FACTORS) in (pytest.approx(0.1), pytest.approx(10.0))


def test_sums_that_say_nothing_change_nothing() -> None:
    assert fit_factor(np.zeros(41), CALIBRATION_FACTORS) == pytest.approx(1.0, rel=1e-9)
