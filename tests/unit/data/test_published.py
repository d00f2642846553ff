import json
from pathlib import Path

import pytest

from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.schema import Config
from fedrsclip_core.data.federated import open_images, split_source
from fedrsclip_core.data.splits import Split
from fedrsclip_core.errors import ConfigError, DataError
from tests.unit.data.helpers import make_folder

pytestmark = pytest.mark.unit

CLASSES = {"beach": 6, "river": 6}
PARTS = {"train": (0, 1, 5), "val": (2,), "test": (3, 4)}
"""Numbers of each class's images."""


def write_lists(folder: Path, name: str, suffix: str = ".tif") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, numbers in PARTS.items():
        lines = [f"{c}{i:02d}{suffix}" for c in CLASSES for i in numbers]
        (folder / f"{name}-{part}.txt").write_text("\n".join(lines) + "\n")


def split_of(path: Path, *overrides: str, seed: int = 0) -> Split:
    config: Config = compose(
        [
            "data=folder",
            "data.split=published",
            "data.split_name=scenes",
            f"seed={seed}",
            *overrides,
        ]
    )
    return split_source(config, open_images(config, path, partition_id=0), [])


@pytest.mark.parametrize("below", ["", "Images", "Scenes/Images"])
def test_the_lists_lie_beside_the_images_or_above(tmp_path: Path, below: str) -> None:
    make_folder(tmp_path / below, CLASSES)
    write_lists(tmp_path, "scenes")
    splits = [split_of(tmp_path / below, seed=seed) for seed in (0, 1)]
    for split in splits:
        assert split.train.tolist() == [0, 1, 5, 6, 7, 11]
        assert split.val.tolist() == [2, 8]
        assert split.test.tolist() == [3, 4, 9, 10]


def test_near_duplicates_stay_where_the_publishers_put_them(tmp_path: Path) -> None:
    make_folder(tmp_path, CLASSES)
    write_lists(tmp_path, "scenes")
    config = compose(["data=folder", "data.split=published", "data.split_name=scenes"])
    source = open_images(config, tmp_path, partition_id=0)
    assert split_source(config, source, [(0, 3)]).train.tolist() == [0, 1, 5, 6, 7, 11]


def test_one_file_of_all_parts(tmp_path: Path) -> None:
    make_folder(tmp_path / "images", CLASSES)
    content = {
        part: [[f"{c}/{c}{i:02d}.jpg", k, c] for k, c in enumerate(CLASSES) for i in numbers]
        for part, numbers in PARTS.items()
    }
    (tmp_path / "split.json").write_text(json.dumps(content))
    split = split_of(tmp_path / "images", "data.split_name=split.json")
    assert split.test.tolist() == [3, 4, 9, 10]
    (tmp_path / "split.json").write_text(json.dumps({"train": [[]]}))
    with pytest.raises(DataError, match="is no split: it must have train, val and test"):
        split_of(tmp_path / "images", "data.split_name=split.json")


def test_missing_lists_are_named_with_where_they_come_from(tmp_path: Path) -> None:
    make_folder(tmp_path / "images", CLASSES)
    with pytest.raises(DataError, match=r"needs scenes-train\.txt and scenes-val\.txt and "):
        split_of(tmp_path / "images")
    write_lists(tmp_path, "scenes")
    (tmp_path / "scenes-val.txt").unlink()
    with pytest.raises(DataError, match=r"needs scenes-val\.txt .* download it from https"):
        split_of(tmp_path / "images")


def test_images_that_no_list_has_are_counted(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 6, "river": 8})
    write_lists(tmp_path, "scenes")
    with pytest.raises(DataError, match=r"2 of 14 images are not in the lists scenes"):
        split_of(tmp_path)


def test_an_image_is_of_one_part(tmp_path: Path) -> None:
    make_folder(tmp_path, CLASSES)
    write_lists(tmp_path, "scenes")
    with (tmp_path / "scenes-test.txt").open("a") as file:
        file.write("beach00.tif\n")
    with pytest.raises(DataError, match="have beach00 in train and in test"):
        split_of(tmp_path)


def test_a_part_without_images_is_not_drawn(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 3, "river": 3})
    write_lists(tmp_path, "scenes")
    with pytest.raises(DataError, match="no image here is one of test"):
        split_of(tmp_path)


@pytest.mark.parametrize("name", ["optimal31", "aid", "folder"])
def test_data_sets_without_a_published_split_say_so(name: str) -> None:
    with pytest.raises(ConfigError, match="no published split of these images is known"):
        compose([f"data={name}", "data.split=published"])


@pytest.mark.parametrize(
    ("name", "lists"),
    [("uc_merced", "uc_merced"), ("nwpu_resisc45", "resisc45"), ("eurosat", "eurosat")],
)
def test_known_data_sets_know_their_lists(name: str, lists: str) -> None:
    data = compose([f"data={name}", "data.split=published"]).data
    assert (data.split, data.split_name) == ("published", lists)
    assert compose([f"data={name}"]).data.split == "seeded"
