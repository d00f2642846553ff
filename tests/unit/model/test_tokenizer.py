"""Where a converted CLIP's tokenizer comes from when its source has none."""

import gzip
import sys
from itertools import islice, product
from pathlib import Path

import huggingface_hub.constants
import pytest
from tokenizers import Tokenizer

from fedrsclip.model.tokenizer import write_tokenizer
from fedrsclip_core.errors import ModelError
from tests.tiny_clip import tiny_tokenizer

pytestmark = pytest.mark.unit

SIZE = 49408
LETTERS = [chr(n) for n in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
"""What stands for bytes in OpenAI's vocabulary, in its order."""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to write into, out of the hub's reach."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def install_vocabulary(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Put a package that looks like open_clip on the path, with a vocabulary of its size."""
    pairs = list(islice(product(LETTERS, (f"{letter}</w>" for letter in LETTERS)), SIZE - 2 - 512))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs), "more lines", "that are unused"]
    package = place / "open_clip"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('it is not to be imported')")
    (package / "bpe_simple_vocab_16e6.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    monkeypatch.syspath_prepend(str(place))
    return pairs


def test_the_vocabulary_of_an_installed_open_clip(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = install_vocabulary(tmp_path / "site", monkeypatch)
    said = write_tokenizer(target, SIZE, None, tmp_path, own=False)
    assert said == "the installed package open_clip"
    assert "open_clip" not in sys.modules, "only its file is read"
    made = Tokenizer.from_file(str(target / "tokenizer.json"))
    assert made.get_vocab_size() == SIZE
    assert made.encode("").ids == [SIZE - 2, SIZE - 1]
    known = made.get_vocab()
    assert [known[letter] for letter in LETTERS] == list(range(256))
    assert known["".join(pairs[0])] == 512
    assert made.encode("!!").ids[1:-1] == [512]


def test_the_tokenizer_of_the_hub(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_tokenizer().save_pretrained(tmp_path / "hub")
    asked = []

    def download(hub_id: str, name: str, *, revision: str) -> str:
        asked.append((hub_id, name, len(revision)))
        return str(tmp_path / "hub" / name)

    monkeypatch.setattr("fedrsclip.model.tokenizer.find_spec", lambda name: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    said = write_tokenizer(target, SIZE, None, tmp_path, own=False)
    assert said == "openai/clip-vit-base-patch32 of the hub"
    assert asked[0] == ("openai/clip-vit-base-patch32", "tokenizer.json", 40)
    assert (target / "tokenizer.json").is_file()


def test_no_tokenizer_is_at_hand(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedrsclip.model.tokenizer.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install --no-deps open_clip_torch"):
        write_tokenizer(target, SIZE, None, tmp_path, own=False)
    with pytest.raises(ModelError, match="a tokenizer of its own"):
        write_tokenizer(target, SIZE, None, tmp_path, own=True)
    with pytest.raises(ModelError, match=r"tokenizer=.* has no tokenizer.json"):
        write_tokenizer(target, SIZE, tmp_path, tmp_path, own=False)
    assert not any(target.iterdir())
