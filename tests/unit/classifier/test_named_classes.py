"""Classes by name: what was trained is kept, new words are read, and it is said which are which."""

from pathlib import Path

import numpy as np
import pytest

from fedrsclip.classifier.loading import load_classifier
from fedrsclip.classifier.named_classes import find_classes
from fedrsclip_core.clip import assets
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.config.schema import Config, ModelConfig
from fedrsclip_core.config.shared_tensors import (
    SHARED_COEFFICIENTS,
    SHARED_OFFSETS,
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
    SharedTensors,
)
from fedrsclip_core.demo.scenes import CLASS_NAMES, render
from fedrsclip_core.errors import ConfigError, DataError, ModelError
from fedrsclip_core.learning.prompts import word_prompt
from fedrsclip_core.runs.shared_prompt import SharedPrompt, write_shared_prompt

pytestmark = pytest.mark.unit

WORDS = tuple(name.replace("_", " ") for name in CLASS_NAMES)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def shared_of(kind: str) -> SharedTensors:
    files = find_clip(ModelConfig(), assets.demo_clip_folder())
    prompt = word_prompt(files, "a satellite photo of a", 6, 0.0)
    n_cls, dim = len(CLASS_NAMES), files.dim
    kinds: dict[str, SharedTensors] = {
        "prompt": {SHARED_PROMPT: prompt},
        "both": {SHARED_PROMPT: prompt, SHARED_OFFSETS: numbers(n_cls, dim)},
        "offsets": {SHARED_OFFSETS: numbers(n_cls, dim)},
        "factors": {SHARED_OFFSETS_U: numbers(n_cls, 2), SHARED_OFFSETS_V: numbers(2, dim)},
        "coefficients": {SHARED_COEFFICIENTS: numbers(n_cls, 8)},
    }
    return kinds[kind]


def write(folder: Path, kind: str = "prompt", factor: float | None = None) -> Path:
    files = find_clip(ModelConfig(), assets.demo_clip_folder())
    file = folder / f"{kind}.safetensors"
    saved = SharedPrompt(
        shared=shared_of(kind),
        class_names=tuple(CLASS_NAMES),
        words=WORDS,
        model=ModelConfig.name,
        hub_id="",
        revision="",
        dtype="float32",
        clip=files.digest,
        templates=tuple(Config().prompt.templates),
        run="first",
        server_round=3,
        calibrated_factor=factor,
    )
    write_shared_prompt(file, saved)
    return file


def scenes() -> list[np.ndarray]:
    return [render(c, 0, seed=5, domain=0) for c in range(4)]


@pytest.mark.parametrize("kind", ["prompt", "both", "offsets", "factors", "coefficients"])
def test_trained_classes_keep_what_was_learned(tmp_path: Path, kind: str) -> None:
    """In any order: the odds among them are those among all."""
    file = write(tmp_path, kind)
    whole = load_classifier(file).scores(scenes())
    places = [5, 0, 11]
    some = load_classifier(file, classes=[CLASS_NAMES[k] for k in places])
    expected = whole[:, places] / whole[:, places].sum(axis=1, keepdims=True)
    assert np.abs(some.scores(scenes()) - expected).max() < 1e-5
    assert some.describe() == "first, round 3, global, 3 classes, demo_clip"


@pytest.mark.parametrize("kind", ["offsets", "factors", "coefficients"])
def test_of_class_offsets_new_words_have_none(tmp_path: Path, kind: str) -> None:
    """They are the zero-shot CLIP's, and it is said."""
    new = load_classifier(write(tmp_path, kind), classes="volcano,solar farm")
    mixed = load_classifier(write(tmp_path, kind), classes=["volcano", "solar farm", "harbor"])
    rows = mixed.scores(scenes())[:, :2]
    assert np.abs(new.scores(scenes()) - rows / rows.sum(axis=1, keepdims=True)).max() < 1e-5
    assert new.describe().endswith(
        "2 classes, demo_clip; nobody trained: volcano, solar farm; nothing learned takes part: "
        "this is the zero-shot CLIP"
    )
    assert "zero-shot" not in mixed.describe()


def test_a_prompt_reads_words_that_nobody_trained(tmp_path: Path) -> None:
    classifier = load_classifier(write(tmp_path), classes="volcano, Harbor")
    assert classifier.class_names == ["volcano", "Harbor"]
    assert classifier.describe() == (
        "first, round 3, global, 2 classes, demo_clip; nobody trained: volcano"
    )
    assert classifier.scores(scenes()).shape == (4, 2)


def test_a_file_gives_other_words(tmp_path: Path) -> None:
    names = tmp_path / "names.yaml"
    names.write_text("no: a bare field\nquay: port\n")
    found = find_classes(f"@{names}", ["harbor"], ["port"])
    assert found.names == ("no", "quay")
    assert found.words == ("a bare field", "port")
    assert found.places == (-1, 0)
    names.write_text("harbor: a quay\n")
    assert find_classes(f"@{names}", ["harbor"], ["port"]).places == (-1,)


def test_the_digest_tells_classifiers_apart(tmp_path: Path) -> None:
    file = write(tmp_path)
    found = [
        load_classifier(file).digest,
        load_classifier(write(tmp_path, "both")).digest,
        load_classifier(file, classes="harbor,volcano").digest,
        load_classifier(file, classes="volcano,harbor").digest,
    ]
    assert len(set(found)) == 4
    assert load_classifier(file).digest == found[0]


def test_calibrated_probabilities_are_of_the_fitted_temperature(tmp_path: Path) -> None:
    plain = load_classifier(write(tmp_path)).scores(scenes())
    fitted = load_classifier(write(tmp_path, factor=0.5), calibrated=True)
    expected = np.sqrt(plain) / np.sqrt(plain).sum(axis=1, keepdims=True)
    assert np.abs(fitted.scores(scenes()) - expected).max() < 1e-5
    assert fitted.describe().endswith("demo_clip, calibrated")
    with pytest.raises(ModelError, match="the run 'first' fitted no temperature"):
        load_classifier(write(tmp_path), calibrated=True)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (" , ", "classes names no class"),
        ([], "classes names no class"),
        ("harbor,Harbor", "'harbor' and 'Harbor', which both read 'harbor'"),
        ("port,harbor", "'port' and 'harbor', which both read 'port'"),
        ("harbor,123", "class '123' has no words"),
        ("@nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_names_that_cannot_be_classes(asked: str, sentence: str) -> None:
    words = ["port"] if "port" in asked else ["harbor"]
    with pytest.raises(ConfigError, match=sentence):
        find_classes(asked, ["harbor"], words)


def test_a_name_that_cannot_be_printed() -> None:
    with pytest.raises(DataError, match="has a class"):
        find_classes(["a\x1b[31m"], ["harbor"], ["harbor"])
