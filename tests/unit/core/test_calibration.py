"""The inverse temperature that fits validation images."""

import numpy as np
import pytest

from fedrsclip_core.learning.calibration import fit_logit_scale

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
