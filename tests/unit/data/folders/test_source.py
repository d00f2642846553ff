import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedrsclip_core.data.folders.source import FolderSource, open_folder
from fedrsclip_core.errors import DataError
from tests.unit.data.helpers import make_folder, save_image

pytestmark = pytest.mark.unit


def test_class_folders_in_name_order(tmp_path: Path) -> None:
    source = FolderSource(make_folder(tmp_path, {"river": 2, "beach": 3}))
    assert source.class_names == ["beach", "river"]
    assert source.labels.tolist() == [0, 0, 0, 1, 1]
    assert source.labels.dtype == np.int64
    assert source.given_parts is None
    assert [source.describe(i) for i in (0, 4)] == ["beach/beach00.png", "river/river01.png"]


def test_federation_gives_the_order_and_a_site_may_lack_classes(tmp_path: Path) -> None:
    source = FolderSource(
        make_folder(tmp_path, {"beach": 1, "river": 2}), ["river", "lake", "beach"]
    )
    assert source.class_names == ["river", "lake", "beach"]
    assert source.labels.tolist() == [0, 0, 2]


def test_folders_may_have_other_names_for_a_class(tmp_path: Path) -> None:
    make_folder(tmp_path, {"denseresidential": 2, "dense_residential": 1, "beach": 1})
    aliases = {"denseresidential": "dense_residential"}
    source = FolderSource(tmp_path, ["beach", "dense_residential"], class_aliases=aliases)
    assert source.labels.tolist() == [0, 1, 1, 1]
    assert FolderSource(tmp_path, class_aliases=aliases).class_names == source.class_names
    with pytest.raises(DataError, match="no class 'denseresidential'"):
        FolderSource(tmp_path, ["beach", "dense_residential"])


def test_near_duplicates_are_named_as_the_folders_are(tmp_path: Path) -> None:
    make_folder(tmp_path, {"golfcourse": 3})
    group = ["golfcourse/golfcourse00", "golfcourse/golfcourse02"]
    source = FolderSource(tmp_path, ["golf_course"], [group], {"golfcourse": "golf_course"})
    assert source.groups == [[0, 2]]


def test_several_data_sets_one_after_the_other(tmp_path: Path) -> None:
    make_folder(tmp_path / "second", {"beach": 1, "lake": 2})
    make_folder(tmp_path / "first", {"lake": 1})
    make_folder(tmp_path / "other", {"unknown": 1})
    source = FolderSource(tmp_path, ["beach", "lake"], datasets=["second", "first"])
    assert source.labels.tolist() == [0, 1, 1, 1]
    assert source.origins is not None
    assert source.origins.tolist() == [0, 0, 0, 1]
    assert source.describe(3) == "first/lake/lake00.png"
    assert FolderSource(tmp_path / "second").origins is None
    with pytest.raises(DataError, match=f"no folder third in {tmp_path}"):
        FolderSource(tmp_path, datasets=["first", "third"])


def test_train_and_test_folders(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", {"beach": 3, "river": 2})
    make_folder(tmp_path / "test", {"beach": 1, "river": 1})
    source = FolderSource(tmp_path)
    assert source.class_names == ["beach", "river"]
    assert source.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert source.given_parts is not None
    assert source.given_parts.tolist() == [0] * 3 + [2] + [0] * 2 + [2]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".tif", ".TIFF"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    source = FolderSource(make_folder(tmp_path, {"beach": 1}, suffix))
    image = source.image(0)
    assert (image.mode, image.size) == ("RGB", (24, 24))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_other_pixels_become_rgb(tmp_path: Path, mode: str) -> None:
    save_image(tmp_path / "beach" / "a.png", mode=mode)
    assert FolderSource(tmp_path).image(0).mode == "RGB"


def test_sixteen_bit_pixels_are_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "beach").mkdir()
    Image.fromarray(np.full((8, 8), 40000, dtype=np.uint16)).save(tmp_path / "beach" / "a.tif")
    with pytest.raises(DataError, match="convert it to 8-bit"):
        FolderSource(tmp_path).image(0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_truncated_image(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / "beach" / f"a{suffix}"
    save_image(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match="not readable as an image"):
        FolderSource(tmp_path).image(0)


def test_file_that_is_no_image(tmp_path: Path) -> None:
    save_image(tmp_path / "beach" / "a.png")
    (tmp_path / "beach" / "a.png").write_bytes(b"hello")
    with pytest.raises(DataError, match="not readable as an image"):
        FolderSource(tmp_path).image(0)


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 1})
    (tmp_path / ".cache").mkdir()
    (tmp_path / "SOURCE.md").write_text("where from")
    (tmp_path / "beach" / "._beach00.png").write_bytes(b"")
    (tmp_path / "beach" / "notes.txt").write_text("")
    assert len(FolderSource(tmp_path)) == 1


def test_stat_key_changes_with_the_file_and_content_hash_with_the_bytes(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 2})
    source = FolderSource(tmp_path)
    key, content = source.stat_key(0), source.content_hash(0)
    assert key != source.stat_key(1)
    assert content != source.content_hash(1)
    file = tmp_path / "beach" / "beach00.png"
    (tmp_path / "copy.png").write_bytes(file.read_bytes())
    (tmp_path / "copy.png").replace(file)
    assert source.stat_key(0) != key
    assert source.content_hash(0) == content


def test_vanished_file_is_unreadable(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 1})
    source = FolderSource(tmp_path)
    (tmp_path / "beach" / "beach00.png").unlink()
    for read in (source.stat_key, source.content_hash, source.image):
        with pytest.raises(DataError, match=r"No such file|not readable"):
            read(0)


def test_near_duplicates_are_found_by_name(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 4, "river": 2}, ".jpg")
    groups = [["beach/beach01", "beach/beach03"], ["river/river00", "river/gone"]]
    assert FolderSource(tmp_path, near_duplicates=groups).groups == [[1, 3]]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data folder .*nowhere"):
        FolderSource(tmp_path / "nowhere")


def test_folder_without_class_folders(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    with pytest.raises(DataError, match="has no class folders"):
        FolderSource(tmp_path)


def test_class_folders_without_images(tmp_path: Path) -> None:
    (tmp_path / "Images" / "beach").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no image in the class folders of .*<class>/<image>"):
        FolderSource(tmp_path)


def test_empty_class_folder_does_not_make_a_class_by_itself(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 3, "river": 0})
    with pytest.raises(DataError, match="class folder river"):
        FolderSource(tmp_path)
    source = FolderSource(tmp_path, ["beach", "river"])  # a site may lack a class
    assert len(source) == 3
    assert source.notes == ["class folders without an image: river"]


def test_class_folder_that_the_federation_does_not_know(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 1, "Rivers": 1})
    with pytest.raises(DataError, match=r"no class 'Rivers'.*move it away.*data\.class_names"):
        FolderSource(tmp_path, ["beach", "lake"])
    with pytest.raises(DataError, match="call it rivers"):
        FolderSource(tmp_path, ["beach", "rivers"])


def test_folder_beside_train_and_test(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", {"beach": 3})
    make_folder(tmp_path / "extra", {"beach": 3})
    with pytest.raises(DataError, match=r"has train and beside it extra: .*move extra away"):
        FolderSource(tmp_path)


def settle(root: Path) -> None:
    """Make folders look as if nothing had happened in them for a minute."""
    before = time.time() - 60
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        os.utime(folder, (before, before))


def open_again(root: Path, class_names: tuple[str, ...] = ()) -> FolderSource:
    return open_folder(root, class_names, (), {}, ())


def test_an_unchanged_folder_is_listed_once(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 2, "river": 1})
    settle(tmp_path)
    assert open_again(tmp_path) is open_again(tmp_path)


@pytest.mark.parametrize("below", ["train", "."])
def test_files_and_classes_that_come_or_go_are_seen(tmp_path: Path, below: str) -> None:
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


def test_a_folder_in_which_something_just_happened_is_listed_again(tmp_path: Path) -> None:
    """Its time of change may stay the same if more happens now."""
    make_folder(tmp_path, {"beach": 2})
    settle(tmp_path)
    os.utime(tmp_path / "beach")
    assert open_again(tmp_path) is not open_again(tmp_path)


def test_other_questions_have_other_answers(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 2})
    settle(tmp_path)
    assert open_again(tmp_path).class_names == ["beach"]
    assert open_again(tmp_path, ("lake", "beach")).class_names == ["lake", "beach"]
    assert open_again(tmp_path).class_names == ["beach"]


def test_a_relative_folder_is_the_one_of_where_the_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, name in (("here", "beach"), ("there", "river")):
        make_folder(tmp_path / place / "images", {name: 1})
        settle(tmp_path / place / "images")
        monkeypatch.chdir(tmp_path / place)
        assert open_again(Path("images")).class_names == [name]


def test_a_folder_that_has_gone_is_said(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"beach": 1})
    settle(root)
    open_again(root)
    root.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="there is no data folder"):
        open_again(root)
