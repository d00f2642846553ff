"""What `fedrsclip data check` says of whole, broken and incomplete data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedrsclip.data.contact_sheet import TILE, draw_sheet
from fedrsclip.data.inspection import inspect
from fedrsclip.data.specs import find_spec
from fedrsclip_core.config.schema import Config, DataConfig
from fedrsclip_core.errors import ConfigError, DataError
from tests.unit.data.helpers import make_folder, shared_data, small_spec

pytestmark = pytest.mark.unit

SPEC = small_spec(images_per_class=12)


def checked(
    root: Path, sheet: Path | None = None, groups: list[list[str]] | None = None, seed: int = 0
) -> tuple[int, list[str]]:
    data = DataConfig("folder", str(root), class_names=list(SPEC.class_names))
    data.near_duplicates = groups or []
    lines: list[str] = []
    return inspect(SPEC, Config(data=data, seed=seed), sheet, lines.append), lines


def whole(tmp_path: Path) -> Path:
    return make_folder(tmp_path, {"golf_course": 12, "lake": 12})


def test_a_whole_data_set_is_fine(tmp_path: Path) -> None:
    status, lines = checked(whole(tmp_path / "a" / "b").parents[1])
    assert status == 0
    assert lines[0] == f"Small in {tmp_path / 'a' / 'b'}"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["ok", "counts:"],
        ["ok", "files:"],
        ["ok", "near-duplicates:"],
        ["ok", "split:"],
    ]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    whole(tmp_path)
    (tmp_path / "lake" / "lake03.png").write_bytes(b"no image")
    status, lines = checked(tmp_path)
    assert status == 1
    assert any(line.startswith("problem  files: lake/lake03.png: not readable") for line in lines)


def test_leftovers_change_nothing_and_other_files_are_named(tmp_path: Path) -> None:
    whole(tmp_path / "Images")
    make_folder(tmp_path / "__MACOSX" / "Images", {"golf_course": 12, "lake": 12})
    (tmp_path / "Images" / "lake" / "Thumbs.db").write_bytes(b"x")
    make_folder(tmp_path / "Images" / "lake" / "@eaDir", {"lake00.png": 1})
    (tmp_path / "Images" / "lake" / "lake.npy").write_bytes(b"x")
    status, lines = checked(tmp_path)
    assert status == 0
    assert [line for line in lines if "not read" in line] == [
        "note     not read: lake/lake.npy is no image by its suffix .npy"
    ]


def test_missing_images_and_classes_are_named(tmp_path: Path) -> None:
    make_folder(tmp_path, {"golf_course": 11, "lake": 0})
    status, lines = checked(tmp_path)
    assert status == 1
    problems = [line for line in lines if line.startswith("problem  counts: class ")]
    assert [line.split("has ")[1].split()[0] for line in problems] == ["11", "0"]


def test_a_split_that_is_impossible_is_a_problem(tmp_path: Path) -> None:
    make_folder(tmp_path, {"golf_course": 12, "lake": 2})
    status, lines = checked(tmp_path)
    assert status == 1
    assert any(line.startswith("problem  split: class lake has 2 images") for line in lines)


def test_a_torn_group_is_named_until_it_is_listed(tmp_path: Path) -> None:
    whole(tmp_path)
    first = tmp_path / "lake" / "lake00.png"
    copies = [f"lake{i:02d}" for i in range(12)]
    for name in copies[1:]:
        (tmp_path / "lake" / f"{name}.png").write_bytes(first.read_bytes())
    # Twelve copies cannot lie in one part by chance; two listed ones keep together.
    status, lines = checked(tmp_path)
    assert status == 0
    listed = [f"lake/{name}" for name in copies]
    assert any(line.strip() == f"not in it: [{', '.join(listed)}]" for line in lines)
    assert any(line.startswith("note     split: seed=0 would tear 1 of 1") for line in lines)
    assert any("torn with it: lake/lake00 (" in line for line in lines)
    _, lines = checked(tmp_path, groups=[listed])
    assert any("and tears 0 with it" in line for line in lines)
    assert any("1 group found, 1 of them in data.near_duplicates" in line for line in lines)


def test_the_sheet_has_a_row_per_class(tmp_path: Path) -> None:
    whole(tmp_path / "images")
    sheet = tmp_path / "new" / "sheet.png"
    _, lines = checked(tmp_path / "images", sheet)
    assert lines[-1] == f"picture: {sheet}"
    with Image.open(sheet) as picture:
        width, height = picture.size
        assert height == 2 * (TILE + 2)
        assert width == 120 + 10 * (TILE + 2)
        row = np.asarray(picture)[TILE + 2 : 2 * TILE + 2, 120 : 120 + TILE]
    assert row.std() > 0


def test_long_names_have_room() -> None:
    tile = Image.new("RGB", (TILE, TILE))
    short, long = (draw_sheet({name: [tile]}).width for name in ("lake", "thermal power" * 3))
    assert short == 120 + TILE + 2 < long


def test_another_class_list_is_refused(tmp_path: Path) -> None:
    config = Config(data=DataConfig("folder", str(tmp_path), class_names=["beach"]))
    with pytest.raises(ConfigError, match=r"data\.class_names are not those of small"):
        inspect(SPEC, config, None, print)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        checked(tmp_path / "none")


def test_uc_merced_has_exactly_its_listed_near_duplicates() -> None:
    spec = find_spec("uc_merced")
    data = DataConfig("folder", str(shared_data("ucmerced")), class_names=list(spec.class_names))
    data.near_duplicates = [list(group) for group in spec.near_duplicates]
    lines: list[str] = []
    assert inspect(spec, Config(data=data), None, lines.append) == 0
    assert "3 groups found, 3 of them in data.near_duplicates, which has 3" in "\n".join(lines)
