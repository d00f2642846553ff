"""Confusion, F1 and calibration of a few scores, worked out by hand."""

import json
import math

import numpy as np
import pytest

from fedrsclip.evaluate.scores import calibration_error, macro_f1
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.learning.classifier import Classifier
from fedrsclip_core.learning.diagnostics import (
    BINS,
    describe,
    from_json,
    tally,
)

pytestmark = pytest.mark.unit

# Two classes; scaled by 1, the confidences are 1 / (1 + exp(-difference)).
SCORES = np.array([[math.log(3), 0.0], [math.log(3), 0.0], [0.0, math.log(9)]], np.float32)
LABELS = np.array([0, 1, 1])


def test_confusion_is_true_by_answered() -> None:
    assert tally(SCORES, LABELS, 1.0).confusion.tolist() == [[1, 0], [1, 1]]


def test_confidences_fall_into_their_bins() -> None:
    calibration = tally(SCORES, LABELS, 1.0).calibration
    assert calibration.shape == (BINS, 3)
    np.testing.assert_allclose(calibration[11], [2, 1.5, 1], atol=1e-6)  # 0.75 in (11/15, 12/15]
    np.testing.assert_allclose(calibration[13], [1, 0.9, 1], atol=1e-6)  # 0.90 in (13/15, 14/15]
    assert calibration.sum(axis=0).tolist() == pytest.approx([3, 2.4, 2])


def test_the_temperature_counts() -> None:
    confident = tally(SCORES, LABELS, 100.0).calibration
    assert confident[-1].tolist() == pytest.approx([3, 3, 2])


def test_calibration_error() -> None:
    calibration = tally(SCORES, LABELS, 1.0).calibration
    # |1.5 - 1| + |0.9 - 1| over 3 images
    assert calibration_error(calibration) == pytest.approx(0.2)
    assert calibration_error(np.zeros((BINS, 3))) is None


def test_macro_f1_counts_classes_with_images() -> None:
    confusion = np.array([[3, 1, 0], [0, 2, 2], [0, 0, 0]])
    # class 0: 2*3/(4+3); class 1: 2*2/(4+3); class 2 has no image
    assert macro_f1(confusion) == pytest.approx((6 / 7 + 4 / 7) / 2)
    assert macro_f1(np.zeros((2, 2), dtype=np.int64)) is None


def test_classes_that_are_not_there_are_not_answered_among_the_own() -> None:
    features = np.eye(3, dtype=np.float32)
    parts = {
        "test": FeatureSet(features, np.array([0, 1, 2])),
        "val": FeatureSet(features[:0], LABELS[:0]),
    }
    classifiers = dict.fromkeys(("zero-shot", "personalized"), Classifier(features))
    found = describe(classifiers, parts, np.array([True, True, False]), 1.0, 9.0)
    found = json.loads(json.dumps(found))
    assert found["test"].keys() == {
        "zero-shot",
        "personalized",
        "personalized-own",
        "personalized-calibrated",
    }
    own = from_json(found["test"]["personalized-own"]).confusion
    assert own.sum() == 3 and own[:, 2].sum() == 0
    assert from_json(found["test"]["zero-shot"]).confusion.tolist() == np.eye(3).tolist()
    plain, calibrated = (
        from_json(found["test"][mode]) for mode in ("personalized", "personalized-calibrated")
    )
    assert calibrated.confusion.tolist() == plain.confusion.tolist()
    assert calibrated.calibration[:, 1].sum() > plain.calibration[:, 1].sum()
    empty = from_json(found["val"]["personalized"])
    assert empty.confusion.sum() == 0 and empty.calibration.shape == (BINS, 3)


def test_tallies_add_up() -> None:
    one = tally(SCORES[:1], LABELS[:1], 1.0)
    two = tally(SCORES[1:], LABELS[1:], 1.0)
    whole = tally(SCORES, LABELS, 1.0)
    assert (one + two).confusion.tolist() == whole.confusion.tolist()
    np.testing.assert_allclose((one + two).calibration, whole.calibration)


@pytest.mark.parametrize("value", [{}, {"confusion": [[1]], "calibration": {"count": [1]}}])
def test_something_else_is_refused(value: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        from_json(value)
