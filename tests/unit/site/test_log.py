"""`fedrsclip site log`: a table for people, JSON for programs, and a verdict for both."""

import json

import pytest

from fedrsclip.cli import main
from fedrsclip.site.journal import Journal
from fedrsclip.site.log import show
from fedrsclip_core.runs import paths

pytestmark = pytest.mark.unit

ENTRY = {
    "time": "2026-03-01T12:00:00.000000Z",
    "flower_run": 7,
    "run": "first",
    "round": 1,
    "kind": "train",
    "code": "installed",
    "bytes_in": 2177,
    "bytes_out": 951,
    "seconds": 0.512,
    "outcome": "done",
}


def shown(*, terminal: bool) -> tuple[int, list[str], list[str]]:
    lines: list[str] = []
    said: list[str] = []
    status = show(echo=lines.append, terminal=terminal, complain=said.append)
    return status, lines, said


@pytest.fixture
def journal() -> Journal:
    journal = Journal(paths.logs_dir(), "north")
    journal.append(ENTRY)
    journal.append(ENTRY | {"kind": "query.init", "round": 0, "outcome": "policy", "code": ""})
    return journal


@pytest.mark.usefixtures("journal")
def test_a_table_for_people() -> None:
    status, lines, said = shown(terminal=True)
    assert status == 0 and len(lines) == 3
    assert lines[0].split() == [
        *("time", "run", "message", "round", "code", "in", "out", "seconds", "outcome"),
    ]
    assert lines[1].split()[:5] == ["2026-03-01T12:00:00", "first", "train", "1", "installed"]
    assert lines[1].split()[5:] == ["2.2", "kB", "951", "B", "0.5", "done"]
    assert lines[2].split()[-1] == "policy"
    assert len({len(line) for line in lines}) == 1
    last = [line["checksum"] for line in Journal(paths.logs_dir(), "north").entries()][-1]
    assert said == [f"north: 2 messages, unchanged up to checksum {last}"]


def test_json_for_programs_by_client(journal: Journal) -> None:
    Journal(paths.logs_dir(), "south").append(ENTRY)
    status, lines, said = shown(terminal=False)
    found = [json.loads(line) for line in lines]
    assert status == 0 and len(said) == 2
    assert found[:2] == [{"client": "north", **line} for line in journal.entries()]
    assert found[2]["client"] == "south"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_change_fails_and_is_named(journal: Journal, terminal: bool) -> None:
    (path,) = journal.files()
    path.write_bytes(path.read_bytes().replace(b"policy", b"done  "))
    status, lines, said = shown(terminal=terminal)
    assert status == 1
    assert len(lines) == (2 if terminal else 1)
    assert said == [f"north: THE JOURNAL WAS CHANGED: line 2 of {path} is not what was written"]


def test_no_name_steers_the_terminal() -> None:
    journal = Journal(paths.logs_dir(), "north")
    journal.append(ENTRY | {"run": "\x1b[2J\nround 99", "kind": "train\u202e", "code": "\r"})
    _, lines, _ = shown(terminal=True)
    assert len(lines) == 2 and all(line.isprintable() for line in lines)


def test_older_files_that_are_not_here_are_told() -> None:
    journal = Journal(paths.logs_dir(), "north", max_bytes=1)
    for _ in range(3):
        journal.append(ENTRY)
    journal.files()[0].unlink()
    status, _, (said,) = shown(terminal=True)
    assert status == 0
    assert said.endswith("; those before number 2 are in files that are not here")


def test_without_a_journal_it_says_where_it_looked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", "log"]) == 1
    assert f"{paths.logs_dir()} has no journal: set FEDRSCLIP_HOME" in capsys.readouterr().err


@pytest.mark.usefixtures("journal")
def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", "log"]) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["number"] for line in printed.out.splitlines()] == [1, 2]
    assert "north: 2 messages, unchanged" in printed.err
    assert main(["site", "log", "all"]) == 1
