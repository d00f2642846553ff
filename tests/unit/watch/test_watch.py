"""`fedrsclip watch` on folders in every state, without a terminal."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedrsclip import report
from fedrsclip.cli import main
from fedrsclip.watch import command
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.run_folder import STOPPED
from tests.run_files import round_record as record
from tests.unit.watch.folders import Folder

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("signal.signal", lambda number, handler: None)


@pytest.fixture
def folder() -> Folder:
    return Folder(paths.runs_dir() / "first")


def meanwhile(monkeypatch: pytest.MonkeyPatch, *actions: Callable[[], object]) -> None:
    """Let one thing happen in each pause of the watcher; it is stopped after the last."""
    waiting = list(actions)

    def pause(seconds: float) -> None:
        if not waiting:
            raise KeyboardInterrupt
        waiting.pop(0)()

    monkeypatch.setattr(command.time, "sleep", pause)


def watched(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    capsys.readouterr()
    assert main(["watch", *arguments]) == status
    captured = capsys.readouterr()
    return captured.out + captured.err


def rounds_in(text: str) -> list[int]:
    lines = [line.split("|")[0].split() for line in text.splitlines()]
    return [int(line[1]) for line in lines if line[:1] == ["round"]]


def test_a_completed_run_is_shown_and_is_status_0(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.begin()
    folder.add(record(0), record(1), record(2, lost={"client-1": "timeout: 600 s"}))
    folder.end()
    for asked in (["first"], [], [str(folder.path)]):
        text = watched(capsys, 0, *asked)
        assert "run first: fedrsclip, 2 clients, seed 3" in text
        assert rounds_in(text) == [0, 1, 2]
        assert "1/2 clients" in text
        assert "dropped: client-1 (timeout)" in text
        assert "last round (4)" in text
        assert "run first: completed" in text
        assert "left" not in text
        assert f"report: {folder.path / 'report.html'} (3 rounds)" in text


def test_a_run_that_has_failed_is_status_1(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.begin()
    folder.add(record(0))
    folder.end("failed", STOPPED)
    assert "run first: failed: the run was stopped" in watched(capsys, 1, "first")


def test_a_run_that_was_killed_is_status_1(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.begin()
    folder.add(record(0))
    text = watched(capsys, 1, "first")
    assert "run first: interrupted: no process works on it any more, it was killed" in text
    assert "fedrsclip run resume=first" in text


def test_a_run_is_followed_from_before_its_folder_to_its_end(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = folder.held()

    def begin() -> None:
        folder.begin()
        process.__enter__()

    def end() -> None:
        folder.end()
        process.__exit__(None, None, None)

    whole = json.dumps(record(2)) + "\n"
    meanwhile(
        monkeypatch,
        lambda: folder.path.mkdir(parents=True),
        begin,
        lambda: folder.add(record(0), record(1)),
        lambda: folder.write(whole[:40]),
        lambda: folder.write(whole[40:]),
        lambda: folder.add(record(3), record(4)),
        end,
    )
    text = watched(capsys, 0, "first")
    assert "waiting 300 s for it to begin" in text
    assert rounds_in(text) == [0, 1, 2, 3, 4]
    assert "about 6 s left" in next(x for x in text.splitlines() if x.startswith("round   1"))
    assert "damaged" not in text
    assert "run first: completed" in text


def test_a_run_that_never_begins_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(command.time, "sleep", pauses.append)
    text = watched(capsys, 1, "never")
    assert text.splitlines()[-1].startswith("fedrsclip: there is no run in ")
    assert sum(pauses) == 300


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there is no run in"),
        (["no name"], "run is 'no name'"),
    ],
)
def test_what_cannot_be_watched_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    text = watched(capsys, 1, *arguments)
    assert said in text
    assert text.count("\n") == 1


def test_ctrl_c_leaves_the_run_alone(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.begin()
    folder.add(record(0))
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    meanwhile(monkeypatch)
    with folder.held():
        assert "first is left as it is" in watched(capsys, 130, "first")
    (folder.path / ".lock").unlink()
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before


def test_damaged_and_missing_files_are_named_and_the_rest_is_shown(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.begin()
    (folder.path / "run.json").unlink()
    folder.add(record(0))
    folder.write('{"round": 1}\n[]\nnonsense\n\xff\n')
    folder.add(record(2, failure="0 valid replies \x1b[2J"))
    folder.write('{"round": 3, "sec')
    (folder.path / "results.json").write_text("[1")
    text = watched(capsys, 1, "first")
    assert "run.json is missing" in text
    for number in (2, 3, 4, 5):
        assert f"line {number} of metrics.jsonl is damaged" in text
    assert rounds_in(text) == [0, 2]
    assert "results.json is damaged: it holds no JSON object" in text
    assert "run first: failed: results.json is damaged" in text
    assert text.replace("\n", "").isprintable()


def test_results_without_a_table_are_named(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.begin()
    folder.add(record(0))
    (folder.path / "results.json").write_text('{"status": "completed"}')
    assert "results.json is damaged: it has no table" in watched(capsys, 0, "first")


def test_a_silent_run_is_said_once_until_it_speaks_again(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.begin()
    folder.add(record(0), record(1))
    folder.age(300)
    meanwhile(
        monkeypatch,
        lambda: None,
        lambda: folder.add(record(2)),
        lambda: folder.age(400),
    )
    with folder.held():
        text = watched(capsys, 130, "first")
    assert text.count("no new round for 5 min, the slowest so far took 2 s") == 1
    assert text.count("no new round for 7 min") == 1
    assert "it waits 10 min for a client" in text


def test_a_long_preparation_is_no_silence(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.begin()
    folder.age(290)
    meanwhile(monkeypatch, lambda: folder.age(310))
    with folder.held():
        text = watched(capsys, 130, "first")
    assert text.count("no round for") == 1
    assert "no round for 5 min: do the clients prepare at all?" in text


def test_a_run_that_is_resumed_from_its_checkpoint_is_read_again(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.begin()
    folder.add(record(0), record(1), record(2), record(3))

    def rewind() -> None:
        (folder.path / "metrics.jsonl").write_text("")
        folder.add(record(0), record(1))

    meanwhile(monkeypatch, rewind, lambda: folder.add(record(2), record(3)))
    with folder.held():
        assert rounds_in(watched(capsys, 130, "first")) == [0, 1, 2, 3, 2, 3]


def test_a_report_that_fails_is_one_line_and_the_watch_goes_on(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path) -> Path:
        raise ZeroDivisionError("by zero\nin a figure")

    monkeypatch.setattr(report, "write_report", broken)
    folder.begin()
    folder.add(*(record(number) for number in range(5)))
    folder.end()
    text = watched(capsys, 0, "first")
    assert text.count("report not refreshed: by zero\n") == 1
    assert "in a figure" not in text
    assert "run first: completed" in text


def test_a_watch_that_begins_late_is_no_slower(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.begin(**{"federation.num_rounds": 3000})
    folder.add(*(record(number) for number in range(3001)))
    folder.end()
    start = time.monotonic()
    assert rounds_in(watched(capsys, 0, "first"))[-1] == 3000
    assert time.monotonic() - start < 10
