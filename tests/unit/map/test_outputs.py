"""The files of a map say the same thing, each as its readers expect it."""

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fedrsclip.map.colours import class_colours
from fedrsclip.map.mapping import Mapped, make, open_job
from fedrsclip.map.outputs.qgis import style
from fedrsclip.map.outputs.regions import labelled
from fedrsclip.map.result import NO_DATA
from tests.unit.map.scenes import COLOURS, LEFT, TOP, UTM, Colours, patchwork, write_scene

pytestmark = pytest.mark.unit

CLASSES = np.random.default_rng(5).integers(0, 3, (8, 6))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapped]:
    folder = tmp_path_factory.mktemp("map")
    pixels = patchwork(CLASSES)[:-4, :-6]
    mask = np.ones(pixels.shape[:2], bool)
    mask[64:, :32] = False
    scene = write_scene(folder / "scene & co.tif", pixels, mask=mask)
    with open_job(Colours(), scene, overlap=0) as job:
        return folder / "out", make(job, folder / "out")


def test_the_raster_of_classes(made: tuple[Path, Mapped]) -> None:
    import rasterio

    folder, mapped = made
    with rasterio.open(folder / "classes.tif") as file:
        assert file.crs.to_string() == UTM
        assert file.transform == Affine(16, 0, LEFT, 0, -16, TOP)
        assert file.bounds == mapped.result.bounds
        assert (file.dtypes, file.nodata) == (("uint8",), 255)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        numbers = file.read(1)
        colours = file.colormap(1)
        assert json.loads(file.tags()["CLASSES"]) == list(COLOURS)
        assert file.tags(1)["CLASS_2"] == "blue"
        assert file.tags()["WINDOW"].startswith("16 px, 16")
        assert "colours, " in file.tags()["CLASSIFIER"]
    expected = np.where(mapped.result.classes == NO_DATA, 255, mapped.result.classes)
    assert np.array_equal(numbers, expected)
    for number, name in enumerate(class_colours(3)):
        assert "#{:02x}{:02x}{:02x}".format(*colours[number][:3]) == name
    assert colours[255][3] == 0


def test_the_raster_of_probabilities(made: tuple[Path, Mapped]) -> None:
    import rasterio

    folder, mapped = made
    with rasterio.open(folder / "probability.tif") as file:
        assert file.transform == Affine(16, 0, LEFT, 0, -16, TOP)
        assert np.isnan(file.nodata)
        assert np.array_equal(file.read(1), mapped.result.probability, equal_nan=True)


def test_many_classes_need_two_bytes(tmp_path: Path) -> None:
    import rasterio

    class Many(Colours):
        def __init__(self) -> None:
            super().__init__()
            self.class_names = [f"class {k}" for k in range(300)]

        def probabilities(self, prepared: object) -> np.ndarray:
            return np.eye(300, dtype=np.float32)[[299] * len(prepared)]  # type: ignore[arg-type]

    scene = write_scene(tmp_path / "s.tif", patchwork(CLASSES))
    with open_job(Many(), scene) as job:
        make(job, tmp_path / "m")
    with rasterio.open(tmp_path / "m" / "classes.tif") as file:
        assert (file.dtypes, file.nodata) == (("uint16",), 65535)
        assert (file.read(1) == 299).all()


def test_regions_areas_and_classes_agree(made: tuple[Path, Mapped]) -> None:
    from rasterio.features import rasterize
    from rasterio.warp import transform_geom

    folder, mapped = made
    features = json.loads((folder / "regions.geojson").read_text())["features"]
    areas = dict.fromkeys(COLOURS, 0.0)
    shapes = []
    for feature in features:
        about = feature["properties"]
        areas[about["class"]] += about["area_km2"]
        outer, *holes = feature["geometry"]["coordinates"]
        assert turning(outer) > 0
        assert all(turning(hole) < 0 for hole in holes)
        here = transform_geom("EPSG:4326", UTM, feature["geometry"])
        shapes.append((here, COLOURS.index(about["class"])))
        assert 0 < about["probability"] <= 1
    drawn = rasterize(
        shapes, mapped.result.classes.shape, NO_DATA, transform=Affine(16, 0, LEFT, 0, -16, TOP)
    )
    # The last row and column reach beyond the scene by less than half; regions do not.
    assert np.array_equal(drawn, mapped.result.classes)
    assert sum(f["properties"]["cells"] for f in features) == (mapped.result.classes >= 0).sum()
    with (folder / "areas.csv").open() as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    for number, name in enumerate(COLOURS):
        assert float(rows[name]["km2"]) == pytest.approx(areas[name], abs=2e-6)
        assert int(rows[name]["cells"]) == (mapped.result.classes == number).sum()
    assert int(rows["(no data)"]["cells"]) == (mapped.result.classes == NO_DATA).sum()
    assert sum(float(rows[name]["share"]) for name in COLOURS) == pytest.approx(1, abs=1e-5)
    total = sum(float(row["km2"]) for row in rows.values())
    assert total == pytest.approx(124 * 90 / 1e6 / 0.9996**2, rel=1e-3)


def turning(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    x, y = x - x[0], y - y[0]
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))


@given(
    arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-1, 2))
)
def test_labels_are_those_of_a_flood(classes: np.ndarray) -> None:
    found = labelled(classes)
    expected = np.full(classes.shape, -1)
    for start in range(classes.size):
        pending = [divmod(start, classes.shape[1])]
        while pending:
            place = pending.pop()
            if expected[place] >= 0:
                continue
            expected[place] = start
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                y, x = place[0] + dy, place[1] + dx
                inside = 0 <= y < classes.shape[0] and 0 <= x < classes.shape[1]
                if inside and classes[y, x] == classes[place]:
                    pending.append((y, x))
    assert np.array_equal(found, expected)


def test_the_style_is_what_qgis_reads() -> None:
    text = style(["forest", 'A & "B" <c>', "null\0byte"], class_colours(3))
    entries = ElementTree.fromstring(text).findall(".//paletteEntry")
    assert [entry.get("value") for entry in entries] == ["0", "1", "2"]
    assert [entry.get("color") for entry in entries] == class_colours(3)
    assert [entry.get("label") for entry in entries] == ["forest", 'A & "B" <c>', "null byte"]
    assert ElementTree.fromstring(text).find(".//rasterrenderer").get("type") == "paletted"  # type: ignore[union-attr]


def test_the_quicklook_shows_scene_and_classes(made: tuple[Path, Mapped]) -> None:
    folder, mapped = made
    with Image.open(folder / "quicklook.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    seen = {tuple(colour) for colour in pixels.reshape(-1, 3)[::7].tolist()}
    wanted = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    wanted += [tuple(int(c[k : k + 2], 16) for k in (1, 3, 5)) for c in mapped.result.colours]
    assert set(wanted) <= seen


def test_the_summary_names_no_folder(made: tuple[Path, Mapped]) -> None:
    folder, mapped = made
    text = (folder / "map.json").read_text()
    summary = json.loads(text)
    assert summary["scene"] == "scene & co.tif"
    assert str(folder.parent) not in text
    assert [one["name"] for one in summary["classes"]] == list(COLOURS)
    assert summary["windows"] == mapped.progress.counts
    for file in folder.iterdir():
        assert str(folder.parent).encode() not in file.read_bytes(), file.name


def test_a_turned_scene(tmp_path: Path) -> None:
    import rasterio

    turned = Affine.translation(LEFT, TOP) @ Affine.rotation(30) @ Affine.scale(2, -2)
    scene = write_scene(tmp_path / "s.tif", patchwork(CLASSES), transform=turned)
    with open_job(Colours(), scene, overlap=0) as job:
        found = make(job, tmp_path / "m").result
    with rasterio.open(tmp_path / "m" / "classes.tif") as file:
        assert file.transform.almost_equals(turned @ Affine.scale(16))
    assert found.transform == pytest.approx(tuple(turned @ Affine.scale(16))[:6])
    assert found.cell_size == pytest.approx((32, 32))
    corners = np.array([turned @ corner for corner in ((0, 0), (96, 0), (96, 128), (0, 128))])
    expected = (*corners.min(axis=0), *corners.max(axis=0))
    assert found.bounds == pytest.approx(expected)


def test_colours_differ_and_stay() -> None:
    assert class_colours(40)[:7] == class_colours(7)
    assert len(set(class_colours(100))) == 100
    assert class_colours(500)[:179] == class_colours(500)[179:358]
