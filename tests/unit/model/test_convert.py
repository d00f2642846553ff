"""Converted CLIPs compute what open_clip computed; what would be wrong is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from fedrsclip.model.architecture import ARCHITECTURES
from fedrsclip.model.convert import convert
from fedrsclip_core.clip import assets
from fedrsclip_core.clip.files import ClipFiles, identify
from fedrsclip_core.clip.image_encoder import ImageEncoder
from fedrsclip_core.clip.text_model import load_text_model
from fedrsclip_core.errors import ModelError
from tests.disks import full_disk, small_disk
from tests.openclip_weights import IMAGES, TEXTS, pixels
from tests.tiny_clip import make_tiny_clip, tiny_tokenizer
from tests.unit.model.openclip import NAMES, Recorded, recorded, write_folder

pytestmark = pytest.mark.unit

CLOSE = 1e-5


def image_features(files: ClipFiles) -> NDArray[np.float32]:
    encoder = ImageEncoder(files, "cpu")
    return encoder.encode([encoder.prepare(Image.fromarray(pixels(i))) for i in range(len(IMAGES))])


def text_features(files: ClipFiles) -> NDArray[np.float32]:
    return np.concatenate(
        [load_text_model(files, ["x"], 4, [text], "cpu").zero_shot for text in TEXTS]
    )


def assert_computes(files: ClipFiles, expected: Recorded) -> None:
    assert np.abs(image_features(files) - expected.image_features).max() < CLOSE
    assert np.abs(text_features(files) - expected.text_features).max() < CLOSE


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_open_clip(name: str, tmp_path: Path) -> None:
    expected = recorded(name)
    spread = np.abs(expected.image_features[0] - expected.image_features[1:]).max()
    assert spread > 100 * CLOSE, "the recorded model must tell images apart"
    made = convert(write_folder(tmp_path / "source", expected), tmp_path / "clip")
    assert_computes(made.files, expected)


@pytest.mark.parametrize("name", ["vit_b_16", "vit_b_32_quickgelu"])
def test_the_other_activation_is_seen(name: str, tmp_path: Path) -> None:
    """The comparison above would not pass with the wrong one."""
    expected = recorded(name)
    model = expected.config["model_cfg"]
    model["quick_gelu"] = not model.get("quick_gelu", False)
    made = convert(write_folder(tmp_path / "source", expected), tmp_path / "clip")
    assert np.abs(image_features(made.files) - expected.image_features).max() > 100 * CLOSE


def test_transformers_reads_the_folder(tmp_path: Path) -> None:
    expected = recorded("vit_h_14")
    convert(write_folder(tmp_path / "source", expected), tmp_path / "clip")
    model, info = CLIPModel.from_pretrained(tmp_path / "clip", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.vision_config.num_attention_heads == 2


def wrapped(state: dict[str, torch.Tensor]) -> object:
    return {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}, "optimizer": {}}


def nested(state: dict[str, torch.Tensor]) -> object:
    inner = {f"_orig_mod.clip_model.{k}": v for k, v in state.items()}
    return {"model": inner | {"head.weight": torch.zeros(2, 2)}, "lr": 0.1}


def with_buffers(state: dict[str, torch.Tensor]) -> object:
    numbers = dict.fromkeys(("input_resolution", "context_length", "vocab_size"), torch.tensor(3))
    return state | numbers | {"attn_mask": torch.zeros(3, 3)}


@pytest.mark.parametrize("form", [wrapped, nested, with_buffers])
@pytest.mark.parametrize("name", ["vit_b_16", "custom_text"])
def test_wrappers_are_taken_off(
    name: str, form: Callable[[dict[str, torch.Tensor]], object], tmp_path: Path
) -> None:
    expected = recorded(name)
    folder = write_folder(tmp_path / "source", expected)
    torch.save(form(expected.state), folder / "open_clip_pytorch_model.bin")
    assert_computes(convert(folder, tmp_path / "clip").files, expected)


def test_safetensors_and_legacy_files(tmp_path: Path) -> None:
    expected = recorded("vit_b_16")
    folder = write_folder(tmp_path / "source", expected)
    weights = folder / "open_clip_pytorch_model.bin"
    torch.save(expected.state, weights, _use_new_zipfile_serialization=False)
    first = convert(folder, tmp_path / "legacy").files
    weights.unlink()
    save_file(expected.state, folder / "open_clip_model.safetensors")
    second = convert(folder, tmp_path / "safe").files
    assert first.digest == second.digest


def test_half_precision_stays_half(tmp_path: Path) -> None:
    expected = recorded("vit_b_16")
    folder = write_folder(tmp_path / "source", expected)
    half = {name: tensor.half() for name, tensor in expected.state.items()}
    torch.save(half, folder / "open_clip_pytorch_model.bin")
    made = convert(folder, tmp_path / "clip").files
    held = load_file(made.folder / "model.safetensors")
    assert {tensor.dtype for tensor in held.values()} == {torch.float16}
    half["ln_final.bias"] = half["ln_final.bias"].float()
    torch.save(half, folder / "open_clip_pytorch_model.bin")
    mixed = convert(folder, tmp_path / "mixed").files
    assert mixed.digest == made.digest


def openclip_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """HuggingFace's tensors under OpenCLIP's names: the way back, written apart."""
    plain = {
        "logit_scale": state["logit_scale"],
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T.contiguous(),
        "text_projection": state["text_projection.weight"].T.contiguous(),
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
    }
    for ours, theirs, pre, post in (
        ("visual.", "vision_model", "ln_pre", "ln_post"),
        ("", "text_model", "", "ln_final"),
    ):
        table = f"{theirs}.embeddings.position_embedding.weight"
        plain[f"{ours}positional_embedding"] = state[table]
        last = "post_layernorm" if theirs == "vision_model" else "final_layer_norm"
        for kind in ("weight", "bias"):
            plain[f"{ours}{post}.{kind}"] = state[f"{theirs}.{last}.{kind}"]
            if pre:
                plain[f"{ours}{pre}.{kind}"] = state[f"{theirs}.pre_layrnorm.{kind}"]
        count = len([n for n in state if n.startswith(theirs) and n.endswith("mlp.fc1.bias")])
        for i in range(count):
            old, new = f"{theirs}.encoder.layers.{i}", f"{ours}transformer.resblocks.{i}"
            for kind in ("weight", "bias"):
                plain[f"{new}.attn.in_proj_{kind}"] = torch.cat(
                    [state[f"{old}.self_attn.{one}_proj.{kind}"] for one in "qkv"]
                )
                for a, b in (
                    *(("attn.out_proj", "self_attn.out_proj"), ("ln_1", "layer_norm1")),
                    *(("ln_2", "layer_norm2"), ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")),
                ):
                    plain[f"{new}.{a}.{kind}"] = state[f"{old}.{b}.{kind}"]
    return plain


def test_the_demo_clip_comes_back_bit_for_bit(tmp_path: Path) -> None:
    demo = assets.demo_clip_folder()
    folder = tmp_path / "source"
    shutil.copytree(demo, folder)
    state = load_file(demo / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(openclip_names(state), folder / "model.safetensors")
    with pytest.raises(ModelError, match="have OpenCLIP's names, not those of a HuggingFace"):
        identify(folder)
    made = convert(folder, tmp_path / "clip").files
    assert made.digest == identify(demo).digest
    back = load_file(made.folder / "model.safetensors")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_a_huggingface_folder_is_completed(tmp_path: Path) -> None:
    whole = make_tiny_clip(tmp_path / "whole")
    part = tmp_path / "part"
    part.mkdir()
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        shutil.copy(whole / name, part)
    made = convert(part, tmp_path / "clip", tokenizer=whole)
    assert made.files.digest == identify(whole).digest


# What is refused.


def test_without_an_activation(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "source", recorded("vit_b_16"), config=False)
    with pytest.raises(ModelError, match=r"no architecture that is known here .*heads"):
        convert(folder, tmp_path / "clip")
    file = large("ViT-B-32", tmp_path / "any.pt")
    with pytest.raises(ModelError, match=r"GELU or QuickGELU.*activation=quickgelu"):
        convert(file, tmp_path / "clip")
    with pytest.raises(ModelError, match=r"arch=ViT-B-32-quickgelu says so.*activation=gelu"):
        convert(file, tmp_path / "clip", arch="ViT-B-32-quickgelu", activation="gelu")
    assert not (tmp_path / "clip").exists()
    assert not list(tmp_path.glob(".clip*"))


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("RemoteCLIP-ViT-B-32.pt", "quickgelu"),
        ("RS5M_ViT-B-32.pt", "quickgelu"),
        ("vit_b_32-quickgelu-laion400m_e32-46683a32.pt", "quickgelu"),
        ("vit_b_32-laion2b_e16-af8dbd0c.pt", "gelu"),
    ],
)
def test_published_files_are_known_by_name(file: str, expected: str, tmp_path: Path) -> None:
    source = large("ViT-B-32", tmp_path / file)
    made = convert(source, tmp_path / "clip", tokenizer=clip_tokenizer(tmp_path))
    assert made.arch == "ViT-B-32"
    assert made.activation.startswith(f"{expected}:")
    config = json.loads((tmp_path / "clip" / "config.json").read_text())
    act = {"gelu": "gelu", "quickgelu": "quick_gelu"}[expected]
    assert config["vision_config"]["hidden_act"] == config["text_config"]["hidden_act"] == act
    assert config["vision_config"]["num_attention_heads"] == 12
    assert config["text_config"]["num_attention_heads"] == 8


def test_an_architecture_that_is_another(tmp_path: Path) -> None:
    source = large("ViT-B-32", tmp_path / "RemoteCLIP-ViT-B-32.pt")
    with pytest.raises(ModelError, match=r"arch is ViT-L-14 but .* is a ViT-B-32"):
        convert(source, tmp_path / "clip", arch="ViT-L-14")
    with pytest.raises(ModelError, match=r"arch is 'ViT-Z-1': known are ViT-S-32"):
        convert(source, tmp_path / "clip", arch="ViT-Z-1")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("visual.layer1.0.conv1.weight", "a ResNet"),
        ("visual.trunk.patch_embed.proj.weight", "timm"),
        ("visual.blocks.0.attn.q_proj.weight", "an EVA-CLIP"),
        ("text.transformer.embeddings.word_embeddings.weight", "text tower of HuggingFace's"),
        ("text_decoder.resblocks.0.ln_1.weight", "a CoCa"),
        ("logit_bias", "a SigLIP"),
        ("visual.transformer.resblocks.0.ls_1.gamma", "which a plain CLIP does not have"),
    ],
)
def test_other_models_are_named(name: str, words: str, tmp_path: Path) -> None:
    one = recorded("vit_b_16")
    one.state[name] = torch.zeros(2)
    with pytest.raises(ModelError, match=words):
        convert(write_folder(tmp_path / "source", one), tmp_path / "clip")


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("vision_cfg", "timm_model_name", "eva02_base", "timm_model_name='eva02_base'"),
        ("vision_cfg", "no_ln_pre", True, "no_ln_pre=True"),
        ("vision_cfg", "norm_kwargs", {"eps": 1e-6}, "norm_kwargs"),
        ("vision_cfg", "image_size", 224, "not of one model"),
        ("vision_cfg", "head_width", 0, "head_width"),
        ("text_cfg", "pool_type", "last", "pool_type='last'"),
        ("text_cfg", "tokenizer_kwargs", {"clean": "canonicalize"}, "tokenizer_kwargs"),
        ("text_cfg", "heads", 3, "not for 3 heads"),
    ],
)
def test_configurations_that_a_clip_has_not(
    section: str, key: str, value: object, words: str, tmp_path: Path
) -> None:
    one = recorded("vit_b_16")
    one.config["model_cfg"][section][key] = value
    with pytest.raises(ModelError, match=words):
        convert(write_folder(tmp_path / "source", one), tmp_path / "clip")


@pytest.mark.parametrize(
    ("key", "value"), [("resize_mode", "longest"), ("interpolation", "nearest"), ("size", 336)]
)
def test_preprocessing_that_transformers_has_not(key: str, value: object, tmp_path: Path) -> None:
    one = recorded("vit_b_16")
    one.config["preprocess_cfg"][key] = value
    with pytest.raises(ModelError, match=r"open_clip_config.json wants images"):
        convert(write_folder(tmp_path / "source", one), tmp_path / "clip")


def test_a_tensor_is_missing(tmp_path: Path) -> None:
    one = recorded("vit_b_16")
    del one.state["ln_final.bias"]
    with pytest.raises(ModelError, match=r"lack text_model.final_layer_norm.bias"):
        convert(write_folder(tmp_path / "source", one), tmp_path / "clip")
    assert not (tmp_path / "clip").exists()


def test_two_clips_in_one_file(tmp_path: Path) -> None:
    one = recorded("vit_b_16")
    both = {f"{who}.{k}": v for who in ("student", "teacher") for k, v in one.state.items()}
    folder = write_folder(tmp_path / "source", one)
    torch.save(both, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match=r"several CLIPs, under 'student\.' and 'teacher\.'"):
        convert(folder, tmp_path / "clip")


class Surprise:
    """A pickle that would leave a file behind."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("surprise"),))


def test_a_pickle_with_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = recorded("vit_b_16")
    folder = write_folder(tmp_path / "source", one)
    torch.save(
        {"state_dict": one.state, "args": Surprise()}, folder / "open_clip_pytorch_model.bin"
    )
    with pytest.raises(ModelError, match="more than tensors, so reading it could run code"):
        convert(folder, tmp_path / "clip")
    assert not Path("surprise").exists()


def test_places_without_a_model(tmp_path: Path) -> None:
    for place, words in (
        (tmp_path / "nowhere", "nothing at"),
        (tmp_path, "no file of weights"),
    ):
        with pytest.raises(ModelError, match=words):
            convert(place, tmp_path / "clip")
    (tmp_path / "a.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ModelError, match="git-LFS pointer"):
        convert(tmp_path / "a.pt", tmp_path / "clip")
    (tmp_path / "b.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match=r"b\.pt cannot be read, it is damaged or no file of w"):
        convert(tmp_path / "b.pt", tmp_path / "clip")
    with pytest.raises(ModelError, match="several files of weights"):
        convert(tmp_path, tmp_path / "clip")


def test_a_target_that_is_taken(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "source", recorded("vit_b_16"))
    with pytest.raises(ModelError, match="is there already"):
        convert(folder, folder)
    assert (folder / "open_clip_config.json").is_file()


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "source", recorded("vit_b_16"))
    with full_disk(), pytest.raises(OSError, match="No space left"):
        convert(folder, tmp_path / "clip")
    with (
        small_disk(tmp_path / "small", "256k") as small,
        pytest.raises(ModelError, match="cannot hold the weights"),
    ):
        convert(folder, small / "clip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small", "source"]


def test_no_tokenizer(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "source", recorded("vit_b_16"))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="a tokenizer of its own: give the folder"):
        convert(folder, tmp_path / "clip")
    assert convert(folder, tmp_path / "clip", tokenizer=clip_tokenizer(tmp_path, tiny=True))


def test_the_architectures_are_told_apart() -> None:
    sizes = [
        (one.image_size, one.patch, one.width, one.layers, one.text_width, one.text_layers)
        for one in ARCHITECTURES.values()
    ]
    assert len(set(sizes)) == len(sizes)


def large(arch: str, file: Path) -> Path:
    """Write a state dict with the true shapes of an architecture, of one repeated number."""
    one = ARCHITECTURES[arch]
    positions = (one.image_size // one.patch) ** 2 + 1
    shapes = {
        "logit_scale": (),
        "text_projection": (one.text_width, 512),
        "token_embedding.weight": (49408, one.text_width),
        "positional_embedding": (77, one.text_width),
        "ln_final.weight": (one.text_width,),
        "ln_final.bias": (one.text_width,),
        "visual.proj": (one.width, 512),
        "visual.class_embedding": (one.width,),
        "visual.positional_embedding": (positions, one.width),
        "visual.conv1.weight": (one.width, 3, one.patch, one.patch),
        **{f"visual.{n}.{k}": (one.width,) for n in ("ln_pre", "ln_post") for k in KINDS},
    }
    for tower, width, layers in (
        ("visual.", one.width, one.layers),
        ("", one.text_width, one.text_layers),
    ):
        for i in range(layers):
            block = f"{tower}transformer.resblocks.{i}"
            for part, size in (
                *((("ln_1"), (width,)), ("ln_2", (width,)), ("attn.out_proj", (width, width))),
                *(("mlp.c_fc", (4 * width, width)), ("mlp.c_proj", (width, 4 * width))),
            ):
                shapes[f"{block}.{part}.weight"] = size
                shapes[f"{block}.{part}.bias"] = size[:1]
            shapes[f"{block}.attn.in_proj_weight"] = (3 * width, width)
            shapes[f"{block}.attn.in_proj_bias"] = (3 * width,)
    torch.save({n: torch.zeros(()).half().expand(s) for n, s in shapes.items()}, file)
    return file


KINDS = ("weight", "bias")


def clip_tokenizer(folder: Path, *, tiny: bool = False) -> Path:
    """Write a tokenizer of 49,408 tokens, whose end is the last, as OpenAI's; or the tiny one."""
    place = folder / "tokenizer"
    made = tiny_tokenizer()
    made.save_pretrained(place)
    if not tiny:
        held = json.loads((place / "tokenizer.json").read_text())
        vocab = held["model"]["vocab"]
        specials = ("<|startoftext|>", "<|endoftext|>")
        for name in specials:
            vocab.pop(name)
        for number in range(len(vocab), 49406):
            vocab[f"unused{number}"] = number
        ids = {name: 49406 + i for i, name in enumerate(specials)}
        held["model"]["vocab"] = vocab | ids
        for token in held["added_tokens"]:
            token["id"] = ids[token["content"]]
        text = json.dumps(held["post_processor"])
        old = {name: made.convert_tokens_to_ids(name) for name in specials}
        for name in specials:
            text = text.replace(f'["{name}", {old[name]}]', f'["{name}", {ids[name]}]')
        held["post_processor"] = json.loads(text)
        (place / "tokenizer.json").write_text(json.dumps(held))
    return place
