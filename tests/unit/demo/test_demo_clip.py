"""The packaged demo CLIP: complete, small, loadable, and a fair stage for prompts."""

import json
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedrsclip_core
from fedrsclip.demo.measure import (
    accuracy_per_class,
    class_features,
    image_features,
    load,
    scene_set,
)
from fedrsclip.demo.probes import linear_probe
from fedrsclip_core.demo.scenes import PRETRAINING

pytestmark = pytest.mark.unit

FOLDER = Path(fedrsclip_core.__file__).parent / "assets" / "demo_clip"
TEXTS = (
    "",
    "a photo of a",
    "a satellite photo of a dense residential.",
    "An AERIAL  image of storage\ttanks, 12 of them!",
    "it's a müñicipal golf-course — naïve café 北京 🛰",
    "mediumresidential baseballdiamond tennis_court",
)


@lru_cache(maxsize=1)
def loaded() -> tuple[Any, Any]:
    return load(FOLDER)


def zero_shot(stream: str, num_domains: int) -> tuple[float, float]:
    """Zero-shot accuracy and a linear probe's on the same features."""
    model, tokenizer = loaded()
    images, labels = scene_set(16, seed=0, num_domains=num_domains, stream=stream)
    features = image_features(model, FOLDER, images)
    accuracy = accuracy_per_class(features, class_features(model, tokenizer), labels).mean()
    return float(accuracy), linear_probe(features, labels)


def test_folder_is_complete_and_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(sizes) == {
        "README.md",
        "config.json",
        "merges.txt",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    }
    assert sum(sizes.values()) <= 5_000_000


def test_model_loads_without_warnings() -> None:
    from transformers import CLIPModel

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result: Any = CLIPModel.from_pretrained(
            FOLDER, output_loading_info=True, local_files_only=True
        )
    model, report = result
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.float32
    assert model.config.vision_config.image_size == 64
    assert 0 < model.logit_scale.item() <= np.log(100) + 1e-3


def test_preprocessor_matches_the_model() -> None:
    from transformers import CLIPImageProcessor

    images, _ = scene_set(1, seed=0, num_domains=0)
    processor = CLIPImageProcessor.from_pretrained(FOLDER, local_files_only=True)
    pixels = np.asarray(processor(images=list(images), return_tensors="np")["pixel_values"])
    assert pixels.shape == (len(images), 3, 64, 64)
    mean, std = np.array(processor.image_mean), np.array(processor.image_std)
    by_hand = (images / 255 - mean) / std
    np.testing.assert_allclose(pixels, by_hand.transpose(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize("text", TEXTS)
def test_both_tokenizer_libraries_agree(text: str) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    ids = Tokenizer.from_file(str(FOLDER / "tokenizer.json")).encode(text).ids
    assert loaded()[1](text)["input_ids"] == ids
    assert AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)(text)["input_ids"] == ids


def test_every_byte_has_a_token_of_its_own() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    end = tokenizer.token_to_id("<|endoftext|>")
    for text in ("ÿþ", "земля", "東京", "\x7f", "qxzj" * 5):
        inner = tokenizer.encode(text, add_special_tokens=False).ids
        assert inner and end not in inner, text


def test_special_ids_are_the_configured_ones() -> None:
    tokenizer = loaded()[1]
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["text_config"]
    assert config["bos_token_id"] == tokenizer.bos_token_id
    assert config["eos_token_id"] == tokenizer.eos_token_id == len(tokenizer) - 1
    assert config["pad_token_id"] == tokenizer.pad_token_id
    assert config["vocab_size"] == len(tokenizer)
    # 2 would send transformers down the path for OpenAI's first configurations.
    assert config["eos_token_id"] != 2
    assert 40 <= config["max_position_embeddings"] <= 77


def test_common_words_are_single_tokens() -> None:
    tokenizer = loaded()[1]
    words = "a photo of satellite aerial image scene remote sensing residential tanks"
    for word in words.split():
        assert len(tokenizer(word)["input_ids"]) == 3, word


def test_zero_shot_knows_what_it_was_trained_on() -> None:
    accuracy, _ = zero_shot(PRETRAINING, 0)
    assert accuracy > 0.80


def test_zero_shot_leaves_room_under_domain_shift() -> None:
    accuracy, probe = zero_shot("federation", 8)
    plain, _ = zero_shot("federation", 0)
    assert 0.30 < accuracy < 0.75
    assert plain > accuracy + 0.05, "the shift must be what costs accuracy"
    assert probe > accuracy + 0.05, "prompts must have something to gain"
