"""CLIP folders in the forms that HuggingFace writes, and folders that are incomplete."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPModel

from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.clip.weights import load_token_rows, read_tensors, weight_files
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.errors import ModelError
from tests.tiny_clip import make_tiny_clip
from tests.unit.core.helpers import prompt, tiny_encoder, tiny_files
from tests.unit.core.hub_cache import NEW, OLD, cache_hub_model

pytestmark = pytest.mark.unit


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return make_tiny_clip(tmp_path / "whole")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    folder = make_tiny_clip(tmp_path / "sharded")
    model = CLIPModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="30KB")
    return folder


@pytest.fixture
def pytorch_only(tmp_path: Path) -> Path:
    folder = make_tiny_clip(tmp_path / "pytorch")
    state = CLIPModel.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def test_a_model_of_the_hub_is_known_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_hub_model(tmp_path, monkeypatch, newest=NEW)
    assert find_clip(ModelConfig(hub_id="owner/clip"), None).commit == NEW
    pinned = find_clip(ModelConfig(hub_id="owner/clip", revision=OLD), None)
    assert pinned.commit == OLD
    assert find_clip(ModelConfig(), pinned.folder).commit is None
    with pytest.raises(ModelError, match=f"revision {'c' * 40} of model owner/clip is neither"):
        find_clip(ModelConfig(hub_id="owner/clip", revision="c" * 40), None)


@pytest.mark.parametrize("form", ["sharded", "pytorch_only"])
def test_every_form_gives_the_same_text_features(
    whole: Path, form: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(form)
    expected, files = (find_clip(ModelConfig(), place) for place in (whole, folder))
    if form == "sharded":
        assert len(weight_files(folder)) > 2
    prompts = torch.from_numpy(prompt(expected, 1))[None]
    assert torch.equal(tiny_encoder(files)(prompts), tiny_encoder(expected)(prompts))
    ids = [5, 0, 17]
    assert (load_token_rows(files.folder, ids) == load_token_rows(expected.folder, ids)).all()


def test_safetensors_come_before_pytorch_files(whole: Path) -> None:
    (whole / "pytorch_model.bin").write_bytes(b"never read")
    assert [file.name for file in weight_files(whole)] == ["model.safetensors"]


def test_token_rows_are_the_rows_of_the_table(whole: Path) -> None:
    name = "text_model.embeddings.token_embedding.weight"
    table = read_tensors(whole, [name])[name].numpy()
    assert (load_token_rows(whole, [3, 1, 3]) == table[np.array([3, 1, 3])]).all()


def test_a_missing_shard_is_named(sharded: Path) -> None:
    missing = weight_files(sharded)[1]
    missing.unlink()
    with pytest.raises(ModelError, match=f"lacks the weights {missing.name}"):
        find_clip(ModelConfig(), sharded)


def test_no_weights_at_all(whole: Path) -> None:
    (whole / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="lacks the weights"):
        find_clip(ModelConfig(), whole)


def test_a_missing_tensor_is_named(whole: Path) -> None:
    with pytest.raises(ModelError, match=r"lack no_such_tensor: this is not a CLIPModel"):
        read_tensors(whole, ["logit_scale", "no_such_tensor"])


def test_no_preprocessing(whole: Path) -> None:
    (whole / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"does not say how images are prepared"):
        find_clip(ModelConfig(), whole)


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_configuration_that_is_none(whole: Path, content: str) -> None:
    (whole / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config.json"):
        find_clip(ModelConfig(), whole)


def test_the_encoder_key_depends_on_weights_and_preprocessing(whole: Path, tmp_path: Path) -> None:
    before = find_clip(ModelConfig(), whole)
    settings = json.loads((whole / "preprocessor_config.json").read_text())
    settings["do_center_crop"] = False
    (whole / "preprocessor_config.json").write_text(json.dumps(settings))
    after = find_clip(ModelConfig(), whole)
    assert before.fingerprint == after.fingerprint
    assert before.encoder_key != after.encoder_key
    other = find_clip(ModelConfig(), make_tiny_clip(tmp_path / "other", seed=1))
    assert other.encoder_key != before.encoder_key
    rough = find_clip(ModelConfig(dtype="bfloat16"), whole)
    assert rough.encoder_key != after.encoder_key
    assert rough.digest == after.digest


def test_an_edited_weight_file_has_another_fingerprint(whole: Path) -> None:
    """The remembered digest of a file is not believed once the file is another."""
    before = find_clip(ModelConfig(), whole)
    make_tiny_clip(whole, seed=1)
    assert find_clip(ModelConfig(), whole).fingerprint != before.fingerprint


def test_shapes_are_those_of_the_configuration(tmp_path: Path) -> None:
    files = tiny_files(tmp_path / "tiny")
    assert (files.width, files.dim, files.max_positions) == (32, 24, 77)
