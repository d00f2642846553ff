"""The algebra of the two prompts: what the private one is, and what both say together."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.clip.text_encoder import PackedTextEncoder, unit
from fedrsclip_core.config.schema import PromptConfig
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT, SharedTensors
from fedrsclip_core.learning.dual_prompt import DualPrompt
from fedrsclip_core.learning.optimal_transport import Transport
from fedrsclip_core.learning.prompts import ClientState, initial_offset
from tests.unit.core.helpers import N_CTX, given, prompt, sharing, tiny_encoder, tiny_files

pytestmark = pytest.mark.unit

FIXED = PromptConfig(fusion="fixed", beta=0.25)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ClipFiles:
    folder: Path = tmp_path_factory.mktemp("clip")
    return tiny_files(folder / "tiny")


def sides(
    encoder: PackedTextEncoder, shared: SharedTensors, state: ClientState, config: PromptConfig
) -> DualPrompt:
    return DualPrompt(encoder, shared, state, config, given(encoder))


@pytest.fixture(scope="module")
def encoder(files: ClipFiles) -> PackedTextEncoder:
    return tiny_encoder(files)


def test_an_own_private_prompt_is_taken_as_it_is(
    files: ClipFiles, encoder: PackedTextEncoder
) -> None:
    shared, private = prompt(files, 1), prompt(files, 2)
    found = sides(encoder, sharing(shared), ClientState(private), FIXED).private_prompt
    assert found is not None
    np.testing.assert_array_equal(found.detach(), private)
    assert sides(encoder, sharing(shared), ClientState(None), FIXED).private_prompt is None


def test_an_offset_is_added_to_the_shared_prompt(
    files: ClipFiles, encoder: PackedTextEncoder
) -> None:
    shared = prompt(files, 1)
    u, v = np.float32([[1], [0], [2], [0]]), np.arange(files.width, dtype=np.float32)[None]
    expected = shared.copy()
    expected[0] += v[0]
    expected[2] += 2 * v[0]
    found = sides(encoder, sharing(shared), ClientState(None, None, u, v), FIXED).private_prompt
    assert found is not None
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-6)
    # At its start it is the shared prompt to the bit.
    start = ClientState(None, None, *initial_offset(N_CTX, files.width, 2, "private"))
    found = sides(encoder, sharing(shared), start, FIXED).private_prompt
    assert found is not None
    np.testing.assert_array_equal(found.detach(), shared)


@pytest.mark.parametrize(
    ("fusion", "stored", "share"),
    [
        ("fixed", None, [0.25] * 4),
        ("gate", [0.0], [0.5] * 4),
        ("class_gate", [0.0, 40.0, -40.0, 0.0], [0.5, 1.0, 0.0, 0.5]),
        ("class_weight", [0.5, 1.5, -0.5, 0.0], [0.5, 1.5, -0.5, 0.0]),
    ],
)
def test_both_are_fused_by_the_private_share_of_each_class(
    files: ClipFiles,
    encoder: PackedTextEncoder,
    fusion: str,
    stored: list[float] | None,
    share: list[float],
) -> None:
    shared, private = prompt(files, 1, std=1.0), prompt(files, 2, std=1.0)
    state = ClientState(private, None if stored is None else np.float32(stored))
    config = PromptConfig(fusion=fusion, beta=0.25)
    with torch.no_grad():
        text = sides(encoder, sharing(shared), state, config).text_features()
        each = [unit(encoder(torch.from_numpy(p)[None]))[0] for p in (shared, private)]
    assert text is not None and text.shared is not None and text.private is not None
    torch.testing.assert_close(text.shared, each[0])
    torch.testing.assert_close(text.private, each[1])
    for c, weight in enumerate(share):
        mixed = (1 - weight) * each[0][c] + weight * each[1][c]
        torch.testing.assert_close(text.fused[c], mixed / mixed.norm())


@pytest.mark.parametrize("present", ["shared", "private"])
@pytest.mark.parametrize("fusion", ["fixed", "transport"])
def test_one_prompt_alone_is_its_own_fusion(
    files: ClipFiles, encoder: PackedTextEncoder, present: str, fusion: str
) -> None:
    one = prompt(files, 1)
    shared, private = (one, None) if present == "shared" else (None, one)
    config = PromptConfig(fusion=fusion)
    text = sides(encoder, sharing(shared), ClientState(private), config).text_features()
    assert text is not None and text.transport is None
    assert text.fused is (text.shared if present == "shared" else text.private)
    assert (text.private if present == "shared" else text.shared) is None


def test_without_a_prompt_there_is_no_text(encoder: PackedTextEncoder) -> None:
    assert sides(encoder, {}, ClientState(None), FIXED).text_features() is None


def test_a_transport_keeps_the_prompts_apart(files: ClipFiles, encoder: PackedTextEncoder) -> None:
    config = PromptConfig(fusion="transport", transport_mass=0.7, transport_eps=0.2)
    state = ClientState(prompt(files, 2))
    text = sides(encoder, sharing(prompt(files, 1)), state, config).text_features()
    assert text is not None and text.shared is not None and text.private is not None
    assert text.transport == Transport(0.7, 0.2)
    assert torch.equal(text.fused, torch.stack([text.shared, text.private]))


def test_what_was_given_comes_back_and_is_left_alone(
    files: ClipFiles, encoder: PackedTextEncoder
) -> None:
    shared, weight = prompt(files, 1), np.float32([0.1, 0.2, 0.3, 0.4])
    state = ClientState(prompt(files, 2), weight)
    before = shared.copy(), weight.copy()
    prompts = sides(encoder, sharing(shared), state, PromptConfig())
    returned = prompts.shared_arrays()[SHARED_PROMPT]
    assert prompts.weight is not None
    with torch.no_grad():
        prompts.shared[SHARED_PROMPT].zero_()
        prompts.weight.zero_()
    np.testing.assert_array_equal(returned, before[0])
    np.testing.assert_array_equal(shared, before[0])
    np.testing.assert_array_equal(weight, before[1])
    stored = prompts.state()
    assert stored.weight is not None and not stored.weight.any()
    assert stored.private is not None and stored.private.tobytes() == state.private.tobytes()
    assert (stored.offset_u, stored.offset_v) == (None, None)
