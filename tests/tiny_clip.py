"""A random CLIP of a few thousand parameters in HuggingFace's format, for tests."""

from pathlib import Path

_SENTENCE = """a photo of satellite aerial view scene dense residential harbor forest river runway
storage tanks golf course beach airplane field red green blue yellow"""
WORDS = _SENTENCE.split()


def make_tiny_clip(
    folder: Path,
    *,
    hidden_act: str = "quick_gelu",
    width: int = 32,
    dim: int = 24,
    layers: int = 2,
    max_positions: int = 77,
    legacy_eos: bool = False,
    seed: int = 0,
) -> Path:
    """Write model, tokenizer and preprocessing into ``folder`` and return it."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    tower = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_attention_heads": 4,
        "num_hidden_layers": layers,
        "hidden_act": hidden_act,
    }
    eos = 2 if legacy_eos else tokenizer.eos_token_id
    text = tower | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": max_positions,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": eos,
        "pad_token_id": tokenizer.eos_token_id,
    }
    vision = tower | {"image_size": 32, "patch_size": 8}
    torch.manual_seed(seed)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=dim)
    model = CLIPModel(config)
    with torch.no_grad():  # the library's start is so small that every text looks the same
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.logit_scale.fill_(3.0)
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


def tiny_tokenizer():  # type: ignore[no-untyped-def]
    from transformers import CLIPTokenizer

    characters = [chr(i) for i in range(33, 127)]
    vocabulary = [*characters, *(c + "</w>" for c in characters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merge = (pieces[0], pieces[1])
            pieces = ["".join(merge), *pieces[2:]]
            if merge not in merges:
                merges.append(merge)
            if pieces[0] not in vocabulary:
                vocabulary.append(pieces[0])
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: index for index, token in enumerate(vocabulary)}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=77)
