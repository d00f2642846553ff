"""The starts of the context vectors and of the gate."""

from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPModel, CLIPTokenizer

from fedrsclip_core.config.schema import RANDOM_INIT
from fedrsclip_core.learning.prompts import (
    initial_offset,
    initial_prompt,
    initial_weight,
    random_prompt,
)
from tests.unit.core.helpers import tiny_files

pytestmark = pytest.mark.unit


def test_random_prompt_is_a_function_of_its_key() -> None:
    one = random_prompt(4, 64, 0.02, "private", 0, "client-0")
    assert one.shape == (4, 64)
    assert one.dtype == np.float32
    assert (one == random_prompt(4, 64, 0.02, "private", 0, "client-0")).all()
    for key in (("shared", 0, "client-0"), ("private", 1, "client-0"), ("private", 0, "client-1")):
        assert np.abs(one - random_prompt(4, 64, 0.02, *key)).max() > 0.01


def test_keys_do_not_collide_by_joining() -> None:
    assert (random_prompt(4, 8, 1.0, "a", "bc") != random_prompt(4, 8, 1.0, "ab", "c")).any()


def test_standard_deviation() -> None:
    draws = random_prompt(64, 512, 0.02, "shared", 0)
    assert draws.std() == pytest.approx(0.02, rel=0.02)
    assert abs(draws.mean()) < 5e-4


def test_words_start_from_their_token_embeddings(tmp_path: Path) -> None:
    files = tiny_files(tmp_path / "clip")
    start = initial_prompt(files, "a photo of a", 4, 0.02, "shared", 0)
    ids = CLIPTokenizer.from_pretrained(files.folder)("a photo of a")["input_ids"][1:-1]
    table = CLIPModel.from_pretrained(files.folder).text_model.embeddings.token_embedding.weight
    assert len(ids) == 4
    assert (start == table[ids].detach().numpy()).all()


def test_random_start_needs_no_words(tmp_path: Path) -> None:
    files = tiny_files(tmp_path / "clip")
    start = initial_prompt(files, RANDOM_INIT, 4, 0.02, "private", 0, "client-0")
    assert (start == random_prompt(4, files.width, 0.02, "private", 0, "client-0")).all()


def test_an_offset_starts_at_the_shared_prompt() -> None:
    u, v = initial_offset(4, 64, 2, "private", 0, "client-0")
    assert (u.shape, v.shape) == ((4, 2), (2, 64))
    assert u.dtype == v.dtype == np.float32
    assert not (u @ v).any()
    other, _ = initial_offset(4, 64, 2, "private", 0, "client-1")
    assert np.abs(u - other).max() > 0.1
    # On average U U^T is the identity, whatever the rank.
    for rank in (1, 2, 4):
        draws = [initial_offset(4, 8, rank, "private", s, "x")[0] for s in range(2000)]
        mean = np.mean([u @ u.T for u in draws], axis=0)
        assert np.abs(mean - np.eye(4)).max() < 0.12


@pytest.mark.parametrize(("fusion", "size"), [("gate", 1), ("class_gate", 7)])
@pytest.mark.parametrize("beta", [0.3, 0.5, 0.9])
def test_gate_starts_at_beta(fusion: str, size: int, beta: float) -> None:
    gate = initial_weight(fusion, beta, 7)
    assert gate is not None
    assert gate.dtype == np.float32
    assert 1 / (1 + np.exp(-gate)) == pytest.approx(np.full(size, beta), abs=1e-6)


def test_a_weight_starts_at_beta_itself() -> None:
    weight = initial_weight("class_weight", 1.0, 7)
    assert weight is not None and weight.dtype == np.float32
    assert weight.tolist() == [1.0] * 7


@pytest.mark.parametrize("fusion", ["fixed", "transport"])
def test_a_fusion_that_learns_nothing_has_no_weight(fusion: str) -> None:
    assert initial_weight(fusion, 0.5, 7) is None


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_gate_at_the_ends_is_finite(beta: float) -> None:
    gate = initial_weight("gate", beta, 7)
    assert gate is not None
    assert np.isfinite(gate).all()
