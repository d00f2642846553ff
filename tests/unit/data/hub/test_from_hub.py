"""Data sets as they come from a hub, in a process of its own: libraries read the endpoint once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.unit.data.helpers import make_folder
from tests.unit.data.hub.fake_hub import FakeHub, serve
from tests.unit.data.hub.rows import COMMITS, make_rows

pytestmark = pytest.mark.unit

OLD, NEW = COMMITS
SCRIPT = """
import json, sys
from fedrsclip_core.data.hub.freshness import refresh
from fedrsclip_core.data.hub.source import HubSource
from fedrsclip_core.data.hub.spec import HubSpec
from fedrsclip_core.errors import FedRSCLIPError

for options in json.loads(sys.argv[1]):
    spec = HubSpec(**options)
    refresh(spec)
    try:
        source = HubSource(spec)
        modes = {source.image(i).mode for i in range(len(source))}
        found = [source.labels.tolist(), source._index.commit, sorted(modes)]
    except FedRSCLIPError as error:
        found = str(error)
    print("found", json.dumps(found))
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serve(FakeHub()) as running:
        yield running


def opened(hub: FakeHub, home: Path, *specs: dict[str, Any]) -> list[Any]:
    """Open data sets one after the other; return labels, commit and modes, or the sentence."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
        "FEDRSCLIP_HOME": str(home / "fedrsclip"),
    }
    command = [sys.executable, "-c", SCRIPT, json.dumps(specs)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    return [json.loads(line.removeprefix("found ")) for line in lines]


def parquet(folder: Path, labels: list[int], seed: int = 0) -> Path:
    """Make a commit with one file of rows, the images inside."""
    folder.mkdir()
    rows = make_rows(folder.parent / "png", labels, seed=seed)
    images = [(folder.parent / "png" / f"{seed}-{i}.png").read_bytes() for i in range(len(labels))]
    columns = {"image": [{"bytes": one, "path": None} for one in images], "label": labels}
    datasets.Dataset.from_dict(columns, features=rows.features).to_parquet(folder / "train.parquet")
    return folder


def test_the_newest_commit_is_taken_and_a_pinned_one_stays(hub: FakeHub, tmp_path: Path) -> None:
    hub.push("owner/scenes", OLD, parquet(tmp_path / "old", [0, 1]))
    plain = {"hub_id": "owner/scenes"}
    assert opened(hub, tmp_path, plain) == [[[0, 1], OLD, ["RGB"]]]
    hub.push("owner/scenes", NEW, parquet(tmp_path / "new", [2, 2, 1], seed=1))
    streamed = plain | {"streaming": True}
    pinned = plain | {"revision": OLD}
    assert opened(hub, tmp_path, plain, pinned, streamed, streamed | pinned) == [
        [[2, 2, 1], NEW, ["RGB"]],
        [[0, 1], OLD, ["RGB"]],
        [[2, 2, 1], NEW, ["RGB"]],
        [[0, 1], OLD, ["RGB"]],
    ]


def test_files_of_images_are_read_on_disk_and_streamed(hub: FakeHub, tmp_path: Path) -> None:
    hub.push("owner/images", OLD, make_folder(tmp_path / "images", {"beach": 2, "river": 1}))
    plain = {"hub_id": "owner/images"}
    on_disk, streamed = opened(hub, tmp_path, plain, plain | {"streaming": True})
    assert on_disk == streamed == [[0, 0, 1], OLD, ["RGB"]]


def test_what_cannot_be_loaded_says_what_to_do(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "made.py").write_text("raise SystemExit\n")
    hub.push("owner/made", OLD, tmp_path / "made")
    made, nothing = opened(hub, tmp_path, {"hub_id": "owner/made"}, {"hub_id": "owner/nothing"})
    assert "made by a script, which the library no longer runs" in made
    assert "data.hub_revision=refs/convert/parquet" in made
    assert "owner/nothing cannot be loaded (DatasetNotFoundError" in nothing
