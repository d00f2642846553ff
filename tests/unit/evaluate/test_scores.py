"""Intervals against published examples."""

import pytest

from fedrsclip.evaluate.scores import paired_difference, wilson

pytestmark = pytest.mark.unit


def test_wilson() -> None:
    """Newcombe 1998, two-sided intervals for the single proportion, table I, method 3."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(29, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)


def test_paired_difference() -> None:
    """Newcombe 1998, paired data, table III, method 10."""
    assert paired_difference(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    low, high = paired_difference(36, 2, 12, 0)
    assert (low, high) == pytest.approx((-0.3404, -0.0569), abs=5e-5)


def test_equal_answers_leave_no_difference() -> None:
    low, high = paired_difference(60, 0, 0, 40)
    assert low <= 0 <= high and high - low < 0.1
    assert paired_difference(10, 0, 0, 0) == pytest.approx((-0.2775, 0.2775), abs=1e-3)
