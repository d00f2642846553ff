"""CLIPs of the hub: a cache that has all, one that has half, and what cannot be had."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.errors import ModelError
from tests.tiny_clip import make_tiny_clip
from tests.unit.core.hub_cache import NEW, cache_hub_model

pytestmark = pytest.mark.unit

MODEL = ModelConfig(hub_id="owner/clip")


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of a model in an offline cache."""
    cache_hub_model(tmp_path, monkeypatch, newest=NEW)
    return tmp_path / "hub" / "models--owner--clip" / "snapshots" / NEW


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("config.json", "lacks config.json"),
        ("preprocessor_config.json", "lacks preprocessor_config.json"),
        ("tokenizer.json", "lacks tokenizer.json"),
        ("model.safetensors", r"lacks weights \(.*lacks the weights model.safetensors"),
    ],
)
def test_half_a_snapshot_offline_says_what_is_missing(
    missing: str, words: str, cached: Path
) -> None:
    (cached / missing).unlink()
    with pytest.raises(ModelError, match=rf"model owner/clip in the HuggingFace cache {words}"):
        find_clip(MODEL, None)


def test_an_interrupted_download_is_a_missing_file(cached: Path) -> None:
    blobs = cached.parents[1] / "blobs"
    blobs.mkdir()
    (blobs / "abc.incomplete").write_bytes(b"half of it")
    (cached / "model.safetensors").unlink()
    (cached / "model.safetensors").symlink_to(blobs / "abc")
    with pytest.raises(ModelError, match=r"lacks the weights model\.safetensors"):
        find_clip(MODEL, None)


class Hub:
    """In place of the hub: what a download does, and what was asked for."""

    def __init__(self, download: Callable[[], Path]) -> None:
        self.asked: list[list[str]] = []
        self._download = download

    def snapshot_download(self, hub_id: str, **how: Any) -> str:
        if how.get("local_files_only"):
            raise LocalEntryNotFoundError("not in the cache")
        self.asked.append(how["allow_patterns"])
        return str(self._download())


def test_half_a_snapshot_is_completed_online(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = find_clip(MODEL, None).digest
    kept = (cached / "tokenizer.json").read_bytes()
    (cached / "tokenizer.json").unlink()

    def complete() -> Path:
        (cached / "tokenizer.json").write_bytes(kept)
        return cached

    hub, local = Hub(complete), huggingface_hub.snapshot_download

    def either(hub_id: str, **how: Any) -> str:
        return str((local if how.get("local_files_only") else hub.snapshot_download)(hub_id, **how))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", either)
    found = find_clip(MODEL, None)
    assert found.digest == whole
    assert found.commit == NEW
    assert len(hub.asked) == 1
    assert not any("bin" in pattern for pattern in hub.asked[0])
    find_clip(MODEL, None)
    assert len(hub.asked) == 1, "what is complete is not asked for again"


def test_weights_of_pytorch_are_asked_for_where_there_are_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny_clip(tmp_path / "clip")
    (folder / "model.safetensors").unlink()
    hub = Hub(lambda: folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    with pytest.raises(ModelError, match="lacks the weights"):
        find_clip(MODEL, None)
    assert hub.asked[1][-1] == "pytorch_model*.bin"


def test_what_is_cached_beside_a_clip_does_not_count(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's own list of files has more than a CLIP needs."""
    error = LocalEntryNotFoundError("flax_model.msgpack is missing")
    error.snapshot_path = str(cached)

    def incomplete(hub_id: str, **how: Any) -> str:
        assert how.get("local_files_only"), "nothing is to be downloaded"
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", incomplete)
    assert find_clip(MODEL, None).folder == cached


def test_a_repository_of_openclip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", Hub(lambda: tmp_path).snapshot_download
    )
    with pytest.raises(
        ModelError, match=r"owner/clip on the hub is no HuggingFace CLIPModel.*model convert"
    ):
        find_clip(MODEL, None)


def test_a_preset_in_openclips_form_says_the_command() -> None:
    model = ModelConfig(name="remoteclip", hub_id="owner/clip", openclip_file="a.pt")
    with pytest.raises(ModelError, match=r"`fedrsclip model convert remoteclip out=<folder>`"):
        find_clip(model, None)


def answer(kind: type[HfHubHTTPError], status: int) -> Exception:
    import httpx

    asked = httpx.Request("GET", "https://huggingface.co/owner/clip")
    return kind("refused", response=httpx.Response(status, request=asked))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (answer(GatedRepoError, 403), "is given to registered users only: ask for it"),
        (answer(RepositoryNotFoundError, 401), "the hub shows no model owner/clip"),
        (answer(RevisionNotFoundError, 404), "the hub has no model owner/clip: correct model.rev"),
        (answer(HfHubHTTPError, 500), "neither in the HuggingFace cache nor reachable"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be stored .*set HF_HOME"),
        (OSError(errno.EROFS, "Read-only file system"), "cannot be stored .*set HF_HOME"),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot be stored .*make room"),
        (ConnectionError("no network"), "neither in the HuggingFace cache nor reachable"),
        (RuntimeError("of a transport"), "neither in the HuggingFace cache nor reachable"),
    ],
)
def test_what_the_hub_refuses(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download() -> Path:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", Hub(download).snapshot_download)
    with pytest.raises(ModelError, match=words):
        find_clip(MODEL, None)
