"""A benchmark that is watched: cells that end, fail, have begun or wait."""

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from fedrsclip import report
from fedrsclip.cli import main
from fedrsclip.watch import command
from fedrsclip.watch.bench import BenchWatch
from fedrsclip.watch.render import bench_screen
from fedrsclip_core.runs import paths
from tests.run_files import round_record as record
from tests.unit.watch.folders import Folder

pytestmark = pytest.mark.unit

COLUMNS = ("setting", "method", "variant", "seed", "test_personalized", "seconds", "code_digest")


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("signal.signal", lambda number, handler: None)


def write(*completed: str, baseline: bool = False) -> Folder:
    """Write the table of four cells, of which those with these methods are completed."""
    folder = paths.bench_dir("grid")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"setting": "uniform", "method": method, "variant": variant, "seed": "1"}
        | ({"test_personalized": "50", "seconds": "9.5", "code_digest": "c"} if done else {})
        for method, variant in (("a", ""), ("b", ""), ("c", "trial 1"), ("d", ""))
        for done in [method in completed]
    ]
    if baseline:
        rows.append({"setting": "uniform", "method": "fedncm", "test_personalized": "60"})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (folder / "results.csv").write_text(text.getvalue())
    return Folder(folder)


def run_of(method: str, variant: str = "") -> Folder:
    folder = Folder(paths.runs_dir() / f"bench-grid-uniform-{method}{variant}-seed1")
    folder.begin()
    return folder


def watched(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    assert main(["watch", *arguments]) == status
    return capsys.readouterr().out


def test_cells_are_told_as_they_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = write("a")
    process = bench.held()
    process.__enter__()
    waiting = [
        lambda: write("a", "b"),
        lambda: run_of("c", "-trial1").end("failed", "no client"),
        lambda: write("a", "b", "c", "d", baseline=True),
        lambda: process.__exit__(None, None, None),
    ]
    monkeypatch.setattr(command.time, "sleep", lambda seconds: waiting.pop(0)())
    lines = watched(capsys, 0, "grid").splitlines()
    assert lines[:6] == [
        f"benchmark grid: 1 of 4 cells are completed ({bench.path})",
        "[2/4] bench-grid-uniform-b-seed1: completed, 9.5 s",
        "[2/4] bench-grid-uniform-c-trial1-seed1: failed, no client",
        "[4/4] bench-grid-uniform-c-trial1-seed1: completed, 9.5 s",
        "[4/4] bench-grid-uniform-d-seed1: completed, 9.5 s",
        "benchmark grid: 4 of 4 cells are completed",
    ]
    assert lines[-1] == f"report: {bench.path / 'report.html'} (4 cells)"


def test_a_benchmark_that_ended_early_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    bench = write("a", "b")
    run_of("d").end("failed", "no client")
    text = watched(capsys, 1, str(bench.path))
    assert "benchmark grid: 2 of 4 cells are completed, 1 failed; no process works on it" in text
    assert "the same fedrsclip bench command resumes it" in text


@pytest.mark.parametrize(
    "content", [b"", b"setting,method\nuniform,a\n", b"\xff\xfe", b'setting,"method']
)
def test_a_damaged_table_is_named(capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    bench = write()
    (bench.path / "results.csv").write_bytes(content)
    assert "results.csv is damaged" in watched(capsys, 1, "grid")


def test_the_screen(tmp_path: Path) -> None:
    bench = write("a")
    begun = run_of("b")
    begun.add(record(0))
    begun.age(5)
    broken = run_of("d")
    (broken.path / "results.json").write_text(json.dumps([]))
    text = io.StringIO()
    with bench.held():
        console = Console(file=text, width=100, markup=False)
        console.print(bench_screen(BenchWatch(bench.path).look(), "report.html"))
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert lines[0] == "benchmark grid: 1 of 4 cells are completed, 1 failed running"
    assert lines[1].startswith("cell 1 of 4 ━")
    # Cells take 9.5 s: what is left of one that began 5 s ago, and one more.
    assert lines[1].endswith("about 14 s left")
    assert lines[2:] == [
        "begun bench-grid-uniform-b-seed1: last heard of 5 s ago",
        "failed bench-grid-uniform-d-seed1: results.json is damaged: it holds no JSON object",
        "waiting 1 cell",
        "report report.html",
    ]


def test_a_benchmark_without_a_cell_to_come_does_not_speak_of_any() -> None:
    bench = write("a", "b", "c", "d")
    text = io.StringIO()
    Console(file=text, width=100).print(bench_screen(BenchWatch(bench.path).look(), ""))
    assert [line.split()[0] for line in text.getvalue().splitlines()] == ["benchmark", "cell"]
