"""What may be given as an image: the same picture in any form, and a sentence for anything else."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fedrsclip.classifier.given_images import as_list, as_rgb
from fedrsclip.classifier.loading import load_classifier
from fedrsclip.classifier.scene_classifier import SceneClassifier
from fedrsclip_core.clip import assets
from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import DataError, ModelError
from fedrsclip_core.runs.run_folder import RunFolder
from tests.unit.classifier.test_loading import write_prompt

pytestmark = pytest.mark.unit

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> SceneClassifier:
    file = tmp_path_factory.mktemp("run") / "shared_prompt.safetensors"
    return load_classifier(write_prompt(file, assets.demo_clip_folder(), Config()))


def _png(pixels: np.ndarray = PIXELS) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


@pytest.mark.parametrize(
    "give",
    [
        lambda: PIXELS,
        lambda: PIXELS.transpose(2, 0, 1),
        lambda: np.asfortranarray(PIXELS),
        lambda: torch.from_numpy(PIXELS),
        lambda: torch.from_numpy(PIXELS).permute(2, 0, 1),
        lambda: Image.fromarray(PIXELS),
        _png,
        lambda: bytearray(_png()),
        lambda: memoryview(_png()),
        lambda: io.BytesIO(_png()),
    ],
)
def test_one_picture_in_any_form(give: Callable[[], Any]) -> None:
    assert np.array_equal(np.asarray(as_rgb(give(), AS_THEY_ARE)), PIXELS)
    assert len(as_list(give())) == 1


def test_paths_files_and_grey(tmp_path: Path) -> None:
    file = tmp_path / "scene.png"
    file.write_bytes(_png())
    for given in (file, str(file)):
        assert np.array_equal(np.asarray(as_rgb(given, AS_THEY_ARE)), PIXELS)
    with file.open("rb") as stream:
        assert np.array_equal(np.asarray(as_rgb(stream, AS_THEY_ARE)), PIXELS)
    grey = as_rgb(PIXELS[..., 0], AS_THEY_ARE)
    assert np.array_equal(np.asarray(grey), np.repeat(PIXELS[..., :1], 3, axis=-1))


def test_a_picture_is_seen_upright_like_its_file() -> None:
    turned = Image.fromarray(np.rot90(PIXELS))
    exif = Image.Exif()
    exif[274] = 6
    stream = io.BytesIO()
    turned.save(stream, "png", exif=exif)
    from_bytes = np.asarray(as_rgb(stream.getvalue(), AS_THEY_ARE))
    assert np.array_equal(from_bytes, PIXELS)
    with Image.open(stream) as image:
        assert np.array_equal(np.asarray(as_rgb(image, AS_THEY_ARE)), PIXELS)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (PIXELS.astype(np.uint16), "the pixels are uint16: give uint8"),
        (PIXELS / 255, "the pixels are float64: give uint8"),
        (torch.zeros(3, 8, 9), "the pixels are float32"),
        (torch.zeros(3, 8, 9, dtype=torch.bfloat16), "the tensor has no array"),
        (np.zeros((3, 5, 3), np.uint8), r"(3, 5, 3) may be (3, H, W) or (H, W, 3)"),
        (np.zeros((8, 9, 4), np.uint8), "without alpha or further bands"),
        (np.zeros((13, 8, 9), np.uint8), "without alpha or further bands"),
        (np.zeros((8,), np.uint8), "has the shape (8,)"),
        (np.zeros((0, 9, 3), np.uint8), "no pixel"),
        (io.StringIO("text"), "opened as text"),
        (b"nothing", "not"),
        (b"", "is empty"),
        (None, "type NoneType is no image: give a path"),
        (3, "type int is no image"),
        ({"bytes": b""}, "type dict is no image"),
        ("no such file", "there is no image at"),
        (b"\x00".decode(), "NUL"),
        (Path(), "there is no image at"),
    ],
)
def test_anything_else_is_one_sentence(given: Any, words: str, classifier: SceneClassifier) -> None:
    with pytest.raises(Exception) as caught:
        classifier.predict(given)
    assert type(caught.value).__module__ == "fedrsclip_core.errors"
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [PIXELS, Image.fromarray(PIXELS), torch.from_numpy(PIXELS)])
def test_pixels_in_memory_are_refused_where_a_file_is_read_otherwise(given: Any) -> None:
    with pytest.raises(DataError, match="give the image's file or its bytes"):
        as_rgb(given, Reading(bands=("3", "2", "1")))


def test_one_or_several(classifier: SceneClassifier) -> None:
    count = len(classifier.class_names)
    one = classifier.scores(PIXELS)
    assert one.shape == (1, count)
    for several in (
        [PIXELS, _png()],
        (PIXELS, PIXELS),
        np.stack([PIXELS] * 2),
        torch.from_numpy(np.stack([PIXELS] * 2)),
        iter([PIXELS, PIXELS]),
    ):
        scores = classifier.scores(several)
        assert np.abs(scores - np.repeat(one, 2, axis=0)).max() < 1e-6
    assert classifier.scores([]).shape == (0, count)
    assert classifier.predict(PIXELS) == classifier.predict(_png())
    for wrong in ([PIXELS], np.stack([PIXELS] * 2), []):
        with pytest.raises(DataError, match="predict takes one image"):
            classifier.predict(wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="image 33, from 0: an object of type NoneType is no image"):
        classifier.scores([PIXELS] * 33 + [None])  # type: ignore[list-item]


def test_a_run_is_given_by_name_folder_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDRSCLIP_HOME", str(tmp_path))
    folder = RunFolder.named("first")
    folder.path.mkdir(parents=True)
    file = write_prompt(folder.shared_prompt, assets.demo_clip_folder(), Config())
    for given in ("first", folder, folder.path, str(folder.path), file, str(file)):
        assert load_classifier(given).class_names
    shutil.move(file, tmp_path / "elsewhere")
    for given in ("first", folder, "second", tmp_path):
        with pytest.raises(ModelError, match="there is no shared prompt at"):
            load_classifier(given)
    with pytest.raises(ModelError, match="a NoneType is no run"):
        load_classifier(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cuda:99", r"torch sees \d+ CUDA devices: choose another"),
        ("gpu", "choose cpu, cuda"),
        ("cuda:-1", "choose cpu, cuda"),
        ("", "choose cpu"),
    ],
)
def test_a_wrong_device_is_one_sentence(device: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        load_classifier(tmp_path, device=device)


def test_a_device_may_be_torchs(tmp_path: Path) -> None:
    file = write_prompt(tmp_path / "prompt", assets.demo_clip_folder(), Config())
    assert load_classifier(file, device=torch.device("cpu")).class_names
