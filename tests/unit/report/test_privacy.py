"""What a report never says: where things lie, and what a site did not share."""

import json
from pathlib import Path

import pytest

from fedrsclip.report import write_report
from fedrsclip.report.reading import without_paths
from tests.unit.report import folders

pytestmark = pytest.mark.unit

SENTINEL = "s3ntinel"
SITE = ("partition=site", "privacy=deployment", "federation.clients=[]")


def deployed(home: Path, **changed: object) -> Path:
    folder = folders.write_run(home, *SITE, **changed)
    split = {"clients": [{"train": {"per_class": [1234, 0, 0]}}], "images": SENTINEL}
    (folder / "split.json").write_text(json.dumps(split))
    return folder


def test_a_server_shows_no_counts_and_no_confusion(tmp_path: Path) -> None:
    folder = deployed(tmp_path)
    # A server that shares its home with a site: the site's files lie within reach.
    assert list((tmp_path / "evaluations").rglob("north.json"))
    page = write_report(folder).read_text(encoding="utf-8")
    assert "Confusion matrices are not shared" in page
    assert "taken for" not in page
    assert "1234" not in page
    assert "The clients did not share which classes they have" in page


def test_counts_that_were_not_shared_are_not_taken_from_the_split(tmp_path: Path) -> None:
    folder = deployed(tmp_path)
    (folder / "results.json").unlink()
    page = write_report(folder).read_text(encoding="utf-8")
    assert "1234" not in page
    assert SENTINEL not in page


def test_a_simulation_shows_both(tmp_path: Path) -> None:
    page = write_report(folders.write_run(tmp_path)).read_text(encoding="utf-8")
    assert "forest taken for harbor" in page
    assert "north, forest: 20" in page


def test_no_path_of_any_file_gets_into_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / f"{SENTINEL} with a blank"
    monkeypatch.setenv("FEDRSCLIP_HOME", str(place))
    folder = deployed(
        place,
        status="failed",
        reason=f"the file {place}/data/x.png, ~/{SENTINEL}/y and C:\\{SENTINEL}\\z are unreadable",
    )
    about = json.loads((folder / "run.json").read_text())
    about["overrides"] += f" data.path=/{SENTINEL}/images model.path='/{SENTINEL} b/clip'"
    about["config"] |= {"data.path": f"/{SENTINEL}", "federation.address": f"{SENTINEL}.example"}
    about["config"]["prompt.template"] = f"a photo file:///{SENTINEL}/t of a {{}}."
    (folder / "run.json").write_text(json.dumps(about))
    lines = (folder / "metrics.jsonl").read_text()
    told = lines.replace("no answer in time", f"disk /{SENTINEL}/full is full")
    (folder / "metrics.jsonl").write_text(told)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "[path]" in page
    assert SENTINEL not in page
    assert str(tmp_path) not in page
    assert str(Path.home()) not in page


def test_a_damaged_file_does_not_get_its_place_told(tmp_path: Path) -> None:
    place = tmp_path / SENTINEL
    folder = folders.write_run(place)
    (folder / "results.json").write_text("{")
    page = write_report(folder).read_text(encoding="utf-8")
    assert "results.json is damaged" in page
    assert SENTINEL not in page


@pytest.mark.parametrize(
    "kept",
    ["4/4 clients", "owner/name", "a satellite photo of a {}.", "down and/or up", "12 / 20"],
)
def test_what_is_no_path_stays(kept: str) -> None:
    assert without_paths({"key": [kept]}) == {"key": [kept]}


@pytest.mark.parametrize(
    "told", ["/srv/a b", "see '/srv/a b/c'", "x=/srv/a,y", "[/srv/a]", "(~/a)", "file:///srv/a"]
)
def test_what_is_a_path_goes(told: str) -> None:
    assert "srv" not in without_paths(told)
    assert "~" not in without_paths(told)
