"""What was published is read back from a folder and from a hub, or refused in a sentence."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest

from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.errors import ModelError
from fedrsclip_core.runs.fileio import sha256_of_file, write_json
from fedrsclip_core.runs.published import (
    CONFIG,
    PROMPT,
    check_published,
    description,
    is_hub_id,
    pinned,
    published_prompt,
)
from fedrsclip_core.runs.shared_prompt import SharedPrompt, write_shared_prompt
from tests.hub_endpoint import COMMIT, Endpoint, hub_endpoint

pytestmark = pytest.mark.unit

SAVED = SharedPrompt(
    shared={SHARED_PROMPT: np.arange(12, dtype=np.float32).reshape(3, 4)},
    class_names=("forest", "river"),
    words=("forest", "a river"),
    model="demo_clip",
    hub_id="",
    revision="",
    dtype="float32",
    clip="d" * 64,
    templates=("a satellite photo of a {}.",),
    run="first",
    server_round=3,
)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    write_shared_prompt(folder / PROMPT, SAVED)
    write_json(folder / CONFIG, description(SAVED, sha256_of_file(folder / PROMPT)))
    return folder


@pytest.fixture
def hub(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with hub_endpoint() as endpoint:
        endpoint.repositories["owner/scenes"] = published
        point_at(endpoint.url, monkeypatch)
        yield endpoint


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def test_names_of_the_hub() -> None:
    known = ("owner/name", "owner/name@v1.0", "a/b@" + COMMIT)
    assert all(map(is_hub_id, known))
    assert not any(map(is_hub_id, ("name", "a/b/c", "./name", "/a/b", "a/b@", "../b", "~/b")))


def test_a_folder_is_read_back(published: Path) -> None:
    file = published_prompt(published)
    assert file == published / PROMPT
    found = check_published(published)
    assert np.array_equal(found.shared[SHARED_PROMPT], SAVED.shared[SHARED_PROMPT])
    assert (found.class_names, found.run) == (SAVED.class_names, "first")


def test_what_was_not_published_is_none(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / PROMPT).write_bytes(b"")
    assert published_prompt(tmp_path / "run") is None
    assert published_prompt("first") is None
    assert published_prompt(tmp_path / "owner" / "name") is None


def test_the_hub_gives_both_files_of_one_commit(hub: Endpoint, published: Path) -> None:
    file = published_prompt("owner/scenes")
    assert file is not None and file.parent.name == COMMIT
    assert file.read_bytes() == (published / PROMPT).read_bytes()
    # A push between the two must not mix two commits.
    assert {path.split("/")[-2] for path in hub.asked if path.endswith(PROMPT)} == {COMMIT}
    assert published_prompt("owner/scenes@v1") == file
    assert pinned("owner/scenes") == f"owner/scenes@{COMMIT}"


def test_what_is_in_the_cache_needs_no_hub(hub: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    file = published_prompt("owner/scenes")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert published_prompt("owner/scenes") == file
    with pytest.raises(ModelError, match=r"other/scenes is neither .*--local-dir"):
        published_prompt("other/scenes")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("owner/other", "the hub shows no model owner/other"),
        ("owner/scenes@v2", "the hub has owner/scenes, but no revision v2"),
        ("owner/closed", "given to registered users only"),
        ("owner/clip", "was not written by `fedrsclip publish`"),
    ],
)
def test_what_the_hub_does_not_give(
    source: str, sentence: str, hub: Endpoint, tmp_path: Path
) -> None:
    hub.gated.add("owner/closed")
    hub.repositories |= {"owner/closed": tmp_path, "owner/clip": tmp_path / "clip"}
    with pytest.raises(ModelError, match=sentence):
        published_prompt(source)


def test_without_a_network_the_cache_is_read(
    hub: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = published_prompt("owner/scenes")
    point_at("http://127.0.0.1:9", monkeypatch)
    assert published_prompt("owner/scenes") == file
    with pytest.raises(ModelError, match=r"owner/other is neither .* the hub cannot be asked"):
        published_prompt("owner/other")


def test_files_that_do_not_agree(published: Path) -> None:
    said = json.loads((published / CONFIG).read_text())
    write_json(published / CONFIG, said | {"added by hand": 1})
    check_published(published)
    write_json(published / CONFIG, said | {"class_names": ["river", "forest"]})
    with pytest.raises(ModelError, match="do not agree on class_names"):
        check_published(published)
    write_json(published / CONFIG, said)
    write_shared_prompt(published / PROMPT, replace(SAVED, server_round=4))
    with pytest.raises(ModelError, match="do not agree on sha256, round"):
        check_published(published)


@pytest.mark.parametrize(
    "changes", [{"run": "a\x1b[2Jb"}, {"class_names": ("forest", "ri\u202ever")}]
)
def test_a_strangers_names_are_plain(published: Path, changes: dict[str, Any]) -> None:
    write_shared_prompt(published / PROMPT, replace(SAVED, **changes))
    with pytest.raises(ModelError, match="names with control characters"):
        check_published(published)


def test_other_and_damaged_files(published: Path) -> None:
    whole = (published / PROMPT).read_bytes()
    (published / PROMPT).write_bytes(whole[:-8])
    with pytest.raises(ModelError, match=r"shared_prompt.safetensors is damaged"):
        check_published(published)
    write_json(published / CONFIG, {"format": "fedrsclip-classifier-9"})
    with pytest.raises(ModelError, match="has the format 'fedrsclip-classifier-9'"):
        check_published(published)
    write_json(published / CONFIG, {"model_type": "clip"})
    with pytest.raises(ModelError, match="has the format None"):
        check_published(published)
    (published / CONFIG).write_text("{")
    with pytest.raises(ModelError, match=r"config.json is damaged"):
        check_published(published)
