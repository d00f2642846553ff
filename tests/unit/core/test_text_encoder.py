"""The packed encoder against HuggingFace's own model on the unpacked, padded prompts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import CLIPModel, CLIPTokenizer

from fedrsclip_core.clip.files import ClipFiles, find_clip
from fedrsclip_core.clip.text_encoder import PackedTextEncoder
from fedrsclip_core.clip.text_tower import load_text_tower
from fedrsclip_core.clip.tokens import PromptTokens, token_ids, tokenize_prompts, tokenize_templates
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.errors import ConfigError, ModelError
from fedrsclip_core.learning.prompts import word_prompt
from tests.tiny_clip import make_tiny_clip

pytestmark = pytest.mark.unit

NAMES = ["harbor", "dense residential", "golf course by a river", "x", "storage tanks", "forest"]
SHAPES = [
    {"hidden_act": "quick_gelu", "width": 32, "dim": 24},
    {"hidden_act": "gelu", "width": 48, "dim": 16, "layers": 3, "legacy_eos": True},
]


@pytest.fixture(scope="module", params=SHAPES, ids=["quick_gelu", "gelu"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ClipFiles:
    folder = make_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny", **request.param)
    return find_clip(ModelConfig(name="tiny"), folder)


def packed(files: ClipFiles, tokens: PromptTokens, dtype: torch.dtype) -> PackedTextEncoder:
    return PackedTextEncoder(load_text_tower(files, tokens.ids, dtype=dtype), tokens)


def unpacked_features(
    model: CLIPModel, tokens: PromptTokens, prompt: torch.Tensor, length: int = 77
) -> torch.Tensor:
    """The plain path: every class's whole padded prompt through HuggingFace's modules."""
    text = model.text_model
    n_ctx = prompt.shape[0]
    ids = torch.full((len(tokens.suffixes), length), tokens.suffixes[0][-1])
    ids[:, 0] = tokens.sos
    for row, suffix in enumerate(tokens.suffixes):
        ids[row, 1 + n_ctx : 1 + n_ctx + len(suffix)] = torch.tensor(suffix)
    embedded = text.embeddings.token_embedding(ids)
    context = prompt.expand(len(ids), -1, -1)
    embedded = torch.cat([embedded[:, :1], context, embedded[:, 1 + n_ctx :]], dim=1)
    hidden = embedded + text.embeddings.position_embedding.weight[:length]
    mask = torch.full((length, length), float("-inf"), dtype=hidden.dtype).triu(1)
    for layer in text.encoder.layers:
        out = layer(hidden, attention_mask=mask[None, None])
        hidden = out[0] if isinstance(out, tuple) else out
    hidden = text.final_layer_norm(hidden)
    ends = torch.tensor([n_ctx + len(suffix) for suffix in tokens.suffixes])
    return model.text_projection(hidden[torch.arange(len(ids)), ends])


@pytest.mark.parametrize("n_cls", [1, 2, len(NAMES)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_real_tokens_equal_get_text_features(
    files: ClipFiles, n_cls: int, dtype: torch.dtype, tolerance: float
) -> None:
    names = NAMES[:n_cls]
    n_ctx = len(token_ids(files, "a photo of a"))
    tokens = tokenize_prompts(files, names, n_ctx)
    prompt = torch.from_numpy(word_prompt(files, "a photo of a", n_ctx, 0.02, 0)).to(dtype)
    ours = packed(files, tokens, dtype)(prompt[None])[0]

    model = CLIPModel.from_pretrained(files.folder).to(dtype)
    tokenizer = CLIPTokenizer.from_pretrained(files.folder)
    texts = [f"a photo of a {name}." for name in names]
    inputs = tokenizer(texts, padding="max_length", max_length=77, return_tensors="pt")
    with torch.no_grad():
        theirs = model.get_text_features(**inputs).pooler_output
    assert (ours - theirs).abs().max() <= tolerance
    if n_cls > 1:
        assert (theirs[0] - theirs[1]).abs().max() > 1e-2, "the model must tell the classes apart"


@pytest.mark.parametrize("n_cls", [1, 2, len(NAMES)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_features_and_gradients_equal_the_plain_path(
    files: ClipFiles, n_cls: int, dtype: torch.dtype, tolerance: float
) -> None:
    tokens = tokenize_prompts(files, NAMES[:n_cls], n_ctx=4)
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randn(3, 4, files.width, generator=generator, dtype=dtype) * 0.05
    direction = torch.randn(3, n_cls, files.dim, generator=generator, dtype=dtype)
    direction /= direction.norm()

    ours = prompts.clone().requires_grad_()
    features = packed(files, tokens, dtype)(ours)
    (features * direction).sum().backward()

    model = CLIPModel.from_pretrained(files.folder).to(dtype).requires_grad_(False)
    theirs = prompts.clone().requires_grad_()
    expected = torch.stack([unpacked_features(model, tokens, prompt) for prompt in theirs])
    (expected * direction).sum().backward()

    assert (features - expected).abs().max() <= tolerance
    assert ours.grad is not None and theirs.grad is not None
    assert theirs.grad.abs().max() > 1e-3
    assert (ours.grad - theirs.grad).abs().max() <= tolerance


def test_bfloat16_stays_near_float32_and_hands_float32_out(files: ClipFiles) -> None:
    tokens = tokenize_prompts(files, NAMES, n_ctx=4)
    start = torch.randn(2, 4, files.width, generator=torch.Generator().manual_seed(2)) * 0.05
    found = []
    for dtype in ("float32", "bfloat16"):
        one = replace(files, dtype=dtype)
        prompts = start.clone().requires_grad_()
        features = PackedTextEncoder(load_text_tower(one, tokens.ids), tokens)(prompts)
        features[..., 0].sum().backward()
        assert features.dtype == torch.float32
        assert prompts.grad is not None
        found.append((features.detach(), prompts.grad))
    exact, rough = found
    for wanted, given in zip(exact, rough, strict=True):
        assert not torch.equal(wanted, given)
        cosine = torch.nn.functional.cosine_similarity(wanted.flatten(), given.flatten(), dim=0)
        assert cosine > 0.995


def test_template_equals_get_text_features(files: ClipFiles) -> None:
    (tokens,) = tokenize_templates(files, NAMES, ["aerial scene of {} by a river"])
    ours = packed(files, tokens, torch.float32)(torch.empty(1, 0, files.width))[0]
    model = CLIPModel.from_pretrained(files.folder)
    tokenizer = CLIPTokenizer.from_pretrained(files.folder)
    texts = [f"aerial scene of {name} by a river" for name in NAMES]
    with torch.no_grad():
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        theirs = model.get_text_features(**inputs).pooler_output
    assert (ours - theirs).abs().max() <= 1e-5


def test_batched_prompts_equal_one_by_one(files: ClipFiles) -> None:
    tokens = tokenize_prompts(files, NAMES, n_ctx=4)
    encoder = packed(files, tokens, torch.float64)
    prompts = torch.randn(5, 4, files.width, dtype=torch.float64)
    alone = torch.cat([encoder(prompt[None]) for prompt in prompts])
    assert (encoder(prompts) - alone).abs().max() <= 1e-12


def test_word_start_is_preceded_by_random_vectors(files: ClipFiles) -> None:
    n_words = len(token_ids(files, "a photo of a"))
    words = word_prompt(files, "a photo of a", n_words, 0.02, "k", 0)
    longer = word_prompt(files, "a photo of a", n_words + 3, 0.02, "k", 0)
    assert longer.shape == (n_words + 3, files.width)
    assert (longer[3:] == words).all()
    assert 0 < abs(longer[:3]).max() < 0.2


def test_too_many_words_for_n_ctx(files: ClipFiles) -> None:
    with pytest.raises(ConfigError, match=r"has \d+ tokens but prompt.n_ctx is 1"):
        word_prompt(files, "a photo of a", 1, 0.02, 0)


def test_n_ctx_too_long_for_the_context(files: ClipFiles) -> None:
    with pytest.raises(ConfigError, match=r"prompt.n_ctx=76 is too long.*context has 77"):
        tokenize_prompts(files, NAMES, n_ctx=76)


def test_template_too_long_for_the_context(files: ClipFiles) -> None:
    long = " ".join(["far"] * 80) + " {}"
    with pytest.raises(ConfigError, match=r"prompt.templates has 'far .*too long: with class"):
        tokenize_templates(files, NAMES, ["a {}", long])


def test_fingerprint_tells_models_apart(tmp_path: Path) -> None:
    one = find_clip(ModelConfig(), make_tiny_clip(tmp_path / "one", seed=0))
    same = find_clip(ModelConfig(), make_tiny_clip(tmp_path / "same", seed=0))
    other = find_clip(ModelConfig(), make_tiny_clip(tmp_path / "other", seed=1))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_folder_without_clip(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no CLIP at .*there is no such folder"):
        find_clip(ModelConfig(), tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="holds a 'bert', not a whole HuggingFace CLIPModel"):
        find_clip(ModelConfig(), tmp_path)


def test_damaged_weights(tmp_path: Path) -> None:
    folder = make_tiny_clip(tmp_path / "clip")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be read"):
        find_clip(ModelConfig(), folder)


def test_weights_that_are_damaged_later(tmp_path: Path) -> None:
    files = find_clip(ModelConfig(), make_tiny_clip(tmp_path / "clip"))
    weights = files.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be read"):
        load_text_tower(files, [0, 1])


def test_unknown_activation(tmp_path: Path) -> None:
    folder = make_tiny_clip(tmp_path / "clip", hidden_act="silu")
    with pytest.raises(ModelError, match=r"hidden_act in .* is 'silu', known are quick_gelu"):
        find_clip(ModelConfig(), folder)
