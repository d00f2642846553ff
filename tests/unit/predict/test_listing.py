"""Which images are meant by files, folders, patterns and a list on stdin."""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest

from fedrsclip.predict.listing import Unlisted, check_given, items_of
from fedrsclip_core.errors import ConfigError, DataError

pytestmark = pytest.mark.unit

FILES = ("b.jpg", "a.TIF", "notes.txt", ".hidden.jpg", "deep/c.png", "deep/er/d.webp", "[x].jpg")


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "photos"


def listed(*given: str, stdin: bytes = b"", null: bool = False) -> list[object]:
    check_given(given)
    return list(items_of(given, BytesIO(stdin), null=null))


def test_a_folder_is_all_images_below_it() -> None:
    names = ["[x].jpg", "a.TIF", "b.jpg", "deep/c.png", "deep/er/d.webp"]
    assert listed("photos") == [f"photos/{name}" for name in names]


def test_a_file_is_taken_whatever_its_name() -> None:
    assert listed("photos/notes.txt", "photos/b.jpg") == ["photos/notes.txt", "photos/b.jpg"]
    assert listed("photos/b.jpg", "photos/b.jpg") == ["photos/b.jpg"] * 2


def test_a_pattern_matches_images() -> None:
    assert listed("photos/*") == ["photos/[x].jpg", "photos/a.TIF", "photos/b.jpg"]
    assert listed("photos/**/*.png") == ["photos/deep/c.png"]
    assert len(listed("photos/**")) == 5
    assert listed("photos/[x].jpg") == ["photos/[x].jpg"], "a file of that name is no pattern"


def test_a_list_is_one_name_a_line_and_no_pattern() -> None:
    stdin = b"photos/b.jpg\r\n\nphotos/*.jpg\nphotos/deep\nnowhere.jpg"
    assert listed("-", stdin=stdin) == [
        *("photos/b.jpg", "photos/*.jpg", "photos/deep/c.png", "photos/deep/er/d.webp"),
        "nowhere.jpg",
    ]
    assert listed("-") == []


def test_a_list_with_nul_has_any_name() -> None:
    names = [b"a\nb.jpg", b"c\r", b"\xff.jpg"]
    assert listed("-", stdin=b"\0".join(names), null=True) == [os.fsdecode(n) for n in names]


def test_nul_in_a_list_of_lines_is_said() -> None:
    with pytest.raises(DataError, match="say -0"):
        listed("-", stdin=b"photos/b.jpg\0photos/a.TIF\0")


def test_a_name_that_no_file_has_is_left_to_reading() -> None:
    assert listed("-", stdin=b"x" * 5000) == ["x" * 5000]
    with pytest.raises(DataError, match="there is no image or folder at xxx"):
        check_given(["x" * 5000])


def test_a_long_list_is_drawn_as_it_comes() -> None:
    """Never the whole: what is not drawn is not read."""
    stream = BytesIO(b"photos/b.jpg\n" * 100_000)
    items = items_of(["-"], stream)
    assert next(items) == "photos/b.jpg"
    assert stream.tell() < 100_000
    assert sum(1 for _ in items) == 99_999


def test_links_that_lead_back_end(photos: Path) -> None:
    (photos / "deep/back").symlink_to(photos, target_is_directory=True)
    (photos / "twin").symlink_to(photos / "deep/er", target_is_directory=True)
    assert listed("photos")[-1] == "photos/twin/d.webp"
    assert len(listed("photos")) == 6


def test_a_folder_that_cannot_be_listed_is_no_end(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refusing(folder: Path) -> object:
        if folder == Path("photos/deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    last = listed("photos")[-1]
    assert isinstance(last, Unlisted)
    assert last.place == "photos/deep"
    assert "Permission denied" in last.why


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "no images are given"),
        (["photos", "nowhere.jpg"], "there is no image or folder at nowhere.jpg"),
        (["*.gif"], r"no image matches \*.gif"),
        (["photos/*.txt"], "no image matches"),
        (["bare"], "the folder bare has no image in it"),
    ],
)
def test_what_no_image_can_come_of(given: Sequence[str], sentence: str) -> None:
    Path("bare/inner").mkdir(parents=True)
    with pytest.raises(DataError, match=sentence):
        check_given(given)


def test_a_home_of_nobody() -> None:
    with pytest.raises(ConfigError, match="no such user"):
        check_given(["~nobody-of-that-name/x.jpg"])
