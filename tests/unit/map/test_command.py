"""`fedrsclip map`: what is wrong is said in a sentence, and nothing half written stays."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from PIL import Image

from fedrsclip.classifier import options as classifier_options
from fedrsclip.cli import main
from tests.unit.data.imagery.files import saved
from tests.unit.map.scenes import Colours, patchwork, write_scene
from tests.unit.map.test_mapping import CLASSES, damage

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> Colours:
    classifier = Colours()
    monkeypatch.setattr(classifier_options, "open_classifier", lambda options: classifier)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    return classifier


def test_says_what_it_does_and_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "s.tif", patchwork(CLASSES))
    out = tmp_path / "m"
    assert main(["map", "run", str(scene), f"out={out}", "overlap=0", "--batch-size", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("colours, ")
    assert lines[1] == (
        "s.tif: 144 x 112 pixels, EPSG:32632, 63 windows of 16 pixels (16.01 m) every 16"
    )
    assert {line.split()[0] for line in lines[2:5]} == {"red", "green", "blue"}
    assert lines[5] == str(out / "map.html")
    assert sorted(path.name for path in out.iterdir()) == [
        *("areas.csv", "classes.qml", "classes.tif", "map.html", "map.json"),
        *("probability.tif", "quicklook.png", "regions.geojson"),
    ]
    assert main(["map", "run", str(scene), "overlap=0", f"out={out}"]) == 0
    assert capsys.readouterr().out == f"{out} is complete: it holds this map already\n"


def test_keys_may_stand_anywhere_and_the_scene_may_be_read_in_its_own_way(
    tmp_path: Path, colours: Colours
) -> None:
    deep = np.zeros((32, 32, 4), np.uint16)
    deep[..., 2] = 2000
    scene = write_scene(tmp_path / "s.tif", deep)
    words = ["data.bands=[3,2,1]", "--all-probabilities", "data.stretch=[0,2000]", "tile=32m"]
    assert main(["map", "run", str(scene), f"out={tmp_path / 'm'}", *words]) == 0
    assert all((window == (255, 0, 0)).all() for window in colours.seen)
    assert colours.reading.bands == ()


def test_a_damaged_part_is_named_and_the_status_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 99, (112, 144, 3)).astype(np.uint8)
    layout = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
    scene = write_scene(tmp_path / "s.tif", patchwork(CLASSES) + noise, **layout)
    damage(scene, 7)
    assert main(["map", "run", str(scene), f"out={tmp_path / 'm'}", "overlap=0"]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        *(
            f"unreadable: s.tif: columns {x} to {x + 15}, rows {y} to {y + 15}"
            for y in (32, 48)
            for x in (64, 80)
        ),
        "4 of 63 windows could not be read: no data there",
    ]
    assert "(unreadable)" in said.out
    assert (tmp_path / "m" / "map.html").exists()


def refused(scene: Path, out: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["map", "run", str(scene), f"out={out}", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fedrsclip: ")
    assert error.count("\n") == 1
    assert not out.exists()
    return error


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"crs": None}, r"says no coordinate reference system.*rio edit-info --crs"),
        ({"transform": Affine.identity()}, "says no place and size of its pixels"),
        ({"crs": "EPSG:4326", "gcps": True}, "ground control points alone: `gdalwarp"),
        ({"crs": 'LOCAL_CS["here",UNIT["metre",1]]'}, "which is nowhere on earth"),
        (
            {"crs": "EPSG:4326", "transform": Affine(1, 0, 500, 0, -1, 7000)},
            "coordinates that are nowhere on earth",
        ),
        ({"pixels": np.zeros((3, 3, 3), np.uint8)}, "3 x 3 pixels, less than a window of 16"),
        ({"pixels": np.zeros((32, 32, 2), np.uint8)}, "has 2 bands and does not say"),
        ({"pixels": np.zeros((32, 32, 3), np.float32), "photometric": "RGB"}, "type float32"),
        ({"pixels": np.zeros((32, 32, 1), np.uint8), "nbits": 4}, "has 4-bit numbers: save it"),
    ],
)
def test_scenes_that_cannot_be_mapped(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    sentence: str,
) -> None:
    pixels = options.pop("pixels", patchwork(CLASSES))
    if options.pop("gcps", False):
        from rasterio.control import GroundControlPoint

        options["gcps"] = [GroundControlPoint(0, 0, 10, 50), GroundControlPoint(9, 9, 11, 49)]
        options["transform"] = None
    scene = write_scene(tmp_path / "s.tif", pixels, **options)
    error = refused(scene, tmp_path / "m", [], capsys)
    assert re.search(sentence, error), error
    assert str(scene) in error


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"no image at all, but words", "not readable"),
        (
            saved(Image.new("RGB", (40, 40)), "WEBP"),
            "is a picture \\(WEBP\\)",
        ),
        (
            saved(Image.new("RGB", (40, 40)), "PNG"),
            "no coordinate reference",
        ),
    ],
)
def test_files_that_are_no_scenes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, sentence: str
) -> None:
    scene = tmp_path / "s.tif"
    scene.write_bytes(content)
    assert re.search(sentence, refused(scene, tmp_path / "m", [], capsys))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tiles=3"], "'tiles=3' is not understood: give out=, tile=, overlap=, data.bands="),
        (["tile="], "'tile=' is not understood"),
        (["tile=65"], "give tile=64"),
        (["overlap=2"], "overlap is '2'"),
        (["data.bands=[1,2]"], "data.bands has 2 bands"),
        (["data.bands=[7]"], "has no band 7 of data.bands"),
        (["data.nodata=many"], "data.nodata is 'many'"),
    ],
)
def test_words_that_are_not_understood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    scene = write_scene(tmp_path / "s.tif", patchwork(CLASSES))
    assert sentence in refused(scene, tmp_path / "m", words, capsys)


def test_no_out_and_no_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "s.tif", patchwork(CLASSES))
    assert main(["map", "run", str(scene)]) == 1
    assert "out is not set" in capsys.readouterr().err
    error = refused(tmp_path / "none.tif", tmp_path / "m", [], capsys)
    assert "there is no scene at" in error
    error = refused(tmp_path, tmp_path / "m", [], capsys)
    assert "there is no scene at" in error


@pytest.mark.parametrize("package", ["rasterio", "pyproj"])
def test_what_is_not_installed_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    package: str,
) -> None:
    scene = write_scene(tmp_path / "s.tif", patchwork(CLASSES))
    monkeypatch.setitem(sys.modules, package, None)
    error = refused(scene, tmp_path / "m", [], capsys)
    assert "maps need rasterio and pyproj: pip install 'fedrsclip[geo]'" in error


def test_too_many_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedrsclip.map import mapping

    monkeypatch.setattr(mapping, "_MOST_CELLS", 100)
    scene = write_scene(tmp_path / "s.tif", patchwork(CLASSES))
    error = refused(scene, tmp_path / "m", [], capsys)
    assert "would have 14 x 18 cells, more than 100: give a larger tile" in error


def test_an_interrupted_map_says_how_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], colours: Colours
) -> None:
    scene = write_scene(tmp_path / "s.tif", patchwork(CLASSES))
    colours._stop_after = 32
    assert main(["map", "run", str(scene), f"out={tmp_path / 'm'}"]) == 130
    assert f"the same command resumes {tmp_path / 'm'}" in capsys.readouterr().err
    colours._stop_after = None
    assert main(["map", "run", str(scene), f"out={tmp_path / 'm'}"]) == 0
