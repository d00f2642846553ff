"""Class names as tokens of a CLIP's own vocabulary, without importing transformers if possible."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fedrsclip_core.clip.folder_files import remembered, require_content
from fedrsclip_core.errors import ConfigError, ModelError
from fedrsclip_core.runs.fileio import sha256_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from fedrsclip_core.clip.files import ClipFiles

_LEGACY_EOS = 2
"""OpenAI's first configurations say 2; transformers then pools at the highest id, which is EOS."""
TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""What a tokenizer can be read from, the first that is there."""
_PROBES = (
    *(
        "",
        "a photo of a forest.",
        "A Golf-Course, denseresidential  area\n(2 of 10)!",
        "it's we'll",
    ),
    *(
        "caf\u00e9 cafe\u0301 \u00dcberlandleitung",
        "\u68ee\u6797 \U0001f6f0\ufe0f",
        "<|endoftext|> </w> _x_",
    ),
)
"""Texts whose ids tell how a tokenizer cleans, cuts and frames."""


@dataclass(frozen=True)
class PromptTokens:
    """The frozen tokens around ``n_ctx`` learned vectors: ``[SOS] ctx suffix_c`` per class.

    Attributes
    ----------
    n_ctx : int
        Learned vectors between ``[SOS]`` and the class name.
    sos : int
        Token id of the start.
    suffixes : tuple[tuple[int, ...], ...]
        Per class: class name tokens, full stop, end token.
    """

    n_ctx: int
    sos: int
    suffixes: tuple[tuple[int, ...], ...]

    @property
    def ids(self) -> list[int]:
        """Every token id that occurs, sorted."""
        return sorted({self.sos, *(i for suffix in self.suffixes for i in suffix)})


def token_ids(files: "ClipFiles", text: str) -> list[int]:
    """Token ids of ``text`` without start and end."""
    return _encoder(files.folder)(text)[1:-1]


def special_ids(files: "ClipFiles") -> tuple[int, int]:
    """Return the tokenizer's start and end ids (configurations of older CLIPs name wrong ones).

    Raises
    ------
    ModelError
        If the tokenizer does not frame a text as ``[SOS] ... [EOS]``, or the configuration pools
        at another id.
    """
    ids = _encoder(files.folder)("")
    pooled_at = files.text_config.get("eos_token_id", _LEGACY_EOS)
    last = files.text_config["vocab_size"] - 1
    if len(ids) != 2 or ids[1] != (last if pooled_at == _LEGACY_EOS else pooled_at):
        raise ModelError(
            f"the tokenizer in {files.folder} frames a text as {ids} but its config.json pools at "
            f"eos_token_id {pooled_at} of {last + 1}: the files are not of one CLIP"
        )
    return ids[0], ids[1]


def tokenize_prompts(files: "ClipFiles", words: Sequence[str], n_ctx: int) -> PromptTokens:
    """Tokenize ``[SOS] <n_ctx vectors> words . [EOS]`` for each class.

    Parameters
    ----------
    files : ClipFiles
        Whose tokenizer and context length count.
    words : Sequence[str]
        Class names as words.
    n_ctx : int
        Learned vectors.

    Raises
    ------
    ConfigError
        If a prompt does not fit the text encoder's context.
    """
    tokens = _framed(files, [f"{name}." for name in words], n_ctx)
    length, name = _longest(tokens, words)
    if length > files.max_positions:
        raise ConfigError(
            f"prompt.n_ctx={n_ctx} is too long: with class {name!r} a prompt has {length} tokens, "
            f"this CLIP's context has {files.max_positions}; use "
            f"prompt.n_ctx={max(n_ctx - length + files.max_positions, 0)} or less"
        )
    return tokens


def tokenize_templates(
    files: "ClipFiles", words: Sequence[str], templates: Sequence[str]
) -> list[PromptTokens]:
    """Tokenize hand-written templates such as ``"a photo of a {}."``, each for all classes.

    Raises
    ------
    ConfigError
        If a text does not fit the text encoder's context.
    """
    found = []
    for template in templates:
        tokens = _framed(files, [template.format(name) for name in words], 0)
        length, name = _longest(tokens, words)
        if length > files.max_positions:
            raise ConfigError(
                f"prompt.templates has {template!r}, which is too long: with class {name!r} it has "
                f"{length} tokens, this CLIP's context has {files.max_positions}"
            )
        found.append(tokens)
    return found


def _framed(files: "ClipFiles", texts: Sequence[str], n_ctx: int) -> PromptTokens:
    sos, eos = special_ids(files)
    return PromptTokens(n_ctx, sos, tuple((*token_ids(files, text), eos) for text in texts))


def _longest(tokens: PromptTokens, words: Sequence[str]) -> tuple[int, str]:
    """Return the longest text's number of tokens, and its class."""
    lengths = [1 + tokens.n_ctx + len(suffix) for suffix in tokens.suffixes]
    return max(zip(lengths, words, strict=True))


def has_tokenizer(folder: Path) -> bool:
    """Whether a model folder has the files of a tokenizer."""
    return bool(_tokenizer_files(folder))


def tokenizer_digest(folder: Path) -> str:
    """Return a sha256 over what a tokenizer does: vocabulary, merges, and some texts' ids.

    Raises
    ------
    ModelError
        If the folder has no usable tokenizer.
    """
    files = _tokenizer_files(folder)
    if not files:
        raise ModelError(
            f"model folder {folder} has no tokenizer: save the model's CLIPTokenizer there too "
            "(tokenizer.json, or vocab.json with merges.txt); where it is OpenAI's, as most are, "
            f"`fedrsclip model convert {folder} out=<folder>` makes a copy that has it"
        )
    return remembered("tokenizer", files, lambda: _digest(folder))


def _digest(folder: Path) -> str:
    tokenizer = _tokenizer(folder)
    model = json.loads(tokenizer.to_str())["model"]
    # Older files write a merge as one text, "a b".
    merges = [m.split(" ") if isinstance(m, str) else list(m) for m in model.get("merges", ())]
    ids = [tokenizer.encode(text).ids for text in _PROBES]
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return sha256_of(json.dumps([sorted(vocabulary.items()), merges, ids]))


def _tokenizer_files(folder: Path) -> list[Path]:
    for names in TOKENIZER_FILES:
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            return files
    return []


@lru_cache(maxsize=4)
def _encoder(folder: Path) -> Callable[[str], list[int]]:
    """Return a function text -> framed ids."""
    tokenizer = _tokenizer(folder)
    return lambda text: list(tokenizer.encode(text).ids)


def _tokenizer(folder: Path) -> "Tokenizer":
    """Load a folder's tokenizer, without transformers where the folder allows it."""
    files = _tokenizer_files(folder)
    try:
        for file in files:
            require_content(file)
    except OSError as error:
        raise _unusable(folder, error) from error
    if [file.name for file in files] == ["tokenizer.json"]:
        from tokenizers import Tokenizer

        try:
            fast = Tokenizer.from_file(str(files[0]))
        except Exception as error:  # it has no class of its own for what is no tokenizer
            raise _unusable(folder, error) from error
    else:
        from transformers import CLIPTokenizer

        try:
            fast = CLIPTokenizer.from_pretrained(folder).backend_tokenizer
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise _unusable(folder, error) from error
    fast.no_truncation()
    fast.no_padding()
    return fast


def _unusable(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"model folder {folder} has no usable CLIP tokenizer (tokenizer.json, or vocab.json with "
        f"merges.txt; {type(error).__name__}): copy the tokenizer files there"
    )
