"""The tokenizer of a converted CLIP: its own, a given one, or the one that OpenAI's CLIPs share."""

import gzip
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedrsclip_core.clip.tokens import TOKENIZER_FILES, has_tokenizer
from fedrsclip_core.errors import ModelError

_SIZE = 49408
"""Tokens of OpenAI's vocabulary: 256 bytes, each also as a word's end, the merges, two more."""
_MERGES = _SIZE - 2 * 256 - 2
_PACKAGES = ("open_clip", "clip")
_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_HUB_ID, _REVISION = "openai/clip-vit-base-patch32", "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
_CONFIG = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def write_tokenizer(
    folder: Path, vocabulary_size: int, given: Path | None, beside: Path, *, own: bool
) -> str:
    """Write a tokenizer into ``folder`` and say whence it is.

    Parameters
    ----------
    folder : Path
        Of the converted model.
    vocabulary_size : int
        Rows of the model's table of token embeddings.
    given : Path or None
        A folder whose tokenizer is to be taken.
    beside : Path
        The folder of what is converted.
    own : bool
        Whether the model names a tokenizer of its own, so that OpenAI's is none for it.

    Raises
    ------
    ModelError
        If none is found.
    """
    for place in (beside,) if given is None else (given,):
        if has_tokenizer(place):
            for name in {*(name for names in TOKENIZER_FILES for name in names), *_CONFIG}:
                if (place / name).is_file():
                    shutil.copyfile(place / name, folder / name)
            return str(place)
    if given is not None:
        raise ModelError(f"tokenizer={given} has no tokenizer.json, nor vocab.json and merges.txt")
    if own or vocabulary_size != _SIZE:
        raise ModelError(
            f"the model has {vocabulary_size} tokens and a tokenizer of its own: give the folder "
            "with its tokenizer.json as tokenizer=<folder>"
        )
    for find in _SHARED:
        if found := find(folder):
            return found
    raise ModelError(
        "no tokenizer is at hand: give a folder with that of any CLIP of OpenAI as "
        f"tokenizer=<folder>, or run once while the hub can be reached ({_HUB_ID}), or "
        "`pip install --no-deps open_clip_torch`, which carries the vocabulary"
    )


def _from_package(folder: Path) -> str | None:
    """Build the tokenizer from the vocabulary that OpenCLIP and OpenAI's package carry."""
    from transformers import CLIPTokenizer

    for package in _PACKAGES:
        spec = find_spec(package)
        places = [] if spec is None else (spec.submodule_search_locations or [])
        for file in (Path(place) / _VOCABULARY for place in places):
            if file.is_file():
                merges = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")
                pairs: Any = [tuple(line.split()) for line in merges[1 : _MERGES + 1]]
                tokens = [*_byte_letters(), *(f"{letter}</w>" for letter in _byte_letters())]
                tokens += ["".join(pair) for pair in pairs]
                tokens += ["<|startoftext|>", "<|endoftext|>"]
                ids = {token: number for number, token in enumerate(tokens)}
                made = CLIPTokenizer(vocab=ids, merges=pairs, model_max_length=77)
                made.save_pretrained(folder)
                return f"the installed package {package}"
    return None


def _from_hub(folder: Path) -> str | None:
    """Take the tokenizer of an OpenAI CLIP from the hub's cache, or download it."""
    from huggingface_hub import hf_hub_download

    try:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(hf_hub_download(_HUB_ID, name, revision=_REVISION), folder / name)
    # Whatever carries the files (HTTP, Xet) has errors of its own.
    except Exception:
        return None
    return f"{_HUB_ID} of the hub"


_SHARED: tuple[Callable[[Path], str | None], ...] = (_from_package, _from_hub)


def _byte_letters() -> Iterator[str]:
    """Yield the letters that stand for bytes in byte-level vocabularies, in OpenAI's order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = 256 - len(printable)
    yield from map(chr, [*printable, *range(256, 256 + others)])
