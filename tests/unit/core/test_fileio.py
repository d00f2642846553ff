"""Lines that are appended whole or not at all, where the disk takes only a part."""

import errno
from pathlib import Path

import pytest

from fedrsclip_core.runs.fileio import append_line
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
