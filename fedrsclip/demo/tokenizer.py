"""Train a CLIP-format byte-level BPE tokenizer and write its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from fedrsclip_core.runs.fileio import write_json, write_text

START, END = "<|startoftext|>", "<|endoftext|>"
SUFFIX = "</w>"
PATTERN = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def train_tokenizer(texts: Iterable[str], folder: Path, *, size: int, max_positions: int) -> None:
    """Write ``tokenizer.json``, ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json``.

    Parameters
    ----------
    texts : iterable of str
        What the merges are learned from; every byte is in the vocabulary whatever they hold.
    folder : Path
        Where the files go.
    size : int
        Upper bound on the vocabulary, the two special tokens included.
    max_positions : int
        The text encoder's context length.
    """
    from tokenizers import Tokenizer, models

    merges = _learn_merges(_count_words(texts), size - 2 - 2 * len(_letters()))
    vocab = _vocabulary(merges)

    final = _pipeline(
        Tokenizer(
            models.BPE(
                vocab=vocab,
                merges=merges,
                unk_token=END,
                continuing_subword_prefix="",
                end_of_word_suffix=SUFFIX,
            )
        )
    )
    final.add_special_tokens([START, END])
    _frame(final, vocab)
    write_text(folder / "tokenizer.json", final.to_str(pretty=True) + "\n")
    write_json(folder / "vocab.json", vocab)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    write_text(folder / "merges.txt", "\n".join(lines) + "\n")
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "bos_token": START,
            "eos_token": END,
            "pad_token": END,
            "unk_token": END,
            "add_prefix_space": False,
            "do_lower_case": True,
            "errors": "replace",
            "model_max_length": max_positions,
        },
    )


def _letters() -> list[str]:
    # One printable character per byte.
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    # OpenAI's order: bytes, bytes that end a word, merges, specials (the end token highest).
    letters = _letters()
    units = [*letters, *(letter + SUFFIX for letter in letters)]
    units += [left + right for left, right in merges]
    # Two merges may spell the same unit.
    return {unit: number for number, unit in enumerate(dict.fromkeys([*units, START, END]))}


def _count_words(texts: Iterable[str]) -> Counter[str]:
    from tokenizers import Tokenizer, models

    pipeline = _pipeline(Tokenizer(models.BPE()))
    words: Counter[str] = Counter()
    for text in texts:
        normal = pipeline.normalizer.normalize_str(text)
        words.update(word for word, _ in pipeline.pre_tokenizer.pre_tokenize_str(normal))
    return words


def _learn_merges(words: Counter[str], count: int) -> list[tuple[str, str]]:
    # The library's own trainer breaks ties by hash order, so two runs give two vocabularies.
    spelled = {word: [*word[:-1], word[-1] + SUFFIX] for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, units in spelled.items():
            for pair in pairwise(units):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        spelled = {word: _merge(units, best) for word, units in spelled.items()}
        merges.append(best)
    return merges


def _merge(units: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for unit in units:
        if out and (out[-1], unit) == pair:
            out[-1] += unit
        else:
            out.append(unit)
    return out


def _pipeline(tokenizer: Any) -> Any:
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _frame(tokenizer: Any, vocab: dict[str, int]) -> None:
    from tokenizers import processors

    tokenizer.post_processor = processors.RobertaProcessing(
        (END, vocab[END]), (START, vocab[START]), trim_offsets=False, add_prefix_space=False
    )
