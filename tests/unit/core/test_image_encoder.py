"""The image tower against HuggingFace's own model and preprocessing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel

from fedrsclip_core.clip import assets
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.clip.image_encoder import ImageEncoder
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.demo.scenes import render
from fedrsclip_core.errors import ModelError
from tests.tiny_clip import make_tiny_clip

pytestmark = pytest.mark.unit


def images() -> list[Image.Image]:
    scenes = [Image.fromarray(render(c, 0, seed=3, domain=0)) for c in range(4)]
    return [*scenes, scenes[0].resize((90, 47)), Image.new("RGB", (33, 64), "green")]


def prepared(encoder: ImageEncoder) -> list[torch.Tensor]:
    return [encoder.prepare(image) for image in images()]


@pytest.mark.parametrize("kind", ["tiny", "demo"])
def test_features_equal_the_plain_model(tmp_path: Path, kind: str) -> None:
    demo = kind == "demo"
    folder = assets.demo_clip_folder() if demo else make_tiny_clip(tmp_path / "clip")
    files = find_clip(ModelConfig(), folder)
    encoder = ImageEncoder(files, "cpu")
    ours = encoder.encode(prepared(encoder))

    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=images(), return_tensors="pt")
    with torch.no_grad():
        theirs = CLIPModel.from_pretrained(folder).get_image_features(**pixels).pooler_output
    expected = torch.nn.functional.normalize(theirs, dim=1).numpy()

    assert ours.shape == (6, files.dim)
    assert ours.dtype == np.float32
    assert np.abs(ours - expected).max() < 1e-5
    assert np.linalg.norm(ours, axis=1) == pytest.approx(np.ones(6), abs=1e-6)
    assert np.abs(ours[0] - ours[1]).max() > 1e-3, "the model must tell images apart"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
def test_the_tower_agrees_with_the_plain_model(tmp_path: Path, hidden_act: str, dtype: str) -> None:
    folder = make_tiny_clip(tmp_path / "clip", hidden_act=hidden_act)
    encoder = ImageEncoder(find_clip(ModelConfig(dtype=dtype), folder), "cpu")
    pixels = prepared(encoder)
    plain = CLIPModel.from_pretrained(folder, dtype=getattr(torch, dtype))
    with torch.no_grad():
        stacked = torch.stack(pixels).to(plain.dtype)
        tokens = plain.vision_model(pixel_values=stacked).last_hidden_state
        theirs = plain.visual_projection(plain.vision_model.post_layernorm(tokens)).float().numpy()
    expected = theirs / np.linalg.norm(theirs, axis=2, keepdims=True)
    assert np.abs(encoder.encode_patches(pixels) - expected[:, 1:]).max() < 1e-6
    tolerance = 1e-6 if dtype == "float32" else 1e-2
    assert np.abs(encoder.encode(pixels) - expected[:, 0]).max() < tolerance


def test_bfloat16_features_are_near_and_float32(tmp_path: Path) -> None:
    folder = make_tiny_clip(tmp_path / "clip")
    exact, rough = (
        ImageEncoder(find_clip(ModelConfig(dtype=dtype), folder), "cpu")
        for dtype in ("float32", "bfloat16")
    )
    for encode in ("encode", "encode_patches"):
        wanted, given = (getattr(one, encode)(prepared(one)) for one in (exact, rough))
        assert given.dtype == np.float32
        assert 1e-6 < np.abs(wanted - given).max() < 3e-2
        assert (wanted * given).sum(axis=-1).min() > 0.999


def test_patch_features_go_the_class_tokens_way(tmp_path: Path) -> None:
    folder = make_tiny_clip(tmp_path / "clip")
    files = find_clip(ModelConfig(), folder)
    encoder = ImageEncoder(files, "cpu")
    ours = encoder.encode_patches(prepared(encoder))

    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=images(), return_tensors="pt")
    model = CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        tokens = model.vision_model(**pixels).last_hidden_state  # (N, 1 + V, vision width)
        projected = model.visual_projection(model.vision_model.post_layernorm(tokens))
    expected = torch.nn.functional.normalize(projected, dim=2).numpy()

    assert ours.shape == (6, files.num_patches, files.dim) == (6, 16, 24)
    assert ours.dtype == np.float32
    assert np.abs(ours - expected[:, 1:]).max() < 1e-5
    assert np.abs(encoder.encode(prepared(encoder)) - expected[:, 0]).max() < 1e-5
    assert np.linalg.norm(ours, axis=2) == pytest.approx(np.ones((6, 16)), abs=1e-6)
    assert np.abs(ours[0, 0] - ours[0, 1]).max() > 1e-3, "the model must tell patches apart"


def test_a_batch_equals_one_by_one(tmp_path: Path) -> None:
    encoder = ImageEncoder(find_clip(ModelConfig(), make_tiny_clip(tmp_path / "clip")), "cpu")
    alone = np.concatenate([encoder.encode([pixels]) for pixels in prepared(encoder)])
    assert np.abs(encoder.encode(prepared(encoder)) - alone).max() < 1e-5


def test_images_prepared_one_by_one_equal_a_batch_in_bits(tmp_path: Path) -> None:
    folder = make_tiny_clip(tmp_path / "clip")
    ours = torch.stack(prepared(ImageEncoder(find_clip(ModelConfig(), folder), "cpu")))
    theirs = CLIPImageProcessorPil.from_pretrained(folder)(images=images(), return_tensors="pt")
    assert torch.equal(ours, theirs["pixel_values"])


def test_damaged_weights(tmp_path: Path) -> None:
    folder = make_tiny_clip(tmp_path / "clip")
    files = find_clip(ModelConfig(), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be read"):
        ImageEncoder(files, "cpu")


@pytest.mark.parametrize(("width", "height"), [(200, 4), (4, 200), (4096, 64), (40, 1280)])
def test_of_a_long_image_the_middle_is_seen(width: int, height: int) -> None:
    """What is cut away before the resize, the preprocessing would cut away after it."""
    folder = assets.demo_clip_folder()
    encoder = ImageEncoder(find_clip(ModelConfig(), folder), "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    whole = CLIPImageProcessorPil.from_pretrained(folder)(images=image, return_tensors="pt")
    assert torch.equal(encoder.prepare(image), whole["pixel_values"][0])


@pytest.mark.parametrize("size", [(100_000, 1), (1, 2**25), (2**25, 1)])
def test_a_line_of_pixels_takes_no_memory(size: tuple[int, int]) -> None:
    """As a whole it would be resized to gigabytes, where this test would not end."""
    encoder = ImageEncoder(find_clip(ModelConfig(), assets.demo_clip_folder()), "cpu")
    assert bool(torch.isfinite(encoder.prepare(Image.new("RGB", size, "green"))).all())
