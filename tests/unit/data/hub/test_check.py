from pathlib import Path

import pytest

from fedrsclip.data.command import data
from tests.unit.data.helpers import make_folder
from tests.unit.data.hub.rows import make_rows, save_splits

pytestmark = pytest.mark.unit


def said_of(*arguments: str) -> tuple[int, list[str]]:
    lines: list[str] = []
    return data(["check", *arguments], echo=lines.append), lines


def test_splits_that_are_left_out_are_named(tmp_path: Path) -> None:
    save_splits(tmp_path, {"train": 9, "test": 6, "contrast": 3})
    few = ["partition=uniform", "federation.num_clients=1"]
    for how in ([str(tmp_path / "saved")], ["hub", f"data.path={tmp_path / 'saved'}"]):
        status, lines = said_of(*how, *few)
        assert status == 0
        assert lines[:2] == [
            "ok       layout: rows of a data set",
            "note     splits with their images: train: train (9); test: test (6); left out: "
            "contrast (3)",
        ]
        assert "ok       files: all 15 images can be read" in lines
        assert "         15 x PNG, 3 bands of 8 bits" in lines


def test_what_a_run_would_refuse_is_a_problem(tmp_path: Path) -> None:
    save_splits(tmp_path, {"test": 6})
    status, lines = said_of(str(tmp_path / "saved"))
    assert status == 1
    assert lines[0].startswith("problem  images: data set ")
    assert "no split to train on, only test" in lines[0]


def test_files_of_rows_are_told_from_images(tmp_path: Path) -> None:
    make_rows(tmp_path / "png", [0, 1, 2] * 3).to_parquet(tmp_path / "rows.parquet")
    few = ["partition=uniform", "federation.num_clients=1"]
    assert said_of(str(tmp_path / "rows.parquet"), *few)[0] == 0
    make_folder(tmp_path / "images", {"beach": 4, "river": 4})
    (tmp_path / "images" / "annotations.json").write_text("{}")
    assert said_of(str(tmp_path / "images"), *few)[1][0].startswith("ok       layout: <class>/")
