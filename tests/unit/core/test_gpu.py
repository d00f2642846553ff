"""The text encoder and a round of training on a CUDA device against the CPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from client_app.encoders import limit_gpu_memory, make_repeatable
from fedrsclip.classifier.scene_classifier import SceneClassifier
from fedrsclip.classifier.stream import classified
from fedrsclip_core.clip.image_encoder import ImageEncoder
from fedrsclip_core.clip.offset_basis import offset_basis
from fedrsclip_core.clip.text_encoder import PackedTextEncoder
from fedrsclip_core.clip.text_tower import load_text_tower
from fedrsclip_core.clip.tokens import tokenize_prompts
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT, shared_shapes
from fedrsclip_core.errors import DataError
from fedrsclip_core.learning.class_statistics import ClassStatistics
from fedrsclip_core.learning.classifier import Classifier
from fedrsclip_core.learning.dual_prompt import Given
from fedrsclip_core.learning.prompts import ClientState
from fedrsclip_core.learning.training import train_round
from tests.unit.core.helpers import (
    N_CTX,
    WORDS,
    given,
    prompt,
    quiet_config,
    separable,
    sharing,
    tiny_files,
)
from tests.unit.core.test_image_encoder import images

pytestmark = [
    pytest.mark.unit,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 2e-2)])
def test_training_agrees_with_the_cpu(tmp_path: Path, dtype: str, tolerance: float) -> None:
    files = replace(tiny_files(tmp_path / "clip"), dtype=dtype)
    tokens = tokenize_prompts(files, WORDS, N_CTX)
    trained = []
    for device in ("cpu", "cuda"):
        encoder = PackedTextEncoder(load_text_tower(files, tokens.ids, device=device), tokens)
        outcome = train_round(
            encoder,
            sharing(prompt(files, 1)),
            ClientState(prompt(files, 2)),
            ClassStatistics(separable(files.dim), encoder.n_cls),
            quiet_config(),
            server_round=1,
            client_name="client-0",
            given=given(encoder),
        )
        assert outcome.state.private is not None
        trained.append(np.stack([outcome.shared[SHARED_PROMPT], outcome.state.private]))
    assert np.abs(trained[0] - trained[1]).max() < tolerance


def test_a_recorded_step_gives_the_same_bits_as_its_kernels(tmp_path: Path) -> None:
    make_repeatable(1)
    files = tiny_files(tmp_path / "clip")
    tokens = tokenize_prompts(files, WORDS, N_CTX)
    encoder = PackedTextEncoder(load_text_tower(files, tokens.ids, device="cuda"), tokens)
    goal = torch.randn(1, encoder.n_cls, encoder.dim, device="cuda")
    for seed in (1, 2):
        found = []
        for encode in (encoder, encoder.encode):
            leaf = torch.tensor(prompt(files, seed)[None], device="cuda").requires_grad_()
            features = encode(leaf)
            (features * goal).sum().backward()
            assert leaf.grad is not None
            found += [features.detach().clone(), leaf.grad]
        assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[3])


@pytest.mark.parametrize("offsets", ["basis:8", "full", "rank:2"])
def test_class_offsets_agree_with_the_cpu(tmp_path: Path, offsets: str) -> None:
    config = compose(["method=fedrsclip_plus", f"prompt.shared_offsets={offsets}"])
    files = tiny_files(tmp_path / "clip")
    tokens = tokenize_prompts(files, WORDS, N_CTX)
    statistics = ClassStatistics(separable(files.dim, classes=3), len(WORDS))
    shapes = shared_shapes(config.prompt, n_cls=len(WORDS), width=files.width, dim=files.dim)
    draw = np.random.default_rng(0).standard_normal
    shared = {name: (0.02 * draw(shape)).astype(np.float32) for name, shape in shapes.items()}
    start = np.zeros((len(WORDS), files.dim), np.float32)
    trained = []
    for device in ("cpu", "cuda"):
        encoder = PackedTextEncoder(load_text_tower(files, tokens.ids, device=device), tokens)
        template = given(encoder).template
        outcome = train_round(
            encoder,
            shared,
            ClientState(None, class_offsets=start),
            statistics,
            config,
            server_round=1,
            client_name="client-0",
            given=Given(template, statistics.log_prior, offset_basis(files, 8)),
        )
        assert outcome.state.class_offsets is not None
        learned = [*outcome.shared.values(), outcome.state.class_offsets]
        assert all((value != shared[name]).any() for name, value in outcome.shared.items())
        trained.append(np.concatenate([value.ravel() for value in learned]))
    assert np.abs(trained[0] - trained[1]).max() < 1e-3


def test_a_process_takes_no_more_of_the_memory_than_its_share() -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    limit_gpu_memory("cuda:0", 0.25)
    try:
        torch.empty(total // 5, dtype=torch.uint8, device="cuda")
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(total // 3, dtype=torch.uint8, device="cuda")
    finally:
        limit_gpu_memory("cuda:0", 1.0)


def test_training_again_gives_the_same_bits(tmp_path: Path) -> None:
    make_repeatable(1)
    files = tiny_files(tmp_path / "clip")
    tokens = tokenize_prompts(files, WORDS, N_CTX)
    encoder = PackedTextEncoder(load_text_tower(files, tokens.ids, device="cuda"), tokens)
    trained = [
        train_round(
            encoder,
            sharing(prompt(files, 1)),
            ClientState(prompt(files, 2)),
            ClassStatistics(separable(files.dim), encoder.n_cls),
            quiet_config(),
            server_round=1,
            client_name="client-0",
            given=given(encoder),
        )
        for _ in range(2)
    ]
    assert trained[0].losses == trained[1].losses
    np.testing.assert_array_equal(
        trained[0].shared[SHARED_PROMPT], trained[1].shared[SHARED_PROMPT]
    )
    np.testing.assert_array_equal(trained[0].state.private, trained[1].state.private)


def test_image_features_agree_with_the_cpu(tmp_path: Path) -> None:
    files = tiny_files(tmp_path / "clip")
    encoders = [ImageEncoder(files, device) for device in ("cpu", "cuda")]
    on_cpu, on_gpu = (e.encode([e.prepare(image) for image in images()]) for e in encoders)
    assert np.abs(on_cpu - on_gpu).max() < 1e-3


def test_many_images_are_classified_in_order_as_on_the_cpu(tmp_path: Path) -> None:
    files = tiny_files(tmp_path / "clip")
    text = np.random.default_rng(0).normal(size=(3, files.dim)).astype(np.float32)
    many = [image for image in images() for _ in range(5)]

    def load(number: int) -> Image.Image:
        if number == 2:
            raise DataError("number 2")
        return many[number]

    found = []
    for device in ("cpu", "cuda"):
        encoder = ImageEncoder(files, device)
        classifier = SceneClassifier(["a", "b", "c"], Classifier(text), 1.0, encoder)
        found.append(list(classified(classifier, range(len(many)), load, batch_size=4)))
    assert [number for number, _ in found[1]] == list(range(len(many)))
    for (number, on_cpu), (_, on_gpu) in zip(*found, strict=True):
        if number == 2:
            assert str(on_gpu) == "number 2"
        else:
            assert not isinstance(on_cpu, DataError) and not isinstance(on_gpu, DataError)
            assert np.abs(on_cpu - on_gpu).max() < 1e-3
