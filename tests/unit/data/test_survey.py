"""What `fedrsclip data check PATH` says of any folder or list, and when it is 1."""

from pathlib import Path

import pytest
from PIL import Image

from fedrsclip.cli import main
from tests.unit.data.helpers import make_folder, save_image

pytestmark = pytest.mark.unit


def checked(
    capsys: pytest.CaptureFixture[str], path: Path, *words: str, status: int = 0
) -> list[str]:
    found = main(["data", "check", str(path), "partition=uniform", *words])
    lines = capsys.readouterr().out.splitlines()
    assert found == status, lines
    return lines


def rows_of(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines if line.startswith(" " * 9)]


def test_a_folder_with_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part, count in (("train", 20), ("Validation", 3), ("test", 4)):
        make_folder(tmp_path / "set" / part, {"golfcourse": count, "lake": count})
    save_image(tmp_path / "set" / "train" / "lake" / "grey.jpg", mode="L")
    (tmp_path / "set" / "train" / "lake" / "a.npy").write_bytes(b"")
    (tmp_path / "set" / "train" / "golfcourse" / "gone.png").symlink_to("/nowhere")
    (tmp_path / "set" / "readme.txt").write_text("words")
    lines = checked(capsys, tmp_path, "federation.num_clients=2")
    assert lines[0] == (
        "ok       layout: set/Validation/<class>/<image>, set/test/<class>/<image>, "
        "set/train/<class>/<image>"
    )
    assert lines[1] == "ok       classes: 55 images in 2 classes, train, val, test given"
    rows = rows_of(lines)
    assert rows[:3] == [
        ["class", "words", "train", "val", "test"],
        ["golfcourse", "golf", "course", "20", "3", "4"],
        ["lake", "lake", "21", "3", "4"],
    ]
    assert "ok       clients: 2 by partition=uniform" in lines
    assert "note     not read: 1 file; it is no image by its suffix .npy" in lines
    assert ["set/train/lake/a.npy"] in rows
    assert "note     not read: 1 file; it is a link to what is not there" in lines
    assert "ok       files: all 55 images can be read" in lines
    assert "         54 x PNG, 3 bands of 8 bits" in lines
    assert "         1 x JPEG, 1 band of 8 bits" in lines
    assert lines[-1] == "         sides of 24 pixels"


def test_clients_of_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(2):
        make_folder(tmp_path / "train_set" / f"client_{k}", {"beach": 5 + k, "lake": 3})
    make_folder(tmp_path / "test_set", {"beach": 4, "lake": 2})
    said = checked(capsys, tmp_path, "federation.num_clients=3")
    assert any(line.startswith("note     the images are those of 2 clients") for line in said)
    lines = checked(capsys, tmp_path, "partition=given", "federation.num_clients=2")
    assert ["client_0", "6", "2", "3"] in rows_of(lines)
    assert ["client_1", "7", "2", "3"] in rows_of(lines)
    lines = checked(capsys, tmp_path, "partition=given", "federation.num_clients=3", status=1)
    assert any("problem  split: the data are those of 2 clients" in line for line in lines)


def test_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(tmp_path, {"beach": 6, "lake": 3})
    images = [*(("beach", i) for i in range(6)), *(("lake", i) for i in range(3))]
    lines = [f"{name}/{name}{i:02d}.png,{name}" for name, i in images]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]))
    said = checked(capsys, tmp_path / "list.csv", "federation.num_clients=2")
    assert said[0] == "ok       layout: list.csv (path, label)"
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines, "beach/gone.png,beach"]))
    said = checked(capsys, tmp_path / "list.csv", "federation.num_clients=2", status=1)
    assert "problem  files: 0 of 9 images cannot be read and 1 other files are not read" in said[-3]
    (tmp_path / "list.csv").write_text("path,species\n")
    said = checked(capsys, tmp_path / "list.csv", status=1)
    assert said == [
        f"problem  images: line 1 of {tmp_path}/list.csv has no column label: it must name path "
        "and label, and may name split and client; it has path, species"
    ]


@pytest.mark.parametrize(
    ("classes", "words", "problem"),
    [
        ({"beach": 9, "lake": 2}, [], "problem  split: class lake has 2 images"),
        ({"beach": 9, "Beach": 9}, [], "problem  classes: classes 'Beach' and 'beach' both read"),
        (
            {"beach": 9},
            ["data.class_names=[lake,sea]"],
            "problem  images: the federation has no class",
        ),
        ({"beach": 9}, [], "problem  classes: there is 'beach' alone: with one class"),
        ({"beach": 9, "lake": 9}, ["federation.num_clients=20"], "problem  split: 20 clients but"),
    ],
)
def test_what_a_run_would_refuse(
    tmp_path: Path,
    classes: dict[str, int],
    words: list[str],
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_folder(tmp_path, classes)
    lines = checked(capsys, tmp_path, "federation.num_clients=2", *words, status=1)
    assert any(line.startswith(problem) for line in lines)


def test_broken_images_are_named_and_weighed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path, {"beach": 20, "lake": 20})
    for i in range(2):
        (tmp_path / "beach" / f"beach{i:02d}.png").write_bytes(b"no image")
    words = ["federation.num_clients=2"]
    lines = checked(capsys, tmp_path, *words)
    said = "note     files: 2 of 40 images cannot be read, as data.max_unreadable=0.05 allows"
    assert said in lines
    assert any("beach/beach00.png: not readable" in line for line in lines)
    (tmp_path / "beach" / "more.npy").write_bytes(b"")  # both sorts together are too many
    lines = checked(capsys, tmp_path, *words, status=1)
    assert any(
        line.startswith("problem  files: 2 of 40 images cannot be read and 1") for line in lines
    )


def test_ignored_classes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(tmp_path, {"beach": 9, "lake": 9, "sea": 9})
    words = ["data.class_names=[sea,lake]", "data.other_classes=ignore", "federation.num_clients=2"]
    assert "note     other classes, left out: beach" in checked(capsys, tmp_path, *words)


def test_names_that_are_not_utf8_can_be_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path, {"beach": 9, "lake": 9})
    odd = tmp_path / "beach" / b"\xe4.png".decode(errors="surrogateescape")
    odd.write_bytes(b"no image")
    lines = checked(capsys, tmp_path, "federation.num_clients=2", "data.max_unreadable=0.5")
    assert any("beach/\\udce4.png: not readable" in line for line in lines)


def test_the_sheet_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(tmp_path / "images", {"beach": 12, "lake": 5})
    sheet = tmp_path / "sheet.png"
    checked(capsys, tmp_path / "images", "federation.num_clients=2", "--sheet", str(sheet))
    with Image.open(sheet) as picture:
        assert picture.height == 2 * 66


@pytest.mark.parametrize("words", [["nowhere"], ["nowhere", "--path", "."], ["uc-merced"]])
def test_neither_a_data_set_nor_a_path(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"fedrsclip: there is no data set '{words[0]}'")
    assert "uc_merced" in error
    assert error.count("\n") == 1
