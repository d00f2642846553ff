"""The journal of a site: what is written is found again, and nothing else."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from fedrsclip.site.journal import START, Journal, journals
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs.fileio import sha256_of
from tests.disks import fill, small_disk

pytestmark = pytest.mark.unit

FIRST = "north.journal.000000001"
Change = Callable[[list[bytes]], list[bytes]]


def write(folder: Path, count: int, *, max_bytes: int = 2**20, first: int = 1) -> Journal:
    journal = Journal(folder, "north", max_bytes=max_bytes)
    for number in range(first, first + count):
        journal.append({"run": "first", "round": number, "outcome": "done"})
    return journal


def rounds(journal: Journal) -> list[int]:
    return [line["round"] for line in journal.entries()]


def changed(path: Path, change: Change) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def test_what_was_written_is_found_in_its_order(tmp_path: Path) -> None:
    journal = write(tmp_path, 3)
    lines = list(journal.entries())
    assert [line["number"] for line in lines] == rounds(journal) == [1, 2, 3]
    assert [line["previous"] for line in lines] == [START, *(one["checksum"] for one in lines[:-1])]
    assert (tmp_path / FIRST).stat().st_mode & 0o777 == 0o600


def test_a_journal_that_was_never_written_is_empty(tmp_path: Path) -> None:
    assert list(Journal(tmp_path, "north").entries()) == [] and journals(tmp_path) == []


def test_a_checksum_covers_the_line_and_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (text,) = (tmp_path / FIRST).read_text().splitlines()
    body, _, checksum = text.removesuffix('"}').rpartition(', "checksum": "')
    assert sha256_of(body) == checksum and json.loads(body + "}")["previous"] == START


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: [lines[0].replace(b"done", b"disk"), *lines[1:]], "line 1 of"),
        (lambda lines: [*lines[:2], lines[2].replace(b"done", b"dine"), *lines[3:]], "line 3 of"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b"done", b"dine")], "line 4 of"),
        (lambda lines: [lines[0], *lines[2:]], "number 3 but follows number 1"),
        (lambda lines: [lines[0], b"garbage\n", *lines[2:]], "number 3 but follows number 1"),
        (lambda lines: lines[:-1], "1 lines are missing at the end"),
        (lambda lines: lines[:1], "3 lines are missing at the end"),
        (lambda lines: [*lines[:-1], lines[-1][:50]], "1 lines are missing at the end"),
        (lambda lines: [], "4 lines are missing at the end"),
        (lambda lines: lines[1:], "number 2 but follows number 0"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "follows"),
        (lambda lines: [*lines, lines[-1]], "follows"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], "follows"),
    ],
)
def test_a_change_is_noticed(change: Change, says: str, tmp_path: Path) -> None:
    journal = write(tmp_path, 4)
    changed(tmp_path / FIRST, change)
    with pytest.raises(RunError, match=says):
        rounds(journal)
    write(tmp_path, 2, first=5)  # and is not forgotten when the site works on
    with pytest.raises(RunError):
        rounds(journal)


def test_no_byte_can_be_changed_unnoticed(tmp_path: Path) -> None:
    journal = write(tmp_path, 3)
    path = tmp_path / FIRST
    whole = path.read_bytes()
    found = list(journal.entries())
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(bytes(damaged))
        try:
            # An end of the last line that is no end: the line itself is whole.
            assert list(journal.entries()) == found and position == len(whole) - 1
        except RunError:
            continue


def test_a_new_chain_in_place_of_the_old_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, 3)
    (tmp_path / "other").mkdir()
    forged = Journal(tmp_path / "other", "north")
    for number in range(1, 4):
        forged.append({"run": "first", "round": number, "outcome": "harmless"})
    (tmp_path / "other" / FIRST).replace(tmp_path / FIRST)
    with pytest.raises(RunError, match="is not the one that was written"):
        rounds(Journal(tmp_path, "north"))


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_what_a_crash_left_of_a_line_is_no_line(kept: int, tmp_path: Path) -> None:
    journal = write(tmp_path, 3)
    path = tmp_path / FIRST
    noted = (tmp_path / "north.journal.last").read_bytes()
    write(tmp_path, 1, first=4)
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:3]) + whole[3][:kept])
    (tmp_path / "north.journal.last").write_bytes(noted)
    if kept != -1:  # otherwise but for its end it is whole
        assert rounds(journal) == [1, 2, 3]
    write(tmp_path, 2, first=4 if kept != -1 else 5)
    assert rounds(journal) == [1, 2, 3, 4, 5] if kept != -1 else [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("left", [b"", b"\0" * 86, b"0" * 40, None])
def test_a_crash_may_leave_anything_of_the_note(left: bytes | None, tmp_path: Path) -> None:
    journal = write(tmp_path, 2)
    note = tmp_path / "north.journal.last"
    if left is None:
        note.unlink()
    else:
        note.write_bytes(left)
    assert rounds(journal) == [1, 2]
    write(tmp_path, 1, first=3)
    assert rounds(journal) == [1, 2, 3]


def test_full_files_are_put_away_and_the_chain_continues(tmp_path: Path) -> None:
    journal = write(tmp_path, 30, max_bytes=1000)
    files = journal.files()
    assert len(files) > 3 and files[0].name == FIRST
    assert all(path.stat().st_size < 2000 for path in files)
    assert rounds(journal) == list(range(1, 31))
    files[1].unlink()
    with pytest.raises(RunError, match="lines before it are missing"):
        rounds(journal)


def test_old_files_may_be_moved_away_from_the_beginning_on(tmp_path: Path) -> None:
    journal = write(tmp_path, 30, max_bytes=1000)
    first, second, *_ = journal.files()
    first.unlink()
    second.unlink()
    assert rounds(journal)[-1] == 30 and rounds(journal)[0] > 1
    for path in journal.files():
        path.unlink()
    with pytest.raises(RunError, match="30 lines are missing"):
        rounds(journal)
    write(tmp_path, 1, first=31)
    assert [line["number"] for line in journal.entries()] == [31]


def _append(folder: Path, start: int) -> None:
    write(folder, 25, max_bytes=3000, first=start)


def test_processes_at_the_same_time_write_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(tmp_path, 100 * n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    lines = list(Journal(tmp_path, "north").entries())
    assert [line["number"] for line in lines] == list(range(1, 101))


def test_a_full_disk_costs_no_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        journal = write(disk, 2)
        filler = fill(disk)
        with pytest.raises(OSError, match="No space"):
            for number in range(3, 1000):
                write(disk, 1, first=number)
        written = rounds(journal)
        filler.unlink()
        write(disk, 1, first=1000)
        assert rounds(journal) == [*written, 1000]


def test_each_client_has_its_own(tmp_path: Path) -> None:
    for name in ("north", "a.journal.b", "south.1"):
        Journal(tmp_path, name, max_bytes=1).append({"run": name})
        Journal(tmp_path, name, max_bytes=1).append({"run": name})
    assert [one.client_name for one in journals(tmp_path)] == ["a.journal.b", "north", "south.1"]
    for one in journals(tmp_path):
        assert [line["run"] for line in one.entries()] == [one.client_name] * 2


def test_one_fsync_per_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1)
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    write(tmp_path, 1, first=2)
    assert len(synced) == 1
