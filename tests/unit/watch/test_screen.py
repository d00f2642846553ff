"""What the terminal shows, read back as text."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from fedrsclip.watch.render import run_screen
from fedrsclip.watch.run import RunWatch
from tests.run_files import accuracies, spread
from tests.run_files import round_record as record
from tests.unit.watch.folders import Folder

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "first")


def drawn(folder: Folder, note: str = "", width: int = 100) -> list[list[str]]:
    """Return the words of each line."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=False, markup=False)
    console.print(run_screen(RunWatch(folder.path).look(), note))
    return [line.split() for line in text.getvalue().splitlines()]


def line_of(lines: list[list[str]], *words: str) -> str:
    (found,) = [line for line in lines if line[: len(words)] == list(words)]
    return " ".join(found)


def test_a_run_that_goes_on(folder: Folder) -> None:
    folder.begin()
    folder.add(record(0), record(1), record(2, lost={"client-1": "timeout: 9 s"}))
    folder.age(1)
    with folder.held():
        lines = drawn(folder, "/x/report.html (3 rounds)")
    assert line_of(lines, "run") == "run first: fedrsclip, 2 clients, seed 3 running"
    assert line_of(lines, "round", "2", "of").startswith("round 2 of 4 ━")
    assert line_of(lines, "round", "2", "of").endswith("about 3 s left")
    assert line_of(lines, "round", "0") == "round 0 40.0 40.0 40.0 30.0"
    assert line_of(lines, "round", "2", "40.0") == "round 2 40.0 60.0 65.0 30.0"
    assert line_of(lines, "against") == "against zero-shot +20.0 +25.0 -10.0"
    assert line_of(lines, "clients") == (
        "clients 2 asked, 1 valid, 1 dropped in round 2: client-1 (timeout)"
    )
    assert line_of(lines, "dropped") == "dropped client-1: timeout x 1"
    assert line_of(lines, "bytes") == (
        "bytes 2.0 kB down, 1.5 kB up per client and round; in all 12.0 kB down, 9.0 kB up"
    )
    assert line_of(lines, "time") == "time 2.0 s a round, last round 1 s ago"
    assert line_of(lines, "report") == "report /x/report.html (3 rounds)"


def test_before_the_first_round(folder: Folder) -> None:
    folder.begin()
    with folder.held():
        lines = drawn(folder)
    assert line_of(lines, "round", "0", "of") == "round 0 of 4"
    assert "no round yet" in line_of(lines, "clients")
    assert not any("left" in line for line in lines)


def test_a_round_without_figures_and_one_that_failed(folder: Folder) -> None:
    folder.begin()
    bare = record(1, test=None, eval_seconds=None, loss=None, failure="0 valid replies [of 2]")
    folder.add(bare)
    with folder.held():
        lines = drawn(folder)
    assert line_of(lines, "failed") == "failed rounds 1; the last: 0 valid replies [of 2]"
    assert not any("accuracy" in " ".join(line) for line in lines)


def test_a_method_without_a_shared_prompt_has_no_global_accuracy(folder: Folder) -> None:
    folder.begin()
    test = accuracies(zero_shot=0.4, personalized=spread(0.5, worst=0.25))
    folder.add(record(0, test=test, sampled=True))
    with folder.held():
        lines = drawn(folder)
    assert line_of(lines, "round", "0,") == "round 0, some clients 40.0 - 50.0 25.0"
    assert line_of(lines, "against") == "against zero-shot +10.0 -15.0"


def test_problems_and_silence_stand_below(folder: Folder) -> None:
    folder.begin()
    folder.add(record(0))
    folder.write("nonsense\n")
    (folder.path / "run.json").write_text("{")
    folder.age(200)
    with folder.held():
        lines = [" ".join(line) for line in drawn(folder)]
    assert "run first running" in lines
    assert "run.json is damaged: it holds no JSON object" in lines
    assert "line 2 of metrics.jsonl is damaged: its round is missing here" in lines
    assert any(line.startswith("no new round for 3 min") for line in lines)
    assert "round 0" in [line.strip() for line in lines]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(folder: Folder, width: int) -> None:
    folder.begin()
    folder.add(*(record(number, lost={"client-1": "timeout"}) for number in range(1, 4)))
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, markup=False)
    with folder.held():
        segments = console.render_lines(run_screen(RunWatch(folder.path).look(), "x" * 120))
    whole = "".join(segment.text for line in segments for segment in line)
    assert whole.count("x") - whole.count("client-1: timeout x") >= 120
    lengths = [sum(segment.cell_length for segment in line) for line in segments]
    assert max(lengths) <= width
