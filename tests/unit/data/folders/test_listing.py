"""What is skipped: leftovers and documents never count, everything else is named and counted."""

import os
from pathlib import Path

import pytest

from fedrsclip_core.config.schema import DataConfig
from fedrsclip_core.data.folders.source import FolderSource
from fedrsclip_core.data.sources import open_source
from fedrsclip_core.errors import DataError
from tests.unit.data.helpers import make_folder, save_image

pytestmark = pytest.mark.unit

LEFTOVER_FOLDERS = (
    "__MACOSX", ".AppleDouble", ".Spotlight-V100", ".Trashes", "@eaDir", "#recycle", "#snapshot",
    "@Recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", ".ipynb_checkpoints",
    ".git", ".svn", "CVS", "__pycache__", ".Trash-1000",
)  # fmt: skip
LEFTOVER_FILES = (
    ".DS_Store", "._beach00.png", "Icon\r", "Thumbs.db", "ehthumbs.db", "desktop.ini",
    "Desktop.INI", "~$notes.docx", "beach00.png@SynoEAStream", "beach00.png:Zone.Identifier",
)  # fmt: skip
DOCUMENTS = (
    "readme.txt", "README", "LICENSE", "labels.csv", "paper.pdf", "beach00.tfw", "beach00.PGW",
    "beach00.png.aux.xml", "beach00.xml", "beach00.tif.ovr", "beach00.tif.msk", "beach00.jgw",
    "beach00.j2w", "beach00.prj", "beach00.geojson",
)  # fmt: skip


def opened(root: Path, **values: object) -> FolderSource:
    data = DataConfig("folder", **values)  # type: ignore[arg-type]
    source = open_source(data, root, seed=0, partition_id=0)
    assert isinstance(source, FolderSource)
    return source


@pytest.mark.parametrize("below", ["", "beach", "train", "train/beach"])
def test_leftovers_and_documents_never_count(tmp_path: Path, below: str) -> None:
    root = tmp_path / "train" if below.startswith("train") else tmp_path
    make_folder(root, {"beach": 2, "lake": 1})
    place = tmp_path / below
    for name in LEFTOVER_FOLDERS:
        save_image(place / name / "beach" / "a.png")
        save_image(place / name / "b.png")
    for name in (*LEFTOVER_FILES, *DOCUMENTS):
        (place / name).write_bytes(b"x")
    source = opened(tmp_path)
    assert source.class_names == ["beach", "lake"]
    assert len(source) == 3
    assert source.left_out == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a.npy", "is no image by its suffix .npy"),
        ("a.jpg.part", "is no image by its suffix .part"),
        ("a.zip", "is no image by its suffix .zip"),
        ("a", "has no suffix"),
    ],
)
def test_other_files_are_counted_and_named(tmp_path: Path, name: str, why: str) -> None:
    make_folder(tmp_path, {"beach": 10, "lake": 10})
    (tmp_path / "lake" / name).write_bytes(b"x")
    assert opened(tmp_path).left_out == [(f"lake/{name}", why)]
    with pytest.raises(
        DataError, match=rf"1 of 21 files are not read, .*=0\.04.*lake/{name} {why}"
    ):
        opened(tmp_path, max_unreadable=0.04)


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 30})
    (tmp_path / "beach" / "gone.png").symlink_to("/nowhere/a.png")
    (tmp_path / "beach" / "circle.png").symlink_to("circle.png")
    why = "is a link to what is not there"
    assert opened(tmp_path, max_unreadable=0.1).left_out == [
        ("beach/circle.png", why), ("beach/gone.png", why),
    ]  # fmt: skip
    with pytest.raises(DataError, match="2 of 32"):
        opened(tmp_path)


def test_links_beside_the_class_folders_that_lead_nowhere(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 30})
    (tmp_path / "gone.png").symlink_to("/nowhere/a.png")
    (tmp_path / "readme.txt").symlink_to("/nowhere/readme.txt")
    assert opened(tmp_path).left_out == [("gone.png", "is a link to what is not there")]


def test_a_folder_that_goes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, {"beach": 3})
    known = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        if path.name == "beach":
            raise OSError(116, "Stale file handle")
        return known(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(DataError, match=r"beach cannot be listed \(Stale file handle\)"):
        opened(tmp_path)


@pytest.mark.parametrize("place", ["lake", "forest.v2"])
@pytest.mark.parametrize("part", ["", "train"])
def test_a_class_folder_on_a_disk_that_is_gone(tmp_path: Path, place: str, part: str) -> None:
    make_folder(tmp_path / part, {"beach": 30})
    (tmp_path / part / place).symlink_to(f"/nowhere/{place}")
    with pytest.raises(
        DataError, match=rf"{place} is a link to /nowhere/{place}, .*mount the disk"
    ):
        opened(tmp_path, max_unreadable=1.0)


@pytest.mark.parametrize("broken", ["lake", "lake/deep"])
def test_a_folder_that_cannot_be_listed(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, {"beach": 2, "lake": 2})
    save_image(tmp_path / "lake" / "deep" / "a.png")
    known = os.scandir

    def scandir(path: Path) -> object:
        if Path(path) == tmp_path / broken:
            raise PermissionError(13, "Permission denied")
        return known(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=rf"{broken} cannot be listed \(Permission denied\)"):
        opened(tmp_path)


def test_what_is_no_file(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 30})
    os.mkfifo(tmp_path / "beach" / "pipe.png")
    assert opened(tmp_path).left_out == [("beach/pipe.png", "is no file")]


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    make_folder(tmp_path / "disk", {"lake": 3, "beach": 1})
    (tmp_path / "data" / "beach").mkdir(parents=True)
    (tmp_path / "data" / "lake").symlink_to(tmp_path / "disk" / "lake")
    (tmp_path / "data" / "beach" / "a.png").symlink_to(tmp_path / "disk" / "beach" / "beach00.png")
    assert opened(tmp_path / "data").labels.tolist() == [0, 1, 1, 1]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 30})
    (tmp_path / "beach" / "again").symlink_to(tmp_path)
    source = opened(tmp_path)
    assert len(source) == 30
    assert source.left_out == [("beach/again", f"is the same folder as {tmp_path}")]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match="are the same folder"):
        opened(tmp_path / "a")


@pytest.mark.parametrize("second", ["woods", "test/beach"])
def test_one_folder_cannot_be_two(tmp_path: Path, second: str) -> None:
    root = tmp_path / "train" if "/" in second else tmp_path
    make_folder(root, {"beach": 3})
    (tmp_path / second).parent.mkdir(exist_ok=True)
    (tmp_path / second).symlink_to(root / "beach")
    with pytest.raises(DataError, match=r"are the same folder: take one of the links away"):
        opened(tmp_path)


def test_a_data_path_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "images.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match="is an archive: unpack it"):
        opened(tmp_path / "images.tar.gz")
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(DataError, match=r"is a file: give data\.path a folder"):
        opened(tmp_path / "notes.txt")
    (tmp_path / "circle").symlink_to("circle")
    for absent in ("circle", "x" * 300):
        with pytest.raises(DataError, match="there is no data folder"):
            opened(tmp_path / absent)
