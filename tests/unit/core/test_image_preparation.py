"""Prepared images have the bits of HuggingFace's own preprocessing, whatever the settings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil

from fedrsclip_core.clip.image_preparation import ImagePreparation
from fedrsclip_core.clip.preprocessing import read_preprocessing

pytestmark = pytest.mark.unit

SIZES = [(64, 64), (256, 256), (90, 47), (33, 64), (5, 3), (1, 40), (225, 224), (301, 677)]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"size": {"shortest_edge": 64}, "crop_size": 64},
    {"size": {"shortest_edge": 336}, "crop_size": 336},
    {"size": {"height": 224, "width": 224}, "do_center_crop": False},
    {"size": {"shortest_edge": 60}, "crop_size": {"height": 65, "width": 65}},
    {"size": {"shortest_edge": 65}, "crop_size": {"height": 64, "width": 50}},
    {"do_resize": False, "crop_size": 64},
    {"do_normalize": False, "rescale_factor": 1 / 127.5},
    {"do_rescale": False},
    {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.75]},
    *({"resample": k, "size": 32, "crop_size": 32} for k in range(6)),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_bits_of_transformers(tmp_path: Path, settings: dict[str, Any]) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    normal = read_preprocessing(tmp_path)
    ours, theirs = ImagePreparation(normal), CLIPImageProcessorPil(**normal)
    for number, (width, height) in enumerate(SIZES):
        numbers = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        image = Image.fromarray(numbers)
        expected = theirs(images=image, return_tensors="np")["pixel_values"][0]
        assert ours(image).tobytes() == expected.astype(np.float32).tobytes(), (width, height)


def test_all_numbers_of_all_channels(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text("{}")
    settings = read_preprocessing(tmp_path) | {"do_resize": False, "do_center_crop": False}
    numbers = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, axis=2)
    expected = CLIPImageProcessorPil(**settings)(images=Image.fromarray(numbers))
    plain = {name: settings[name] for name in ("rescale_factor", "image_mean", "image_std")}
    ours = ImagePreparation(plain)(Image.fromarray(numbers))
    assert ours.tobytes() == np.asarray(expected["pixel_values"][0]).tobytes()
