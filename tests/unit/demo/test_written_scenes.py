"""What `fedrsclip data images | mosaic` write of the demo's scenes."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedrsclip.cli import main
from fedrsclip.demo import mosaic
from fedrsclip_core.demo.scenes import CLASS_NAMES, render

pytestmark = pytest.mark.unit

TILES = 4


@pytest.fixture
def rasterio() -> Any:
    return pytest.importorskip("rasterio", reason="rasterio is missing: fedrsclip[geo]")


def sentence(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what is said of a mistake."""
    assert main(["data", *arguments]) == 1
    return capsys.readouterr().err


def test_the_images_are_the_federations(tmp_path: Path) -> None:
    folder = tmp_path / "own" / "images"
    assert main(["data", "images", f"out={folder}", "images=2", "seed=5"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(CLASS_NAMES)
    assert len(list(folder.rglob("*"))) == 3 * len(CLASS_NAMES)
    for number, name in enumerate(CLASS_NAMES):
        with Image.open(folder / name / "0001.png") as image:
            assert (np.asarray(image) == render(number, 1, seed=5, domain=1)).all()


def test_a_scene_is_georeferenced_and_its_truth_beside_it(tmp_path: Path, rasterio: Any) -> None:
    scene = tmp_path / "new" / "scene.tif"
    assert main(["data", "mosaic", f"out={scene}", f"tiles={TILES}"]) == 0
    assert sorted(path.name for path in scene.parent.iterdir()) == ["scene.tif", "scene_truth.tif"]
    with rasterio.open(scene) as of_scene, rasterio.open(mosaic.truth_of(scene)) as of_truth:
        assert of_scene.crs == of_truth.crs == "EPSG:32632"
        assert of_scene.bounds == of_truth.bounds
        assert of_scene.res == (1, 1)
        assert (of_scene.count, of_scene.width, of_scene.dtypes[0]) == (3, 64 * TILES, "uint8")
        pixels, truth = of_scene.read(), of_truth.read(1)
        names = of_truth.tags(1)
    assert [names[f"CLASS_{k}"] for k in range(len(CLASS_NAMES))] == list(CLASS_NAMES)
    tile = pixels[:, 64:128, 128:192].transpose(1, 2, 0)
    painted = [render(truth[1, 2], mosaic._FIRST + k, seed=0, domain=0) for k in range(TILES**2)]
    assert any((tile == one).all() for one in painted)
    assert (truth == mosaic.regions(TILES, 0)).all()


def test_a_scene_is_the_same_in_bits_and_of_another_seed_another(
    tmp_path: Path, rasterio: Any
) -> None:
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        mosaic.write_mosaic(tmp_path / f"{name}.tif", TILES, seed)
        digests.append(hashlib.sha256((tmp_path / f"{name}.tif").read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_regions_are_contiguous_and_have_all_classes() -> None:
    classes = mosaic.regions(24, 0)
    assert set(classes.ravel().tolist()) == set(range(len(CLASS_NAMES)))
    beside = (classes[:, 1:] == classes[:, :-1]).mean()
    below = (classes[1:] == classes[:-1]).mean()
    assert min(beside, below) > 0.6
    assert mosaic.regions(1, 0).shape == (1, 1)
    assert mosaic.regions(300, 0).shape == (300, 300)


def test_the_accuracy_of_a_map_is_counted_by_where_its_cells_lie(
    tmp_path: Path, rasterio: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = mosaic.write_mosaic(tmp_path / "scene.tif", TILES, 0)
    with rasterio.open(truth) as known:
        cells = np.kron(known.read(1), np.ones((2, 2), np.uint8))  # two cells a tile
        left, _, _, top = known.bounds
        half = rasterio.Affine(32, 0, left, 0, -32, top)
        profile = known.profile | {"transform": half}
    cells[0, 0] = (cells[0, 0] + 1) % len(CLASS_NAMES)
    cells[5, 3] = 254  # no data
    cells = np.pad(cells, ((0, 0), (0, 1)))  # a column beyond the scene
    size = {"height": cells.shape[0], "width": cells.shape[1], "nodata": 255}
    profile.update(size, blockysize=1)
    with rasterio.open(tmp_path / "classes.tif", "w", **profile) as target:
        target.write(cells + np.uint8(1), 1)  # numbers of its own: names count
        target.update_tags(1, **{f"CLASS_{k + 1}": name for k, name in enumerate(CLASS_NAMES)})
    number = (2 * TILES) ** 2 - 1
    assert mosaic.accuracy(tmp_path / "classes.tif", truth) == (number - 1, number)
    mosaic.main([str(tmp_path / "classes.tif"), str(truth)])
    assert capsys.readouterr().out == "62 of 63 cells are what is there: 98.4 %\n"


@pytest.mark.parametrize("kind", ["images", "mosaic"])
def test_what_is_there_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    place = tmp_path / "a.tif"
    place.write_text("mine")
    assert "is there already" in sentence(capsys, kind, f"out={place}")
    assert place.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name != "fedrsclip-home"] == ["a.tif"]


def test_an_interrupted_scene_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rasterio: Any
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mosaic, "_paint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mosaic.write_mosaic(tmp_path / "scene.tif", TILES, 0)
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mosaic"], "out is not set"),
        (["mosaic", "out=scene.png"], "ends in .tif"),
        (["mosaic", "out=scene.tif", "tiles=0"], "tiles is '0': give a whole number from 1"),
        (["images", "out=images", "images=many"], "images is 'many'"),
        (["images", "out=images", "tiles=2"], "'tiles=2' is not understood: give out=, images="),
        (["images", "out=images", "seed=-1"], "seed is '-1'"),
    ],
)
def test_a_mistake_has_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in sentence(capsys, *words)
    assert not list(tmp_path.glob("*images*")) + list(tmp_path.glob("*.tif"))
