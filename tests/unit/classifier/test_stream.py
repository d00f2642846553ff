"""Many images: in order, in bounded memory, and one that is broken harms no other."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from fedrsclip.classifier.scene_classifier import SceneClassifier
from fedrsclip.classifier.stream import classified
from fedrsclip_core.clip import assets
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.clip.image_encoder import ImageEncoder
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.errors import DataError
from fedrsclip_core.learning.classifier import Classifier

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def classifier() -> SceneClassifier:
    files = find_clip(ModelConfig(), assets.demo_clip_folder())
    text = np.random.default_rng(0).normal(size=(3, files.dim)).astype(np.float32)
    return SceneClassifier(["a", "b", "c"], Classifier(text), 1.0, ImageEncoder(files, "cpu"))


def picture(number: int) -> np.ndarray:
    return np.full((8, 8, 3), 25 * number, np.uint8)


def test_each_item_has_its_answer_in_order(classifier: SceneClassifier) -> None:
    def load(number: int) -> np.ndarray:
        time.sleep(0.01 * (number % 2))
        if number in (0, 3, 4, 5):
            raise DataError(f"number {number}")
        return picture(number)

    found = list(classified(classifier, range(10), load, batch_size=3))
    assert [item for item, _ in found] == list(range(10))
    for number, answer in found:
        if number in (0, 3, 4, 5):
            assert str(answer) == f"number {number}"
        else:
            assert not isinstance(answer, DataError)
            expected = classifier.scores([picture(number)])[0]
            assert np.abs(answer - expected).max() < 1e-5


def test_what_waits_is_bounded(classifier: SceneClassifier) -> None:
    """However many items there are, a few batches are drawn ahead of what is taken."""
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for number in range(10**6):
            drawn = number + 1
            yield number

    found = classified(classifier, items(), lambda number: picture(number % 9), batch_size=4)
    for taken in range(1, 41):
        next(found)
        assert drawn <= taken + 4 * 4
    found.close()  # type: ignore[attr-defined]
    assert drawn < 100


def test_a_fault_that_is_no_images_is_raised(classifier: SceneClassifier) -> None:
    def load(number: int) -> np.ndarray:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(classified(classifier, range(10), load))


def test_nothing_is_nothing(classifier: SceneClassifier) -> None:
    assert list(classified(classifier, [], picture)) == []
