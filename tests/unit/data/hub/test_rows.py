from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from fedrsclip_core.config.reading import Reading
from fedrsclip_core.data.hub.source import HubSource
from fedrsclip_core.errors import DataError
from tests.unit.data.helpers import save_image
from tests.unit.data.hub.rows import png, save_columns, spec_of

pytestmark = pytest.mark.unit

LABELS = ["river", "beach", "lake"]
PIXELS = [np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8) for i in range(3)]
COLOURS = datasets.Array3D((6, 8, 3), "uint8")


def source_of(folder: Path, images: list[Any], feature: object = None) -> HubSource:
    columns = {"image": images, "label": LABELS}
    features = {} if feature is None else {"image": feature}
    return HubSource(save_columns(folder / "saved", columns, features))


@pytest.mark.parametrize(
    ("images", "feature"),
    [
        ([png(i) for i in range(3)], None),
        ([{"bytes": png(i), "path": None} for i in range(3)], None),
        ([{"bytes": png(i), "path": "/nowhere/a.png"} for i in range(3)], None),
        ([[{"bytes": png(i), "path": None}] for i in range(3)], datasets.List(datasets.Image())),
        ([{"bytes": png(i), "path": None} for i in range(3)], datasets.Image(decode=False)),
    ],
)
def test_files_in_the_rows(tmp_path: Path, images: list[Any], feature: object) -> None:
    source = source_of(tmp_path, images, feature)
    assert [source.encoded(i) for i in range(3)] == [png(i) for i in range(3)]


@pytest.mark.parametrize(
    ("images", "feature"),
    [
        ([pixels.tolist() for pixels in PIXELS], COLOURS),
        (PIXELS, None),
        ([np.moveaxis(p, -1, 0) for p in PIXELS], datasets.Array3D((3, 6, 8), "uint8")),
    ],
)
def test_pixels_in_the_rows(tmp_path: Path, images: list[Any], feature: object) -> None:
    source = source_of(tmp_path, images, feature)
    for i in range(3):
        np.testing.assert_array_equal(np.asarray(source.image(i)), PIXELS[i])


def test_grey_pixels(tmp_path: Path) -> None:
    grey = [pixels[:, :, 0] for pixels in PIXELS]
    for k, feature in enumerate((datasets.Array2D((6, 8), "uint8"), None)):
        source = source_of(tmp_path / str(k), grey, feature)
        np.testing.assert_array_equal(np.asarray(source.image(1))[:, :, 2], grey[1])


def test_deep_pixels_of_many_bands_are_read_as_bands(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    deep = [np.full((8, 8, 13), 500, np.uint16) for _ in range(3)]
    deep[1][:, :, 3] = 3000
    columns = {"optical": deep, "label": LABELS}
    feature = {"optical": datasets.Array3D((8, 8, 13), "uint16")}
    spec = save_columns(tmp_path / "saved", columns, feature)
    reading = Reading(("4", "3", "2"), ("0", "3000"))
    red = np.asarray(HubSource(spec, reading=reading).image(1))
    assert red[0, 0].tolist() == [255, 42, 42]
    with pytest.raises(DataError, match="bands"):
        HubSource(spec).image(1)


def test_paths_are_below_the_data_set_or_absolute(tmp_path: Path) -> None:
    for i in range(3):
        save_image(tmp_path / "saved" / "images" / f"{i}.png", seed=i)
        save_image(tmp_path / "elsewhere" / f"{i}.png", seed=i)
    expected = [(tmp_path / "elsewhere" / f"{i}.png").read_bytes() for i in range(3)]
    for paths in (
        [f"images/{i}.png" for i in range(3)],
        [str(tmp_path / "elsewhere" / f"{i}.png") for i in range(3)],
    ):
        source = source_of(tmp_path, paths)
        assert [source.encoded(i) for i in range(3)] == expected
    source = source_of(tmp_path, [f"../elsewhere/{i}.png" for i in range(3)])
    with pytest.raises(DataError, match="names a file outside the data set"):
        source.content_hash(0)


def test_paths_of_a_table_beside_the_images(tmp_path: Path) -> None:
    for i in range(3):
        save_image(tmp_path / "images" / f"{i}.png", seed=i)
    rows = "".join(f"images/{i}.png,{LABELS[i]}\n" for i in range(3))
    (tmp_path / "list.csv").write_text(f"file_name,label\n{rows}")
    source = HubSource(spec_of(tmp_path / "list.csv"))
    assert [source.class_names[c] for c in source.labels] == LABELS
    assert source.image(2).size == (24, 24)
    assert source.notes == ["columns found: file_name holds the image, label the class"]


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (None, "has no image"),
        ({"bytes": None, "path": None}, "has no image"),
        ({"bytes": b"", "path": None}, "has no image"),
        ({"bytes": None, "path": "gone.png"}, "cannot be read"),
    ],
)
def test_a_row_without_a_usable_image_says_so(tmp_path: Path, image: Any, sentence: str) -> None:
    good = {"bytes": png(), "path": "good.png"}
    source = source_of(tmp_path, [good, image, good])
    assert source.image(0).mode == "RGB"
    with pytest.raises(DataError, match=sentence):
        source.content_hash(1)


def test_several_images_in_a_row_are_not_one(tmp_path: Path) -> None:
    source = source_of(tmp_path, [[png(), png(1)]] * 3)
    with pytest.raises(DataError, match="has 2 images, but a row must have one"):
        source.image(0)
