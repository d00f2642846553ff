"""`fedrsclip report`: what it takes, what it says, and one sentence for each mistake."""

import webbrowser
from pathlib import Path

import pytest

from fedrsclip.cli import main
from tests.unit.report import folders

pytestmark = pytest.mark.unit


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEDRSCLIP_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("by_name", [True, False])
def test_a_run_by_its_name_or_its_folder(
    home: Path, by_name: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders.write_run(home)
    assert main(["report", "first" if by_name else str(folder)]) == 0
    assert capsys.readouterr().out == f"report: {folder.resolve()}/report.html\n"
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_benchmark_by_its_name(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folders.write_bench(home)
    assert main(["report", "small"]) == 0
    assert capsys.readouterr().out == f"report: {folder.resolve()}/report.html\n"


def test_open_starts_a_browser(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    folder = folders.write_run(home)
    assert main(["report", "first", "--open"]) == 0
    assert opened == [(folder / "report.html").resolve().as_uri()]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["runs"], "the folder of neither a run nor a benchmark"),
        (["first", "--images", "/no/such"], "--images cannot be used: there is no data folder"),
        (["small", "--images", "/no/such"], "the report of a benchmark shows no images"),
    ],
)
def test_a_mistake_is_one_line_and_status_1(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    folders.write_run(home)
    folders.write_bench(home)
    monkeypatch.chdir(home)
    assert main(["report", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fedrsclip: ")
    assert sentence in error
    assert error.count("\n") == 1
