"""The algebra of the two prompts: what the private one is, and what both say together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.clip.text_encoder import PackedTextEncoder, unit
from fedrsclip_core.config.schema import PromptConfig
from fedrsclip_core.config.shared_tensors import (
    SHARED_COEFFICIENTS,
    SHARED_OFFSETS,
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
    SharedTensors,
)
from fedrsclip_core.learning.dual_prompt import DualPrompt, TextFeatures
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


def rows(values: object) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def normed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture
def offsets(encoder: PackedTextEncoder) -> NDArray[np.float32]:
    draws = np.random.default_rng(5).standard_normal((encoder.n_cls, encoder.dim))
    return rows(0.3 * draws)


def features_of(prompts: DualPrompt) -> TextFeatures:
    text = prompts.text_features()
    assert text is not None
    return text.detached()


def test_class_offsets_move_what_the_prompts_say(
    files: ClipFiles, encoder: PackedTextEncoder, offsets: NDArray[np.float32]
) -> None:
    shared, private = prompt(files, 1), prompt(files, 2)
    plain = features_of(sides(encoder, sharing(shared), ClientState(private), FIXED))
    assert plain.shared is not None and plain.private is not None
    tensors = {SHARED_PROMPT: shared, SHARED_OFFSETS: offsets}
    state = ClientState(private, class_offsets=-offsets)
    text = features_of(sides(encoder, tensors, state, FIXED))
    assert text.shared is not None and text.private is not None
    expected = normed(plain.shared.numpy() + offsets), normed(plain.private.numpy() - offsets)
    np.testing.assert_allclose(text.shared, expected[0], atol=1e-6)
    np.testing.assert_allclose(text.private, expected[1], atol=1e-6)
    np.testing.assert_allclose(
        text.fused, normed(0.75 * expected[0] + 0.25 * expected[1]), atol=1e-6
    )


def test_offsets_without_prompts_move_the_template_and_encode_nothing(
    encoder: PackedTextEncoder, offsets: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*_: object) -> None:
        raise AssertionError("the text tower was asked")

    monkeypatch.setattr(PackedTextEncoder, "__call__", encode)
    template = given(encoder).template
    state = ClientState(None, class_offsets=0.5 * offsets)
    text = features_of(sides(encoder, {SHARED_OFFSETS: offsets}, state, FIXED))
    shared = normed(template + offsets)
    np.testing.assert_allclose(text.shared, shared, atol=1e-6)
    # The private side starts where the shared one is.
    np.testing.assert_allclose(text.private, normed(shared + 0.5 * offsets), atol=1e-6)
    alone = features_of(sides(encoder, {}, state, FIXED))
    np.testing.assert_allclose(alone.fused, normed(template + 0.5 * offsets), atol=1e-6)


def test_three_ways_to_say_the_same_offsets(encoder: PackedTextEncoder) -> None:
    generator = np.random.default_rng(6)
    u = rows(generator.standard_normal((encoder.n_cls, 2)))
    v = rows(generator.standard_normal((2, encoder.dim)))
    given_basis = replace(given(encoder), basis=v)
    forms: list[SharedTensors] = [
        {SHARED_OFFSETS: rows(u @ v)},
        {SHARED_OFFSETS_U: u, SHARED_OFFSETS_V: v},
        {SHARED_COEFFICIENTS: u},
    ]
    found = [
        features_of(DualPrompt(encoder, form, ClientState(None), FIXED, given_basis)).fused
        for form in forms
    ]
    assert torch.allclose(found[0], found[1], atol=1e-6)
    assert torch.equal(found[1], found[2])
    with pytest.raises(ValueError, match="basis"):
        sides(encoder, forms[2], ClientState(None), FIXED).text_features()


def test_decoupled_the_private_side_sees_what_arrived(
    encoder: PackedTextEncoder, offsets: NDArray[np.float32]
) -> None:
    state = ClientState(None, class_offsets=offsets)
    prompts = DualPrompt(
        encoder, {SHARED_OFFSETS: offsets}, state, FIXED, given(encoder), decoupled=True
    )
    before = prompts.text_features()
    assert before is not None and before.shared is not None and before.anchor is not None
    with torch.no_grad():
        prompts.shared[SHARED_OFFSETS].add_(1.0)
    after = prompts.text_features()
    assert after is not None and after.shared is not None and after.anchor is not None
    assert not torch.equal(after.shared, before.shared)
    assert torch.equal(after.anchor, before.anchor) and not after.anchor.requires_grad
    assert torch.equal(after.fused, before.fused)
    (gradient,) = torch.autograd.grad(
        after.fused.sum(), prompts.shared[SHARED_OFFSETS], allow_unused=True
    )
    assert gradient is None


def test_offsets_are_returned_to_be_sent_and_stored(
    encoder: PackedTextEncoder, offsets: NDArray[np.float32]
) -> None:
    tensors = {SHARED_OFFSETS: offsets}
    prompts = sides(encoder, tensors, ClientState(None, class_offsets=2 * offsets), FIXED)
    assert prompts.shared_arrays().keys() == {SHARED_OFFSETS}
    np.testing.assert_array_equal(prompts.shared_arrays()[SHARED_OFFSETS], offsets)
    stored = prompts.state()
    np.testing.assert_array_equal(stored.class_offsets, 2 * offsets)
    assert (stored.private, stored.weight) == (None, None)
