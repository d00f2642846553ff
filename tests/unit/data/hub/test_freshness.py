import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from fedrsclip.run.submission import deployed
from fedrsclip_core.data.hub.commits import newest_commit
from fedrsclip_core.data.hub.freshness import refresh
from fedrsclip_core.data.hub.index import find_index
from fedrsclip_core.data.hub.spec import HubSpec
from tests.unit.data.hub.rows import COMMITS, cache_hub_copy, make_rows

pytestmark = pytest.mark.unit

SPEC = HubSpec("owner/scenes")


class Hub:
    """A hub of one data set, which counts what it is asked."""

    def __init__(self) -> None:
        self.commit = COMMITS[0]
        self.asked: list[str] = []


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path.startswith("/api/datasets/owner/scenes")
            state.asked += [self.path] if known else []
            body = {"id": "owner/scenes", "sha": state.commit} if known else {"error": "no"}
            content = json.dumps(body).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield state
        server.shutdown()


@pytest.fixture
def loaded(tmp_path: Path) -> Path:
    cache_hub_copy(make_rows(tmp_path / "png", [0, 1]), tmp_path, COMMITS[0])
    assert find_index(SPEC).labels == [0, 1]
    return tmp_path


def test_a_newer_commit_is_loaded(loaded: Path, hub: Hub) -> None:
    assert refresh(SPEC) is None
    hub.commit = COMMITS[1]
    cache_hub_copy(make_rows(loaded / "png", [2, 2, 2], seed=1), loaded, COMMITS[1])
    assert find_index(SPEC).commit == COMMITS[0]
    assert refresh(SPEC) is None
    index = find_index(SPEC)
    assert (index.commit, index.labels) == (COMMITS[1], [2, 2, 2])
    assert len(hub.asked) == 2


def test_nothing_is_asked_for_what_cannot_change(tmp_path: Path, hub: Hub) -> None:
    assert refresh(HubSpec("owner/scenes", COMMITS[0])) is None
    assert refresh(HubSpec(path=tmp_path)) is None
    assert refresh(SPEC) is None  # nothing is known of it
    assert hub.asked == []


def test_a_branch_can_have_a_newer_commit(loaded: Path, hub: Hub) -> None:
    spec = HubSpec("owner/scenes", "refs/convert/parquet")
    assert find_index(spec).commit == COMMITS[0]
    hub.commit = COMMITS[1]
    assert refresh(spec) is None
    assert "refs%2Fconvert%2Fparquet" in hub.asked[0]


def test_without_the_hub_what_is_here_is_used_and_said(
    loaded: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    sentence = f"the hub cannot be asked for a newer data set owner/scenes: commit {COMMITS[0]} is"
    assert str(refresh(SPEC)).startswith(sentence)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert str(refresh(SPEC)).startswith(sentence)
    assert find_index(SPEC).labels == [0, 1]
    assert newest_commit(HubSpec("owner/other")) is None


def test_all_sites_of_a_deployment_take_the_same_commit(hub: Hub) -> None:
    overrides = [
        "federation=deployment", "partition=site", "data=hub", "data.hub_id=owner/scenes",
        "data.class_names=[river,lake]", "model=clip_vit_b32",
    ]  # fmt: skip
    assert deployed(overrides).config.data.hub_revision == COMMITS[0]
    assert deployed([*overrides, "data.hub_revision=v1"]).config.data.hub_revision == "v1"
    assert len(hub.asked) == 1
