"""Half a run, a damaged file: it is named, and the rest is drawn."""

import json
import shutil
from pathlib import Path

import pytest

from fedrsclip.report import write_report
from fedrsclip_core.runs import lock
from tests.unit.report import folders

pytestmark = pytest.mark.unit

FILES = ("run.json", "metrics.jsonl", "results.json")


def page_of(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def test_a_killed_run_says_so(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    (folder / "results.json").unlink()
    page = page_of(folder)
    assert "This run was interrupted" in page
    assert "fedrsclip run resume=first" in page
    assert "come with the last evaluation" in page
    assert page.count("<svg") == 7
    assert "Not everything could be read" not in page


def test_a_run_that_goes_on_says_so(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    (folder / "results.json").unlink()
    with lock.hold(folder):
        assert "This run is running" in page_of(folder)


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path, status="failed", reason="no client was left")
    assert "This run failed: no client was left." in page_of(folder)


def test_before_the_first_round(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    (folder / "results.json").unlink()
    (folder / "metrics.jsonl").unlink()
    page = page_of(folder)
    assert "metrics.jsonl is missing" in page
    assert "<svg" not in page
    assert "<dt>n_ctx</dt>" in page


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["empty", "half", "foreign", "binary"])
def test_damage_is_named_and_the_rest_is_drawn(tmp_path: Path, name: str, damage: str) -> None:
    folder = folders.write_run(tmp_path)
    whole = (folder / name).read_bytes()
    broken = {"empty": b"\n", "half": whole[: len(whole) // 2], "foreign": b"[1, 2]\n"}
    (folder / name).write_bytes(broken.get(damage, b"\xff\xfe\x00" * 50))
    page = page_of(folder)
    notice = page[page.index("Not everything could be read") :]
    assert name in notice[: notice.index("</ul>")]
    assert "<svg" in page or name == "metrics.jsonl"


def test_a_line_that_is_being_written_is_no_damage(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"round": 3, "sec')
    page = page_of(folder)
    assert "the last line of metrics.jsonl is cut off" in page
    assert "is damaged" not in page


def test_a_file_with_something_else_inside_costs_only_its_figures(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    results = json.loads((folder / "results.json").read_text())
    results["clients"][0]["last"] = 7
    (folder / "results.json").write_text(json.dumps(results))
    page = page_of(folder)
    assert "Not drawn, a file holds something else" in page
    assert page.count("<svg") >= 6


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("results.json", '"clients": [', '"clients": [5, '),
        ("results.json", '"last": {', '"last": 3, "before": {'),
        ("metrics.jsonl", '"test": {', '"test": 3, "before": {'),
        ("run.json", '"config": {', '"config": 3, "before": {'),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path: Path, name: str, old: str, new: str) -> None:
    folder = folders.write_run(tmp_path)
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    assert f"{name} is damaged" in page_of(folder)


def test_evaluations_that_lie_elsewhere_are_no_damage(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    shutil.rmtree(tmp_path / "evaluations")
    page = page_of(folder)
    assert "No client of this run keeps its confusion matrix on this machine." in page
    assert "Not everything could be read" not in page


def test_evaluations_of_another_round_are_named(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    path = next((tmp_path / "evaluations").rglob("south.json"))
    path.write_text(path.read_text().replace('"round": 2', '"round": 1'))
    page = page_of(folder)
    assert "evaluations of south are damaged or of another round" in page
    assert "Not every client&#39;s own file could be read." in page


def test_a_method_without_a_constraint_says_so(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    text = (folder / "metrics.jsonl").read_text()
    without = text.replace('"loss_dpac": 0.25', '"loss_dpac": null')
    (folder / "metrics.jsonl").write_text(without)
    assert "Not known here, as the loss has no plain mean of it: cos(T_s, T_k)." in page_of(folder)
    none = without.replace('"loss_cmfac": 0.6', '"loss_cmfac": null')
    (folder / "metrics.jsonl").write_text(none)
    assert "This run has no cosine" in page_of(folder)


def test_a_constraint_that_is_no_plain_mean_has_no_cosine(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path, "loss.dpac_form=scarce")
    assert "as the loss has no plain mean of it: cos(T_s, T_k)." in page_of(folder)
    assert "This run has no cosine" in page_of(
        folders.write_run(tmp_path, "method=fedrsclip_plus", name="plus")
    )
