"""Archives are recognised, a wrong one is refused in a sentence, and nothing is half made."""

import os
import shutil
from pathlib import Path

import pytest

from fedrsclip.data import prepare
from fedrsclip.data.layout import deviations, find_layout, list_images
from fedrsclip.data.specs import SPEC_NAMES, find_spec
from fedrsclip_core.data.hub.source import HubSource
from fedrsclip_core.errors import ConfigError, DataError
from tests.unit.data.helpers import make_folder, small_spec
from tests.unit.data.hub.rows import make_rows, spec_of

pytestmark = pytest.mark.unit

SPEC = small_spec()


def archive(folder: Path, **counts: int) -> Path:
    return make_folder(folder, {"golf_course": 4, "lake": 4} | counts)


@pytest.mark.parametrize("below", ["", "Images", "Small/Images"])
def test_class_folders_are_found_two_levels_deep(tmp_path: Path, below: str) -> None:
    archive(tmp_path / below)
    layout = find_layout(SPEC, tmp_path)
    assert layout.root == tmp_path / below
    assert {name: len(images) for name, images in list_images(layout).items()} == {
        "golf_course": 4,
        "lake": 4,
    }
    assert deviations(SPEC, layout) == []


@pytest.mark.parametrize("name", SPEC_NAMES)
def test_the_archives_folder_is_within_reach(tmp_path: Path, name: str) -> None:
    spec = find_spec(name)
    root = tmp_path / spec.archive
    for class_name in spec.class_names:
        (root / class_name).mkdir(parents=True)
    assert find_layout(spec, tmp_path).root == root
    others = [find_spec(other) for other in SPEC_NAMES if other != name]
    for other in others:
        with pytest.raises(DataError, match="neither"):
            find_layout(other, tmp_path)


def test_three_levels_are_too_deep(tmp_path: Path) -> None:
    archive(tmp_path / "a" / "b" / "c")
    with pytest.raises(DataError, match=r"neither .* its archive has them in Small/Images"):
        find_layout(SPEC, tmp_path)


def test_two_places_are_named(tmp_path: Path) -> None:
    archive(tmp_path / "train")
    archive(tmp_path / "test")
    with pytest.raises(DataError, match=r"test and .*train both have"):
        find_layout(SPEC, tmp_path)


def test_prepared_files_are_the_archives(tmp_path: Path) -> None:
    make_folder(tmp_path / "in" / "Images", {"Golf Course": 4, "LAKE": 4}, ".tif")
    out = tmp_path / "new" / "out"
    assert prepare.prepare_folder(SPEC, tmp_path / "in", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["golf_course", "lake"]
    first = out / "golf_course" / "Golf Course00.tif"
    assert first.samefile(tmp_path / "in" / "Images" / "Golf Course" / first.name)
    assert len(list(out.rglob("*.tif"))) == 8
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert out.stat().st_mode & 0o777 == 0o755


def test_an_archive_as_a_mac_and_a_network_disk_leave_it(tmp_path: Path) -> None:
    """What they leave is neither a second place with the classes nor an image."""
    archive(tmp_path / "in" / "Small" / "Images")
    for name in ("golf_course", "lake"):
        (tmp_path / "in" / "Small" / "Images" / name / "Thumbs.db").write_bytes(b"x")
        for root in ("__MACOSX/Small/Images", "@eaDir", "#recycle/Small"):
            place = tmp_path / "in" / root / name
            place.mkdir(parents=True)
            (place / f"._{name}00.png").write_bytes(b"x")
            (place / f"{name}00.png").write_bytes(b"x")
    assert prepare.prepare_folder(SPEC, tmp_path / "in", tmp_path / "out") == 0
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 8


def test_files_are_copied_where_links_are_impossible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    archive(tmp_path / "in")
    assert prepare.prepare_folder(SPEC, tmp_path / "in", tmp_path / "out") == 8
    copy, original = (tmp_path / name / "lake" / "lake00.png" for name in ("out", "in"))
    assert copy.read_bytes() == original.read_bytes()
    assert not copy.samefile(original)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"lake": 3}, "class lake of Small has 3 images"),
        ({"lake": 5, "golf_course": 0}, r"class golf_course .* has 0 .* \(1 more of this kind\)"),
    ],
)
def test_wrong_counts_are_refused(tmp_path: Path, counts: dict[str, int], words: str) -> None:
    archive(tmp_path / "in", **counts)
    with pytest.raises(DataError, match=words):
        prepare.prepare_folder(SPEC, tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    spec = small_spec(class_names=("a", "b", "c", "d"))
    make_folder(tmp_path / "in", {"a": 4, "b": 4, "c": 4, "d": 4, "more": 1})
    with pytest.raises(DataError, match=r"more is no class of Small: move it away$"):
        prepare.prepare_folder(spec, tmp_path / "in", tmp_path / "out")


def test_what_is_at_the_target_stays(tmp_path: Path) -> None:
    archive(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="new or empty folder"):
        prepare.prepare_folder(SPEC, tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / "mine").unlink()
    assert prepare.prepare_folder(SPEC, tmp_path / "in", tmp_path / "out") == 0


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        if target.name == "lake02.png":
            raise OSError(28, "No space left on device")
        target.symlink_to(source)

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copyfile", full)
    archive(tmp_path / "in")
    with pytest.raises(OSError, match="No space left"):
        prepare.prepare_folder(SPEC, tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def hub_copy(tmp_path: Path, labels: list[int], names: list[str]) -> HubSource:
    import datasets

    rows = make_rows(tmp_path / "png", labels, datasets.ClassLabel(names=names))
    rows.save_to_disk(tmp_path / "saved")
    return HubSource(spec_of(tmp_path / "saved"))


def test_rows_of_the_hub_become_files(tmp_path: Path) -> None:
    source = hub_copy(tmp_path, [1, 0] * 4, ["golf course", "Lake"])
    prepare.write_rows(SPEC, source, tmp_path / "out")
    files = sorted(str(p.relative_to(tmp_path / "out")) for p in tmp_path.glob("out/*/*"))
    numbers = range(1, 5)
    assert files == [f"{c}/{c}_row{n:05d}.png" for c in SPEC.class_names for n in numbers]
    second = (tmp_path / "out" / "lake" / "lake_row00002.png").read_bytes()
    assert second == (tmp_path / "png" / "0-2.png").read_bytes()


def test_rows_that_are_not_the_data_set_are_refused(tmp_path: Path) -> None:
    source = hub_copy(tmp_path, [1, 0, 1], ["golf course", "pond"])
    with pytest.raises(DataError, match=r"'pond' of .* is no class of Small"):
        prepare.write_rows(SPEC, source, tmp_path / "out")
    few = small_spec(class_names=("golf_course", "pond"))
    with pytest.raises(DataError, match="class golf_course of Small has 1 images"):
        prepare.write_rows(few, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_copy_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no copy of Small on the hub is known"):
        prepare.prepare_hub(SPEC, tmp_path / "out")


def test_no_network_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def unreachable(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    spec = small_spec(hub_id="owner/small")
    with pytest.raises(DataError, match=r"owner/small cannot be loaded .* give --from an unpacked"):
        prepare.prepare_hub(spec, tmp_path / "out")
    assert not (tmp_path / "out").exists()
