from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from fedrsclip_core.data.hub.source import HubSource
from fedrsclip_core.errors import DataError
from tests.unit.data.hub.rows import NAMES, png, save_columns

pytestmark = pytest.mark.unit

IMAGES = [png(i) for i in range(6)]
WORDS = ["river", "beach", "lake"] * 2
NUMBERS = [0, 1, 2] * 2
SEASONS = datasets.ClassLabel(names=["wet", "dry"])


def classes_of(source: HubSource) -> list[str]:
    return [source.class_names[c] for c in source.labels]


@pytest.mark.parametrize(
    ("columns", "features"),
    [
        ({"img": IMAGES, "labels": NUMBERS}, {"labels": datasets.ClassLabel(names=NAMES)}),
        ({"picture": IMAGES, "scene_class": WORDS, "id": NUMBERS}, {}),
        ({"image": IMAGES, "category": WORDS, "caption": WORDS[::-1]}, {}),
        ({"jpg": IMAGES, "json": [{"label": word, "id": 7} for word in WORDS]}, {}),
        ({"image": IMAGES, "label": [[word] for word in WORDS]}, {}),
        ({"image": IMAGES, "label": NUMBERS, "label_name": WORDS}, {}),
        ({"image": IMAGES, "class": NUMBERS, "class_name": WORDS}, {}),
        (
            {"image": IMAGES, "label": NUMBERS, "season": [0, 1] * 3},
            {"label": datasets.ClassLabel(names=NAMES), "season": SEASONS},
        ),
        (
            {"image": IMAGES, "mask": IMAGES[::-1], "label": WORDS},
            {"image": datasets.Image(), "mask": datasets.Image()},
        ),
        ({"img": IMAGES, "boxes": [[[0.5, 1.0]]] * 6, "label": WORDS}, {"img": datasets.Image()}),
    ],
)
def test_columns_are_found_where_one_can_be_meant(
    tmp_path: Path, columns: dict[str, list[Any]], features: dict[str, Any]
) -> None:
    source = HubSource(save_columns(tmp_path / "saved", columns, features))
    assert classes_of(source) == WORDS
    assert [source.encoded(i) for i in range(6)] == IMAGES


@pytest.mark.parametrize(
    ("columns", "features", "sentence"),
    [
        (
            {"before": IMAGES, "after": IMAGES, "label": WORDS},
            {},
            r"several columns of .* could hold an image: set data\.image_column to one of before",
        ),
        (
            {"image": IMAGES, "target": NUMBERS, "season": [0, 1] * 3},
            {"season": SEASONS},
            r"several columns .* a class: set data\.label_column to one of season, target",
        ),
        (
            {"image": IMAGES, "class": WORDS, "category": WORDS[::-1]},
            {},
            r"could hold a class: set data\.label_column to one of class, category",
        ),
        ({"image": IMAGES, "caption": WORDS}, {}, "no column of .* plainly holds a class: set"),
        ({"image": IMAGES}, {}, "has no column beside the image that could hold a class"),
        ({"label": WORDS, "width": NUMBERS}, {}, "no column of .* plainly holds an image: set"),
        ({"image": NUMBERS, "label": WORDS}, {}, "no column of .* plainly holds an image"),
        (
            {"image": IMAGES, "label": [["river", "lake"]] * 6},
            {},
            "rows with 2 classes, but here an image is of one class",
        ),
        ({"image": IMAGES, "label": [[0, 1, 0]] * 6}, {}, "rows with 3 classes"),
        ({"image": IMAGES, "label": [0.5] * 6}, {}, r"has 0\.5, which is no class"),
    ],
)
def test_columns_that_are_not_plain_are_named(
    tmp_path: Path, columns: dict[str, list[Any]], features: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        HubSource(save_columns(tmp_path / "saved", columns, features), NAMES)


@pytest.mark.parametrize(
    ("labels", "feature"),
    [
        (NUMBERS, datasets.Value("int64")),
        ([float(n) for n in NUMBERS], datasets.Value("float32")),
        ([str(n) for n in NUMBERS], datasets.Value("string")),
        ([[n] for n in NUMBERS], datasets.List(datasets.Value("int8"))),
        (NUMBERS, datasets.ClassLabel(num_classes=3)),
    ],
)
def test_numbers_are_named_by_the_federations_classes_in_order(
    tmp_path: Path, labels: list[Any], feature: object
) -> None:
    columns = {"image": IMAGES, "label": labels}
    spec = save_columns(tmp_path / "saved", columns, {"label": feature})
    with pytest.raises(DataError, match=r"numbers for classes \(0, 1, 2\), but CLIP needs words"):
        HubSource(spec)
    source = HubSource(spec, NAMES)
    assert classes_of(source) == WORDS
    assert source.notes == [
        "classes are numbers, in the order of data.class_names: 0 is river, 1 is beach, 2 is lake"
    ]
    aliases = {"0": "lake", "1": "river", "2": "beach"}
    assert classes_of(HubSource(spec, (), aliases)) == ["lake", "river", "beach"] * 2
    with pytest.raises(DataError, match=r"has 2 for a class, but data\.class_names has 2 names"):
        HubSource(spec, NAMES[:2])


def test_numbers_that_count_from_1_are_not_shifted_in_silence(tmp_path: Path) -> None:
    columns = {"image": IMAGES, "label": [1, 2, 3] * 2}
    spec = save_columns(tmp_path / "saved", columns)
    with pytest.raises(DataError, match=r"has 3 for a class, .* for the numbers from 0 to 2"):
        HubSource(spec, NAMES)
    aliases = {"1": "river", "2": "beach", "3": "lake"}
    assert classes_of(HubSource(spec, NAMES, aliases)) == WORDS


def test_truth_values_are_numbers(tmp_path: Path) -> None:
    columns = {"image": IMAGES, "label": [True, False] * 3}
    source = HubSource(save_columns(tmp_path / "saved", columns), ["land", "water"])
    assert classes_of(source) == ["water", "land"] * 3


def test_names_beside_numbers_must_be_one_for_each(tmp_path: Path) -> None:
    columns = {"image": IMAGES, "label": NUMBERS, "label_name": ["river", "beach", "river"] * 2}
    with pytest.raises(DataError, match="numbers for classes"):
        HubSource(save_columns(tmp_path / "saved", columns))


def test_classes_are_in_the_order_of_the_data_sets_own_numbers(tmp_path: Path) -> None:
    columns = {"image": IMAGES, "label": np.array(NUMBERS).tolist(), "label_name": WORDS}
    source = HubSource(save_columns(tmp_path / "saved", columns), ["lake", "beach", "river"])
    assert source.class_names == ["lake", "beach", "river"]
    assert classes_of(source) == WORDS
