"""The digest of a CLIP is that of what is computed, however its files write it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

from fedrsclip_core.clip import assets
from fedrsclip_core.clip.earlier import earlier_fingerprint, same_clip
from fedrsclip_core.clip.files import find_clip, identify
from fedrsclip_core.clip.image_encoder import ImageEncoder
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.errors import ModelError
from tests.tiny_clip import make_tiny_clip

pytestmark = pytest.mark.unit

Change = Callable[[Path], None]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return make_tiny_clip(tmp_path / "whole")


def as_transformers_5_saves(folder: Path) -> None:
    """README's own advice: the model and its processor."""
    model = CLIPModel.from_pretrained(folder)
    processor = CLIPProcessor(
        CLIPImageProcessor.from_pretrained(folder), CLIPTokenizerFast.from_pretrained(folder)
    )
    shutil.rmtree(folder)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    assert not (folder / "preprocessor_config.json").exists()


def in_shards(folder: Path) -> None:
    model = CLIPModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="30KB")


def pytorch(folder: Path, **how: Any) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    # Older transformers kept this buffer.
    ids = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save(state | ids, folder / "pytorch_model.bin", **how)


def pytorch_legacy(folder: Path) -> None:
    pytorch(folder, _use_new_zipfile_serialization=False)


def pytorch_shards(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    files = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
    for file, held in files.items():
        torch.save({name: state[name] for name in held}, folder / file)
    where = {name: file for file, held in files.items() for name in held}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))


def changed_json(name: str, change: Callable[[dict[str, Any]], Any]) -> Change:
    def apply(folder: Path) -> None:
        held = json.loads((folder / name).read_text())
        change(held)
        (folder / name).write_text(json.dumps(held))

    return apply


def sparse_config(folder: Path) -> None:
    """A configuration that leaves out what has transformers' default, as small ones do."""

    def change(held: dict[str, Any]) -> None:
        held.pop("transformers_version")
        for section in ("text_config", "vision_config"):
            for key in ("layer_norm_eps", "hidden_act", "attention_dropout", "model_type"):
                held[section].pop(key, None)

    changed_json("config.json", change)(folder)


def sections_of_2022(folder: Path) -> None:
    def change(held: dict[str, Any]) -> None:
        for name in ("text_config", "vision_config"):
            held[f"{name}_dict"] = held.pop(name)
            held[name] = None

    changed_json("config.json", change)(folder)


def old_preprocessing(held: dict[str, Any]) -> None:
    held.clear()
    held |= {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32}


def tokenizer_in_two_files(folder: Path) -> None:
    held = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(held["vocab"]))
    lines = [m if isinstance(m, str) else " ".join(m) for m in held["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines, ""]))


@pytest.mark.parametrize(
    "change",
    [
        *(as_transformers_5_saves, in_shards, pytorch, pytorch_legacy, pytorch_shards),
        *(sparse_config, sections_of_2022, tokenizer_in_two_files),
        changed_json("preprocessor_config.json", old_preprocessing),
        changed_json("config.json", lambda held: held.update(transformers_version="4.1.0")),
        changed_json("config.json", lambda held: held.update(logit_scale_init_value=1)),
        changed_json("tokenizer_config.json", lambda held: held.update(model_max_length=5)),
    ],
)
def test_the_same_clip_in_another_form(change: Change, whole: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(whole, tmp_path / "other"))
    change(other)
    assert identify(other).digest == identify(whole).digest


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_same_values_in_float32(
    dtype: torch.dtype, whole: Path, tmp_path: Path
) -> None:
    """What is computed with are the values as float32, whatever the file has."""
    half = {
        name: tensor.to(dtype) for name, tensor in load_file(whole / "model.safetensors").items()
    }
    before = identify(whole).digest
    save_file(half, whole / "model.safetensors", metadata={"format": "pt"})
    other = Path(shutil.copytree(whole, tmp_path / "other"))
    wide = {name: tensor.float() for name, tensor in half.items()}
    save_file(wide, other / "model.safetensors", metadata={"format": "pt"})
    assert identify(other).digest == identify(whole).digest != before
    image = torch.ones(3, 32, 32)
    features = [ImageEncoder(identify(place), "cpu").encode([image]) for place in (whole, other)]
    # Where in memory the weights lie decides the last bits on some processors.
    np.testing.assert_allclose(features[0], features[1], atol=1e-6)


def one_number(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["visual_projection.weight"][0, 0] += 1e-3
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def swapped_merges(folder: Path) -> None:
    def change(held: dict[str, Any]) -> None:
        merges = held["model"]["merges"]
        merges[0], merges[-1] = merges[-1], merges[0]

    changed_json("tokenizer.json", change)(folder)


def cased(folder: Path) -> None:
    changed_json("tokenizer.json", lambda held: held.update(normalizer=None))(folder)


@pytest.mark.parametrize(
    "change",
    [
        *(one_number, swapped_merges, cased),
        changed_json("config.json", lambda held: held["text_config"].update(hidden_act="gelu")),
        changed_json("config.json", lambda held: held["vision_config"].update(hidden_act="gelu")),
        changed_json("config.json", lambda held: held["vision_config"].update(layer_norm_eps=1e-6)),
        changed_json("config.json", lambda held: held["text_config"].update(num_attention_heads=2)),
        changed_json("preprocessor_config.json", lambda held: held.update(resample=2)),
        changed_json("preprocessor_config.json", lambda held: held.update(do_normalize=False)),
        changed_json("preprocessor_config.json", lambda held: held.update(image_mean=[0.5] * 3)),
        changed_json(
            "preprocessor_config.json", lambda held: held.update(size={"height": 32, "width": 32})
        ),
    ],
)
def test_another_clip(change: Change, whole: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(whole, tmp_path / "other"))
    change(other)
    assert identify(other).digest != identify(whole).digest


def test_earlier_versions_named_the_demo_clip_otherwise() -> None:
    """Files of runs that such a version left are known by these."""
    files = find_clip(ModelConfig(), None)
    assert same_clip(files, files.digest)
    assert same_clip(files, "f28f91c0d250bb65109e456cbd1a6f7e29fb2de7530166a41a88678aeb6a707a")
    earlier = "05e3e90311eab88bf128f3bb1611bf71112b5e5fb2e8dbe4df87d19ec85ee4af"
    assert earlier_fingerprint(assets.demo_clip_folder()) == earlier
    assert not same_clip(files, "0" * 64)
    assert not same_clip(files, "")


# What is refused.


def lfs(name: str) -> Change:
    def apply(folder: Path) -> None:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
        (folder / name).write_text(pointer)

    return apply


def without(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def renamed_tensors(folder: Path) -> None:
    """As a model of OpenCLIP lies on the hub beside a CLIP's config.json."""
    state = {f"visual.{name}": t for name, t in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors")


def text_only(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    text = {name: tensor for name, tensor in state.items() if not name.startswith("vis")}
    save_file(text, folder / "model.safetensors")


def whole_numbers(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["visual_projection.weight"] = state["visual_projection.weight"].to(torch.int8)
    save_file(state, folder / "model.safetensors")


def prefixed(folder: Path) -> None:
    state = {f"model.{name}": t for name, t in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors")


def pickled_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"logit_scale": torch.ones(()), "f": Path}, folder / "pytorch_model.bin")


def two_preprocessings(folder: Path) -> None:
    held = {"image_processor": {"image_mean": [0.5] * 3, "size": 32, "crop_size": 32}}
    (folder / "processor_config.json").write_text(json.dumps(held))


PREPROCESSING = "preprocessor_config.json"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lfs("model.safetensors"), "model.safetensors is a git-LFS pointer"),
        (lfs("config.json"), "config.json is a git-LFS pointer"),
        (lfs("tokenizer.json"), "tokenizer.json is a git-LFS pointer"),
        (lfs(PREPROCESSING), "preprocessor_config.json is a git-LFS pointer"),
        (without("tokenizer.json"), "has no tokenizer: save the model's CLIPTokenizer"),
        (without(PREPROCESSING), "does not say how images are prepared"),
        (renamed_tensors, "have OpenCLIP's names.*fedrsclip model convert"),
        (text_only, "they have no image tower"),
        (prefixed, r"have 'model\.' before their names: fedrsclip model convert"),
        (whole_numbers, "visual_projection.weight as I8: save them as float32"),
        (pickled_code, "holds more than tensors, so reading it could run code"),
        (two_preprocessings, "prepare images differently"),
        (changed_json(PREPROCESSING, lambda h: h.update(crop_size=64)), "makes images of 64 x 64"),
        (changed_json(PREPROCESSING, lambda h: h.update(size={"longest_edge": 32})), "size"),
        (changed_json(PREPROCESSING, lambda h: h.update(image_std=[0, 1, 1])), "image_std"),
        (changed_json(PREPROCESSING, lambda h: h.update(do_pad=True)), "do_pad"),
        (
            changed_json(
                PREPROCESSING, lambda h: h.update(image_processor_type="SiglipImageProcessor")
            ),
            "is for a SiglipImageProcessor",
        ),
        (
            changed_json("config.json", lambda h: h.update(model_type="clip_text_model")),
            "holds a 'clip_text_model', not a whole",
        ),
        (
            changed_json("config.json", lambda h: h["vision_config"].update(patch_size=4)),
            r"patch_embedding.weight of 32 x 3 x 8 x 8, config.json says 32 x 3 x 4 x 4",
        ),
        (
            changed_json("config.json", lambda h: h["text_config"].update(vocab_size=9)),
            r"token_embedding.weight of \d+ x 32, config.json says 9 x 32",
        ),
        (
            changed_json("config.json", lambda h: h.update(projection_dim=23)),
            r"_projection.weight of 24 x 32, config.json says 23 x 32",
        ),
        (
            changed_json("config.json", lambda h: h["text_config"].update(intermediate_size=8)),
            r"mlp.fc\d.* not of one CLIP",
        ),
        (
            changed_json("config.json", lambda h: h["vision_config"].update(num_hidden_layers=3)),
            "lack vision_model.encoder.layers.2",
        ),
    ],
)
def test_what_is_no_clip_is_said(change: Change, words: str, whole: Path) -> None:
    change(whole)
    with pytest.raises(ModelError, match=words):
        find_clip(ModelConfig(name="local"), whole)


def test_places_that_are_no_model_folder(whole: Path, tmp_path: Path) -> None:
    def said(place: Path) -> str:
        with pytest.raises(ModelError) as caught:
            find_clip(ModelConfig(name="local"), place)
        return str(caught.value)

    assert f"give its folder, {whole}" in said(whole / "model.safetensors")
    assert f"({whole} has one)" in said(tmp_path)
    (tmp_path / "open").mkdir()
    weights = tmp_path / "open" / "RemoteCLIP-ViT-B-32.pt"
    weights.touch()
    assert f"`fedrsclip model convert {weights} out=<folder>`" in said(weights)
    assert f"`fedrsclip model convert {weights} out=<folder>`" in said(weights.parent)
    (weights.parent / "open_clip_config.json").touch()
    assert f"`fedrsclip model convert {weights.parent} out=<folder>`" in said(weights.parent)


def test_an_image_that_the_preprocessing_leaves_oblong(whole: Path) -> None:
    from PIL import Image

    changed_json(PREPROCESSING, lambda held: held.update(do_center_crop=False))(whole)
    encoder = ImageEncoder(find_clip(ModelConfig(), whole), "cpu")
    assert encoder.prepare(Image.new("RGB", (50, 50))).shape == (3, 32, 32)
    with pytest.raises(ModelError, match="switch do_center_crop on there"):
        encoder.prepare(Image.new("RGB", (80, 50)))
