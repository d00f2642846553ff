"""Which evaluation modes exist, and their counts against counting by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.clip.text_encoder import PackedTextEncoder
from fedrsclip_core.config.schema import PromptConfig
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.learning.classifier import Classifier
from fedrsclip_core.learning.dual_prompt import Given
from fedrsclip_core.learning.evaluation import classifiers, count_correct
from fedrsclip_core.learning.prompts import ClientState
from tests.unit.core.helpers import given, prompt, separable, sharing, tiny_encoder, tiny_files

pytestmark = pytest.mark.unit

FIXED = PromptConfig(fusion="fixed", beta=0.5)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ClipFiles:
    return tiny_files(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def encoder(files: ClipFiles) -> PackedTextEncoder:
    return tiny_encoder(files)


@pytest.mark.parametrize(
    ("has_shared", "has_private", "modes"),
    [
        (True, True, {"zero-shot", "global", "personalized"}),
        (True, False, {"zero-shot", "global", "personalized"}),
        (False, True, {"zero-shot", "personalized"}),
        (False, False, {"zero-shot"}),
    ],
)
def test_modes_by_method(
    files: ClipFiles,
    encoder: PackedTextEncoder,
    has_shared: bool,
    has_private: bool,
    modes: set[str],
) -> None:
    shared = prompt(files, 1) if has_shared else None
    private = prompt(files, 2) if has_private else None
    template = np.eye(encoder.n_cls, files.dim, dtype=np.float32)
    found = classifiers(encoder, sharing(shared), ClientState(private), FIXED, Given(template))
    assert found.keys() == modes
    for classifier in found.values():
        assert classifier.text.shape == (encoder.n_cls, files.dim)
        assert np.linalg.norm(classifier.text, axis=1) == pytest.approx(
            np.ones(encoder.n_cls), abs=1e-5
        )


def texts_of(
    encoder: PackedTextEncoder,
    shared: NDArray[np.float32] | None,
    state: ClientState,
    prompt: PromptConfig,
) -> dict[str, NDArray[np.float32]]:
    found = classifiers(encoder, sharing(shared), state, prompt, given(encoder))
    return {mode: c.text for mode, c in found.items()}


def test_beta_and_gate_choose_between_the_prompts(
    files: ClipFiles, encoder: PackedTextEncoder
) -> None:
    shared, private = prompt(files, 1, std=1.0), prompt(files, 2, std=1.0)
    state = ClientState(private)
    alone = texts_of(encoder, None, state, FIXED)["personalized"]
    all_shared = texts_of(encoder, shared, state, PromptConfig(fusion="fixed", beta=0.0))
    all_private = texts_of(encoder, shared, state, PromptConfig(fusion="fixed", beta=1.0))
    gate, one = np.float32([30.0]), np.ones(encoder.n_cls, dtype=np.float32)
    gated = texts_of(encoder, shared, ClientState(private, gate), PromptConfig(fusion="gate"))
    weighted = texts_of(
        encoder, shared, ClientState(private, one), PromptConfig(fusion="class_weight")
    )
    assert np.abs(all_shared["personalized"] - all_shared["global"]).max() < 1e-5
    assert np.abs(all_private["personalized"] - alone).max() < 1e-5
    assert np.abs(gated["personalized"] - alone).max() < 1e-5
    assert np.abs(weighted["personalized"] - alone).max() < 1e-5
    assert np.abs(all_private["global"] - alone).max() > 1e-2


def count_by_hand(text: np.ndarray, data: FeatureSet, allowed: list[int]) -> int:
    right = 0
    for feature, label in zip(data.features, data.labels, strict=True):
        best = max(allowed, key=lambda c: float(np.dot(feature, text[c])))
        right += best == label
    return right


def test_counts_equal_counting_by_hand(files: ClipFiles, encoder: PackedTextEncoder) -> None:
    template = np.random.default_rng(3).standard_normal((encoder.n_cls, files.dim))
    template /= np.linalg.norm(template, axis=1, keepdims=True)
    state = ClientState(prompt(files, 2, std=1.0))
    found = classifiers(
        encoder,
        sharing(prompt(files, 1, std=1.0)),
        state,
        FIXED,
        Given(template.astype(np.float32)),
    )
    parts = {"val": separable(files.dim, seed=1), "test": separable(files.dim, 17, seed=2)}
    own = np.array([True, False, True, True])
    counts = count_correct(found, parts, own)
    assert counts.total == {"val": 40, "test": 68}
    for part, data in parts.items():
        for mode, classifier in found.items():
            assert counts.correct[part, mode] == count_by_hand(classifier.text, data, [0, 1, 2, 3])
        expected = count_by_hand(found["personalized"].text, data, [0, 2, 3])
        assert counts.correct[part, "personalized-own"] == expected
    assert counts.correct.keys() == {
        (part, mode) for part in parts for mode in (*found, "personalized-own")
    }


def test_own_classes_leave_out_what_the_client_never_saw() -> None:
    found = {"personalized": Classifier(np.eye(3, dtype=np.float32))}
    rows = np.float32([[0.9, 0.1, 0.4], [0.2, 0.9, 0.3], [0.8, 0.0, 0.6]])
    data = FeatureSet(rows, np.array([0, 1, 2]))
    counts = count_correct(found, {"test": data}, np.array([False, True, True]))
    assert counts.correct["test", "personalized"] == 2
    assert counts.correct["test", "personalized-own"] == 2
    counts = count_correct(found, {"test": data}, np.array([True, True, False]))
    assert counts.correct["test", "personalized-own"] == 2
    counts = count_correct(found, {"test": data}, np.array([False, False, True]))
    assert counts.correct["test", "personalized-own"] == 1


def test_an_empty_part_counts_nothing() -> None:
    empty = FeatureSet(np.empty((0, 3), np.float32), np.empty(0, np.int64))
    found = {"personalized": Classifier(np.eye(3, dtype=np.float32))}
    counts = count_correct(found, {"val": empty}, np.ones(3, dtype=bool))
    assert counts.total == {"val": 0}
    assert set(counts.correct.values()) == {0}
