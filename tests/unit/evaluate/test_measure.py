"""The sentence that an evaluation ends with says what the paired answers say."""

import numpy as np
import pytest

from fedrsclip.evaluate.measure import Answers, Evaluation
from fedrsclip_core.learning.diagnostics import BINS, Tally

pytestmark = pytest.mark.unit


def answers(hits: list[int]) -> Answers:
    """Return what answered images of the first of two classes."""
    right = np.array(hits, dtype=bool)
    confusion = np.array([[right.sum(), (~right).sum()], [0, 0]])
    return Answers(Tally(confusion, np.zeros((BINS, 3))), right, len(hits))


def verdict(own: list[int], alone: list[int], *, personalized: bool = False) -> str:
    found = Evaluation(
        "a", personalized, "here", "all", ("x", "y"), 0, answers(own), answers(alone)
    )
    return found.verdict


def test_better_worse_and_neither() -> None:
    good, bad = [1] * 90 + [0] * 10, [1] * 50 + [0] * 50
    said = verdict(good, bad)
    assert said.startswith("What the federation shares is better here than CLIP's own words by 40")
    assert said.endswith("(95 % interval +29.8 to +49.3).")
    said = verdict(bad, good, personalized=True)
    assert said.startswith("The personalized classifier is worse here than CLIP's own words by 40")
    assert verdict(good, good[::-1]).startswith("No difference can be told here")


def test_a_class_without_images_has_no_figures() -> None:
    found = Evaluation("a", False, "here", "all", ("x", "y"), 0, answers([1, 1, 0, 1]), None)
    first, second = found.classes
    assert (first.images, first.precision, first.recall, first.taken_for) == (4, 1.0, 0.75, 1)
    assert (second.images, second.precision, second.recall) == (0, 0.0, None)
    assert found.absent == ["y"] and found.gain is None
