import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedrsclip_core.data import opened_folder
from fedrsclip_core.data.folder import FolderSource
from fedrsclip_core.errors import DataError
from tests.unit.data.helpers import make_folder, save_image

pytestmark = pytest.mark.unit


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FolderSource]]:
    """Every source that was made, from an empty process cache."""
    made: list[FolderSource] = []

    def make(*args: object) -> FolderSource:
        made.append(FolderSource(*args))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(opened_folder, "FolderSource", make)
    opened_folder._NEWEST.clear()
    yield made
    opened_folder._NEWEST.clear()


def settle(root: Path) -> None:
    """Make folders look as if nothing had happened in them for a minute."""
    before = time.time() - 60
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        os.utime(folder, (before, before))


def open_again(root: Path, class_names: tuple[str, ...] = ()) -> FolderSource:
    return opened_folder.open_folder(root, class_names, (), {}, ())


def test_an_unchanged_folder_is_listed_once(tmp_path: Path, listings: list[FolderSource]) -> None:
    make_folder(tmp_path, {"beach": 2, "river": 1})
    settle(tmp_path)
    assert open_again(tmp_path) is open_again(tmp_path)
    assert len(listings) == 1


@pytest.mark.parametrize("below", ["train", "."])
def test_files_and_classes_that_come_or_go_are_seen(
    tmp_path: Path, listings: list[FolderSource], below: str
) -> None:
    root = tmp_path / below
    make_folder(root, {"beach": 2, "river": 1})
    settle(tmp_path)
    assert len(open_again(tmp_path)) == 3
    save_image(root / "river" / "another.png", 1)
    assert len(open_again(tmp_path)) == 4
    settle(tmp_path)
    assert len(open_again(tmp_path)) == 4
    (root / "beach" / "beach00.png").unlink()
    assert len(open_again(tmp_path)) == 3
    settle(tmp_path)
    assert open_again(tmp_path).class_names == ["beach", "river"]
    make_folder(root, {"lake": 1})
    assert open_again(tmp_path).class_names == ["beach", "lake", "river"]
    assert len(listings) == 6


def test_a_folder_in_which_something_just_happened_is_listed_again(
    tmp_path: Path, listings: list[FolderSource]
) -> None:
    """Its time of change may stay the same if more happens now."""
    make_folder(tmp_path, {"beach": 2})
    settle(tmp_path)
    os.utime(tmp_path / "beach")
    assert open_again(tmp_path) is not open_again(tmp_path)


def test_other_questions_have_other_answers(tmp_path: Path, listings: list[FolderSource]) -> None:
    make_folder(tmp_path, {"beach": 2})
    settle(tmp_path)
    assert open_again(tmp_path).class_names == ["beach"]
    assert open_again(tmp_path, ("lake", "beach")).class_names == ["lake", "beach"]
    assert open_again(tmp_path).class_names == ["beach"]


def test_a_relative_folder_is_the_one_of_where_the_process_is(
    tmp_path: Path, listings: list[FolderSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, name in (("here", "beach"), ("there", "river")):
        make_folder(tmp_path / place / "images", {name: 1})
        settle(tmp_path / place / "images")
        monkeypatch.chdir(tmp_path / place)
        assert open_again(Path("images")).class_names == [name]


def test_a_folder_that_has_gone_is_said(tmp_path: Path, listings: list[FolderSource]) -> None:
    root = make_folder(tmp_path / "images", {"beach": 1})
    settle(root)
    open_again(root)
    root.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="there is no data folder"):
        open_again(root)
