"""Captions, tokenizer training and the pretraining loop, on a scale of seconds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedrsclip.demo import pretrain
from fedrsclip.demo.captions import NOUNS, caption, plain_words
from fedrsclip_core.demo.rng import named_generator
from fedrsclip_core.demo.scenes import CLASS_NAMES, pretraining_scene

pytestmark = pytest.mark.unit

SCENES = [pretraining_scene(number, index, seed=0) for index in (0, 1) for number in range(16)]


def test_every_class_has_words_of_its_own() -> None:
    assert set(NOUNS) == set(CLASS_NAMES)
    phrases = [phrase for nouns in NOUNS.values() for phrase in nouns]
    assert len(set(phrases)) == len(phrases)
    for name in CLASS_NAMES:
        assert plain_words(name).replace(" ", "") == name


def test_captions_vary_and_name_their_class() -> None:
    rng = named_generator("captions")
    for scene in SCENES[:16]:
        captions = [caption(scene, rng) for _ in range(20)]
        assert len(set(captions)) > 15
        assert all(any(noun in text for noun in NOUNS[scene.class_name]) for text in captions)


def test_contrastive_loss_wants_the_own_caption_most_and_spares_its_class() -> None:
    labels = torch.tensor([0, 0, 1, 2])
    own = 8.0 * torch.eye(4)
    same = own.clone()
    same[0, 1] = same[1, 0] = 6.0
    other = own.clone()
    other[0, 2] = other[2, 0] = 6.0
    loss = pretrain.contrastive_loss
    assert loss(same, labels) < loss(own, labels) < loss(torch.zeros(4, 4), labels)
    assert loss(same, labels) < loss(other, labels)


def test_few_steps_learn_and_are_reproducible(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    weights = []
    for attempt in ("one", "two"):
        folder = tmp_path / attempt
        folder.mkdir()
        torch.manual_seed(0)
        tokenizer = pretrain.build_tokenizer(SCENES, folder, seed=0)
        model = pretrain.build_model(tokenizer)
        before = model.logit_scale.item()
        pretrain.train(
            model,
            tokenizer,
            SCENES,
            SCENES[:4],
            batch_size=8,
            learning_rate=1e-3,
            seed=0,
            progress=lambda step: step / 3,
        )
        assert model.logit_scale.item() != before
        pretrain.save(model, folder)
        weights.append((folder / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_augmentation_keeps_shape_and_range() -> None:
    torch.manual_seed(0)
    pixels = pretrain.to_pixels(SCENES).float() / 255
    changed = pretrain.augment(pixels)
    assert changed.shape == pixels.shape
    assert float(changed.min()) >= 0 and float(changed.max()) <= 1
    assert np.abs((changed - pixels).numpy()).mean() > 0.01
