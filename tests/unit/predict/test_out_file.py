"""A file of rows: appended, cut to what is whole, resumed, and never another's."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedrsclip.predict.out_file import OutFile
from fedrsclip.predict.rows import Csv, JsonLines, Row, Stored
from fedrsclip_core.errors import DataError

pytestmark = pytest.mark.unit

ABOUT: dict[str, Any] = {"classifier": "first", "digest": "abc", "top": 2}
ODD = 'a "quoted",\nbroken \udcff name.jpg'
ROWS = [
    Row("a.jpg", (("harbor", 0.75), ("river, wide", 0.2))),
    Row(ODD, (("harbor", 1.0), ("river, wide", 0.0))),
    Row("bad.jpg", error="is empty (0 bytes)"),
    Row("a.jpg", (("harbor", 0.75), ("river, wide", 0.2))),
    Row("z.jpg", (("river, wide", 0.5), ("harbor", 0.5))),
]
FORMS = [pytest.param(Csv(2), id="csv"), pytest.param(JsonLines(2), id="jsonl")]


def write(path: Path, form: Stored) -> tuple[int, int]:
    """Write what is missing, as the command does; return what was there."""
    file = OutFile(path, form, ABOUT)
    file.write([row for row in ROWS if not file.take(row.image)])
    file.close()
    return file.resumed, file.unreadable


@pytest.mark.parametrize("form", FORMS)
def test_cut_anywhere_the_rest_is_written(tmp_path: Path, form: Stored) -> None:
    path = tmp_path / "out"
    assert write(path, form) == (0, 0)
    whole = path.read_bytes()
    for size in range(0, len(whole), 3):
        path.write_bytes(whole[:size])
        resumed, unreadable = write(path, form)
        assert path.read_bytes() == whole, size
        assert resumed < len(ROWS)
        assert unreadable == (resumed > 2)
    assert write(path, form) == (5, 1)
    assert path.read_bytes() == whole


def test_a_csv_is_read_by_others(tmp_path: Path) -> None:
    write(tmp_path / "out.csv", Csv(2))
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "image": "a.jpg",
        "class": "harbor",
        "probability": "0.750000",
        "class_2": "river, wide",
        "probability_2": "0.200000",
        "error": "",
    }
    assert rows[1]["image"] == ODD.replace("\udcff", "\\udcff")
    assert (rows[2]["class"], rows[2]["error"]) == ("", "is empty (0 bytes)")


def test_json_lines_are_read_by_others(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", JsonLines(2))
    said = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert said[0]["top"][1] == {"class": "river, wide", "probability": 0.2}
    assert (said[0]["class"], said[0]["probability"]) == ("harbor", 0.75)
    assert os.fsencode(said[1]["image"]) == os.fsencode(ODD)
    assert said[2] == {"image": "bad.jpg", "error": "is empty (0 bytes)"}


def test_beside_it_stands_whose_rows_they_are(tmp_path: Path) -> None:
    write(tmp_path / "out.csv", Csv(2))
    about = json.loads((tmp_path / "out.csv.about.json").read_text())
    assert about == {"format": "fedrsclip-predictions-1", **ABOUT}


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda out: out.with_name("out.csv.about.json").unlink(), "no out.csv.about.json beside"),
        (lambda out: out.with_name("out.csv.about.json").write_text("[]"), "name another file"),
        (lambda out: out.write_bytes(out.read_bytes() + b"a,b\n"), "a row that is none of its own"),
        (
            lambda out: out.write_bytes(out.read_bytes() + b"\xff\n"),
            "a row that is none of its own",
        ),
    ],
)
def test_what_is_no_file_of_this_command_stays(
    tmp_path: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    out = tmp_path / "out.csv"
    write(out, Csv(2))
    spoil(out)
    before = out.read_bytes()
    with pytest.raises(DataError, match=sentence):
        OutFile(out, Csv(2), ABOUT)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"digest": "other"}, "rows of another classifier"), ({"top": 1}, "rows of another --top")],
)
def test_another_classifier_has_another_file(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    write(tmp_path / "out.csv", Csv(2))
    with pytest.raises(DataError, match=sentence):
        OutFile(tmp_path / "out.csv", Csv(2), ABOUT | change)


def test_one_process_writes(tmp_path: Path) -> None:
    file = OutFile(tmp_path / "out.csv", Csv(2), ABOUT)
    with pytest.raises(DataError, match="another process is writing"):
        OutFile(tmp_path / "out.csv", Csv(2), ABOUT)
    file.close()
    OutFile(tmp_path / "out.csv", Csv(2), ABOUT).close()


def test_a_full_disk_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.csv"
    file = OutFile(out, Csv(2), ABOUT)
    file.write(ROWS[:1])
    before = out.read_bytes()

    class Full:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def write(self, data: bytes) -> int:
            return int(self._inner.write(data[:10]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    monkeypatch.setattr(file, "_file", Full(file._file))
    with pytest.raises(OSError, match="No space left"):
        file.write(ROWS[1:])
    assert out.read_bytes() == before
