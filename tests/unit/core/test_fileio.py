"""Lines that are appended whole or not at all, where the disk takes only a part."""

import errno
import json
from pathlib import Path

import pytest

from fedrsclip_core.runs.fileio import append_line, to_json, write_json
from tests.disks import full_disk, small_disk

pytestmark = pytest.mark.unit


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        path = disk / "metrics.jsonl"
        append_line(path, "first")
        with pytest.raises(OSError, match="No space left") as error:
            append_line(path, "x" * 100_000)
        assert error.value.errno == errno.ENOSPC
        assert path.read_text() == "first\n"
        append_line(path, "second")
        assert path.read_text() == "first\nsecond\n"


def test_a_line_that_cannot_be_synced_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_line(path, "first")

    with full_disk(), pytest.raises(OSError, match="No space left"):
        append_line(path, "second")
    assert path.read_text() == "first\n"


def test_json_holds_no_number_that_json_does_not_have(tmp_path: Path) -> None:
    value = {"a": [1.5, float("nan")], "b": {"c": float("inf")}, "d": (-float("inf"), "nan")}
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [1.5, None],
        "b": {"c": None},
        "d": [None, "nan"],
    }
    assert to_json({"a": [1, 2.5, None]}) == json.dumps({"a": [1, 2.5, None]})
