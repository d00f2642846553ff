"""The file of the shared prompt: written and read by the same module, refused if it differs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.config.shared_tensors import (
    SHARED_COEFFICIENTS,
    SHARED_OFFSETS,
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
)
from fedrsclip_core.runs.sealed import read_sealed, write_sealed
from fedrsclip_core.runs.shared_prompt import (
    NoSharedPromptError,
    SharedPrompt,
    read_shared_prompt,
    write_shared_prompt,
)

pytestmark = pytest.mark.unit

TENSOR = np.arange(12, dtype=np.float32).reshape(3, 4)
PROMPT = SharedPrompt(
    shared={SHARED_PROMPT: TENSOR},
    class_names=("harbor", "golf_course"),
    words=("harbor", "golf course"),
    model="clip_vit_b16",
    hub_id="openai/clip-vit-base-patch16",
    revision="",
    dtype="bfloat16",
    clip="c" * 64,
    templates=("a photo of a {}.",),
    run="first",
    server_round=7,
    reading=Reading(("4", "B03", "2"), ("0", "3000"), -1.5),
    calibrated_factor=0.75,
)


def metadata_of(path: Path) -> dict[str, str]:
    return read_sealed(path)[0]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    write_shared_prompt(path, PROMPT)
    found = read_shared_prompt(path)
    np.testing.assert_equal(found.shared, PROMPT.shared)
    assert replace(found, shared=PROMPT.shared) == PROMPT


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Files did not always say the tensors, the towers' precision, the templates, run and round."""
    path = tmp_path / "prompt.safetensors"
    write_shared_prompt(path, PROMPT)
    reading = ("bands", "stretch", "nodata")
    later = ("tensors", "dtype", "templates", "run", "round", "calibrated_factor", *reading)
    metadata = {key: text for key, text in metadata_of(path).items() if key not in later}
    metadata["format"] = "fedrsclip-shared-prompt-1"
    save_file({"shared_prompt": TENSOR}, path, metadata)
    found = read_shared_prompt(path)
    np.testing.assert_equal(found.shared, PROMPT.shared)
    assert (found.dtype, found.templates, found.server_round) == ("float32", (), 0)
    assert found.reading == AS_THEY_ARE and found.calibrated_factor is None


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("bands", '["0"]'),
        ("bands", "7"),
        ("stretch", '["most"]'),
        ("nodata", '"0"'),
        ("nodata", "NaN"),
        ("calibrated_factor", "0"),
        ("calibrated_factor", "Infinity"),
        ("calibrated_factor", "true"),
    ],
)
def test_a_value_that_cannot_be_is_damage(tmp_path: Path, key: str, text: str) -> None:
    path = tmp_path / "prompt.safetensors"
    write_shared_prompt(path, PROMPT)
    write_sealed(path, PROMPT.shared, metadata_of(path) | {key: text})
    with pytest.raises(NoSharedPromptError, match="is damaged"):
        read_shared_prompt(path)


def test_a_file_of_the_version_before_the_checksum_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    write_shared_prompt(path, PROMPT)
    metadata = metadata_of(path) | {"format": "fedrsclip-shared-prompt-2"}
    save_file({"shared_prompt": TENSOR}, path, metadata)
    np.testing.assert_equal(read_shared_prompt(path).shared, PROMPT.shared)
    # But not one that lost its checksum.
    save_file({"shared_prompt": TENSOR}, path, metadata | {"format": "fedrsclip-shared-prompt-3"})
    with pytest.raises(NoSharedPromptError, match=r"is damaged .*it has no checksum"):
        read_shared_prompt(path)


def test_a_changed_bit_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    write_shared_prompt(path, PROMPT)
    whole = path.read_bytes()
    assert load_file(path)["shared_prompt"].tobytes() == whole[-TENSOR.nbytes :]
    for place in range(len(whole)):
        for bit in (0, 3, 7):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            with pytest.raises(NoSharedPromptError):
                read_shared_prompt(path)


def test_offsets_without_a_prompt_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    tensors = {SHARED_OFFSETS_U: TENSOR[:2, :2], SHARED_OFFSETS_V: TENSOR[:2]}
    write_shared_prompt(path, replace(PROMPT, shared=tensors))
    found = read_shared_prompt(path)
    assert list(found.shared) == list(tensors)
    np.testing.assert_equal(found.shared, tensors)
    assert json.loads(metadata_of(path)["tensors"]) == list(tensors)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({SHARED_OFFSETS: TENSOR}, "2 classes but shared_offsets for 3"),
        ({SHARED_COEFFICIENTS: TENSOR}, "2 classes but shared_coefficients for 3"),
        ({SHARED_OFFSETS_U: TENSOR[:2]}, "have no product"),
        ({SHARED_OFFSETS_V: TENSOR}, "have no product"),
        ({SHARED_OFFSETS_U: TENSOR[:2], SHARED_OFFSETS_V: TENSOR}, "have no product"),
    ],
)
def test_offsets_that_do_not_fit_are_damage(
    tmp_path: Path, tensors: dict[str, np.ndarray], said: str
) -> None:
    path = tmp_path / "prompt.safetensors"
    write_shared_prompt(path, replace(PROMPT, shared=tensors))
    with pytest.raises(NoSharedPromptError, match=said):
        read_shared_prompt(path)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [('["gate"]', "is damaged"), ("[]", "its tensors are"), ('["shared_offsets"]', "is damaged")],
)
def test_tensors_that_cannot_be_are_damage(tmp_path: Path, tensors: str, said: str) -> None:
    path = tmp_path / "prompt.safetensors"
    write_shared_prompt(path, PROMPT)
    metadata = metadata_of(path) | {"tensors": tensors}
    write_sealed(path, {"shared_prompt": TENSOR, "gate": TENSOR}, metadata)
    with pytest.raises(NoSharedPromptError, match=said):
        read_shared_prompt(path)


@pytest.mark.parametrize("key", ["class_names", "words", "model", "hub_id", "revision", "clip"])
def test_a_file_without_what_prediction_needs_is_damaged(tmp_path: Path, key: str) -> None:
    path = tmp_path / "prompt.safetensors"
    write_shared_prompt(path, PROMPT)
    metadata = metadata_of(path)
    del metadata[key]
    write_sealed(path, {"shared_prompt": TENSOR}, metadata)
    with pytest.raises(NoSharedPromptError, match=rf"is damaged .*{key}"):
        read_shared_prompt(path)


@pytest.mark.parametrize(
    ("shared", "words", "said"),
    [
        (np.zeros(4, np.float32), PROMPT.words, "not a finite float32 matrix"),
        (np.zeros((3, 4), np.float64), PROMPT.words, "not a finite float32 matrix"),
        (np.full((3, 4), np.inf, np.float32), PROMPT.words, "not a finite float32 matrix"),
        (TENSOR, ("harbor",), "2 classes but words for 1"),
    ],
)
def test_content_that_cannot_be_is_damage(
    tmp_path: Path, shared: np.ndarray, words: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "prompt.safetensors"
    write_shared_prompt(path, replace(PROMPT, shared={SHARED_PROMPT: shared}, words=words))
    with pytest.raises(NoSharedPromptError, match=said):
        read_shared_prompt(path)


def test_something_else_is_no_shared_prompt(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    with pytest.raises(FileNotFoundError):
        read_shared_prompt(path)
    save_file({"shared_prompt": TENSOR}, path)
    with pytest.raises(NoSharedPromptError, match="is not a shared prompt of a run"):
        read_shared_prompt(path)
    path.write_bytes(b"x")
    with pytest.raises(NoSharedPromptError, match="is damaged"):
        read_shared_prompt(path)
