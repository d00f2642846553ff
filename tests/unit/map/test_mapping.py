"""A map says of each place what the classifier says of its windows, whatever the scene's form."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrsclip.classifier.loading import load_classifier
from fedrsclip.map.folder import is_complete
from fedrsclip.map.mapping import Mapped, make, open_job, predict_scene
from fedrsclip.map.result import NO_DATA
from fedrsclip_core.clip import assets
from fedrsclip_core.config.reading import Reading
from fedrsclip_core.config.schema import Config
from fedrsclip_core.demo.scenes import CLASS_NAMES, render
from fedrsclip_core.errors import DataError
from tests.disks import full_disk
from tests.unit.classifier.test_loading import write_prompt
from tests.unit.map.scenes import (
    LEFT,
    TOP,
    UTM,
    Colours,
    numbers_of,
    patchwork,
    write_scene,
)

pytestmark = pytest.mark.unit

CLASSES = np.random.default_rng(0).integers(0, 3, (7, 9))


def mapped(classifier: Any, scene: Path, out: Path, **how: Any) -> Mapped:
    with open_job(classifier, scene, **how) as job:
        return make(job, out)


def test_a_mosaic_of_known_tiles_is_mapped_back(tmp_path: Path) -> None:
    """Classes and probabilities are those that the CLIP gives each tile by itself."""
    prompt = write_prompt(tmp_path / "p.safetensors", assets.demo_clip_folder(), Config())
    classifier = load_classifier(prompt)
    tiles = [render(k % 16, k, seed=5, domain=0) for k in range(12)]
    rows = [np.concatenate(tiles[k : k + 4], axis=1) for k in (0, 4, 8)]
    scene = write_scene(tmp_path / "s.tif", np.concatenate(rows), compress="deflate")
    found = mapped(classifier, scene, tmp_path / "m", overlap=0, all_probabilities=True)
    expected = classifier.scores(tiles).reshape(3, 4, 16)
    assert np.array_equal(found.result.classes, expected.argmax(axis=-1))
    assert len(np.unique(found.result.classes)) > 5
    assert np.abs(found.result.probability - expected.max(axis=-1)).max() < 1e-6
    bands = numbers_of(tmp_path / "m" / "probability.tif")
    assert np.abs(np.moveaxis(bands, 0, -1) - expected).max() < 1e-6
    assert list(found.result.class_names) == list(CLASS_NAMES)


@pytest.mark.parametrize(
    "options",
    [
        {"driver": "COG", "BLOCKSIZE": "128"},
        {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"},
        {"tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "lzw"},
        {"interleave": "band"},
        {"blockysize": 5},
    ],
)
def test_forms_of_a_scene_agree(tmp_path: Path, options: dict[str, Any]) -> None:
    pixels = patchwork(CLASSES)[:-3, :-5]
    suffix = ".jp2" if options.get("driver", "").startswith("JP2") else ".tif"
    scene = write_scene(tmp_path / f"s{suffix}", pixels, **options)
    found = predict_scene(Colours(), scene, overlap=0)
    assert np.array_equal(found.classes, CLASSES)
    assert found.bounds == (LEFT, TOP - 7 * 16, LEFT + 9 * 16, TOP)
    assert found.scene_cells == ((9 * 16 - 5) / 16, (7 * 16 - 3) / 16)
    assert np.array_equal(found.scene, pixels)
    assert found.scene_valid.all()


def test_a_mosaic_by_vrt_may_name_files_elsewhere(tmp_path: Path) -> None:
    pixels = patchwork(CLASSES)
    (tmp_path / "tiles").mkdir()
    (tmp_path / "vrt").mkdir()
    for k, left in enumerate((0, 64)):
        part = pixels[:, left : left + 80 if left else 64]
        write_scene(tmp_path / "tiles" / f"{k}.tif", part)
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">../tiles/{k}.tif</SourceFilename>'
        f'<SourceBand>{{band}}</SourceBand><SrcRect xOff="0" yOff="0" xSize="{w}" ySize="112"/>'
        f'<DstRect xOff="{64 * k}" yOff="0" xSize="{w}" ySize="112"/></SimpleSource>'
        for k, w in ((0, 64), (1, 80))
    )
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"><ColorInterp>{colour}</ColorInterp>'
        f"{sources.format(band=n)}</VRTRasterBand>"
        for n, colour in enumerate(("Red", "Green", "Blue"), 1)
    )
    scene = tmp_path / "vrt" / "s.vrt"
    scene.write_text(
        f'<VRTDataset rasterXSize="144" rasterYSize="112"><SRS>{UTM}</SRS>'
        f"<GeoTransform>{LEFT}, 1, 0, {TOP}, 0, -1</GeoTransform>{bands}</VRTDataset>"
    )
    assert np.array_equal(predict_scene(Colours(), scene, overlap=0).classes, CLASSES)
    with open_job(Colours(), scene) as job:
        before = job.key
        write_scene(tmp_path / "tiles" / "1.tif", pixels[:, :80] // 2)
        assert job.key != before


def test_cells_are_the_mean_of_the_windows_that_cover_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (45, 53, 3)).astype(np.uint8)
    scene = write_scene(tmp_path / "s.tif", pixels)
    with open_job(Colours(), scene, tile=16, overlap=0.75, all_probabilities=True) as job:
        found = make(job, tmp_path / "m")
        grid = job.grid
    sums, count = np.zeros((12, 14, 3)), np.zeros((12, 14, 1))
    for top in [*range(0, 29, 4), 29]:
        for left in [*range(0, 37, 4), 37]:
            mean = pixels[top : top + 16, left : left + 16].reshape(-1, 3).mean(axis=0) + 1e-3
            for row in range(12):
                for col in range(14):
                    inside = top <= 4 * row and min(4 * row + 4, 45) <= top + 16
                    if inside and left <= 4 * col and min(4 * col + 4, 53) <= left + 16:
                        sums[row, col] += mean / mean.sum()
                        count[row, col] += 1
    assert (grid.rows, grid.cols) == (12, 14)
    bands = np.moveaxis(numbers_of(tmp_path / "m" / "probability.tif"), 0, -1)
    assert np.abs(bands - sums / count).max() < 1e-6
    assert np.array_equal(found.result.classes, (sums / count).argmax(axis=-1))


@pytest.mark.parametrize("shift", [3, 8, 13])
def test_a_shift_moves_borders_by_no_more_than_the_overlap(tmp_path: Path, shift: int) -> None:
    """The border on the ground stays where it is, though windows lie elsewhere."""
    pixels = patchwork(np.repeat([[0] * 5 + [2] * 5], 3, axis=0))
    places = []
    for left in (0, shift):
        scene = write_scene(tmp_path / f"{left}.tif", pixels[:, left:])
        classes = predict_scene(Colours(), scene, overlap=0.5).classes
        (borders,) = np.nonzero(np.diff(classes[1]))
        assert len(borders) == 1
        places.append(8 * (borders[0] + 1) + left)
    assert all(abs(place - 80) <= 8 for place in places)
    assert abs(places[0] - places[1]) <= 8


def test_the_preview_is_small_and_true(tmp_path: Path) -> None:
    classes = np.random.default_rng(2).integers(0, 3, (40, 250))
    scene = write_scene(tmp_path / "s.tif", patchwork(classes), compress="deflate")
    found = predict_scene(Colours(), scene, overlap=0)
    assert found.scene.shape == (256, 1600, 3)
    assert np.array_equal(found.classes, classes)
    rows, cols = (np.arange(40) * 6.4 + 3).astype(int), (np.arange(250) * 6.4 + 3).astype(int)
    assert np.array_equal(found.scene[np.ix_(rows, cols)].argmax(axis=-1), classes)


# --- no data --------------------------------------------------------------------------------------


def hole() -> np.ndarray:
    """Where a scene of 7 x 9 patches has data: not in one corner, and half of a column."""
    data = np.ones((112, 144), bool)
    data[:40, :50] = False
    data[:, 140:] = False
    return data


@pytest.mark.parametrize("kind", ["nodata", "mask", "alpha", "reading"])
def test_what_has_no_data_is_skipped(tmp_path: Path, kind: str) -> None:
    data, pixels = hole(), patchwork(CLASSES)
    reading = Reading()
    if kind == "alpha":
        alpha = np.where(data, 255, 0).astype(np.uint8)[..., None]
        scene = write_scene(
            tmp_path / "s.tif", np.concatenate([pixels, alpha], -1), photometric="RGB", ALPHA="YES"
        )
    elif kind == "mask":
        scene = write_scene(tmp_path / "s.tif", pixels, mask=data)
    else:
        pixels[~data] = 255
        tag = {"nodata": 255} if kind == "nodata" else {}
        reading = Reading(nodata=255) if kind == "reading" else Reading()
        scene = write_scene(tmp_path / "s.tif", pixels, **tag)
    classifier = Colours(reading)
    found = mapped(classifier, scene, tmp_path / "m", overlap=0)
    expected = CLASSES.copy()
    # Of the cells at the corner's edge, those that are three quarters empty.
    expected[:2, :3] = NO_DATA
    expected[2, :3] = NO_DATA
    expected[2, 3], expected[:2, 3] = CLASSES[2, 3], CLASSES[:2, 3]
    share = data.reshape(7, 16, 9, 16).mean(axis=(1, 3))
    assert np.array_equal(found.result.classes == NO_DATA, share < 0.5)
    known = share == 1
    assert np.array_equal(found.result.classes[known], CLASSES[known])
    assert len(classifier.seen) == (share >= 0.5).sum()
    assert found.progress.counts["empty"] == (share < 0.5).sum()
    assert np.isnan(found.result.probability[share < 0.5]).all()
    assert np.array_equal(found.result.scene_valid, data)
    assert found.no_data.cells == (share < 0.5).sum()
    classes = numbers_of(tmp_path / "m" / "classes.tif")[0]
    assert np.array_equal(classes == 255, share < 0.5)


def test_windows_count_by_their_share_of_data(tmp_path: Path) -> None:
    """A window that is black by half has half the say."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16], pixels[:, 16:] = (200, 0, 0), (0, 0, 200)
    data = np.ones((16, 32), bool)
    data[:, 24:] = False
    scene = write_scene(tmp_path / "s.tif", pixels, mask=data)
    found = predict_scene(Colours(), scene, overlap=0.5)
    assert found.classes.tolist() == [[0, 0, 2, NO_DATA]] * 2
    # The third cell: half red, half blue, with all its pixels; all blue, with half of them.
    assert found.probability[0, 2] == pytest.approx((1 * 0.5 + 0.5 * 1) / 1.5, abs=1e-4)


def test_a_scene_without_data(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", np.zeros((32, 32, 3), np.uint8), nodata=0)
    with pytest.raises(DataError, match=r"s\.tif: it has no data anywhere"):
        mapped(Colours(), scene, tmp_path / "m")
    assert not (tmp_path / "m").exists()


# --- depth and bands ------------------------------------------------------------------------------


def test_bands_and_stretch_are_those_of_training(tmp_path: Path) -> None:
    deep = np.zeros((112, 144, 5), np.uint16)
    deep[..., [3, 2, 0]] = patchwork(CLASSES).astype(np.uint16) * 15
    scene = write_scene(tmp_path / "s.tif", deep, tiled=True, blockxsize=64, blockysize=64)
    fixed = Reading(("4", "3", "1"), ("0", "3000"))
    assert np.array_equal(predict_scene(Colours(fixed), scene, overlap=0).classes, CLASSES)
    with pytest.raises(DataError, match=r"s\.tif: has 5 bands and does not say .*data\.bands"):
        predict_scene(Colours(), scene)
    with pytest.raises(DataError, match=r"s\.tif: has numbers of type uint16.*data\.stretch"):
        mapped(Colours(Reading(("4", "3", "1"))), scene, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_range_is_found_in_each_window(tmp_path: Path) -> None:
    """Two windows of different brightness are seen alike; so is the preview, by one range."""
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    bright = np.stack([ramp * 10 + 5000] * 3, axis=-1)
    scene = write_scene(
        tmp_path / "s.tif", np.concatenate([bright // 5, bright], 1), photometric="RGB"
    )
    classifier = Colours(Reading((), ("minmax",)))
    found = predict_scene(classifier, scene, overlap=0)
    assert all(abs(window[..., 0].astype(int) - ramp).max() <= 1 for window in classifier.seen)
    assert found.scene[:, :16].max() < found.scene[:, 16:].min()


def test_windows_that_show_nothing_have_no_class_and_are_counted(tmp_path: Path) -> None:
    deep = patchwork(CLASSES).astype(np.uint16) * 10
    deep[:16, :16] = 60_000
    deep[16:32, :16] = 0
    scene = write_scene(tmp_path / "s.tif", deep, photometric="RGB")
    found = mapped(Colours(Reading((), ("1", "2500"))), scene, tmp_path / "m", overlap=0)
    assert found.result.classes[:2, 0].tolist() == [NO_DATA] * 2
    assert np.array_equal(found.result.classes[2:], CLASSES[2:])
    assert found.progress.counts["unshown"] == 2
    assert found.progress.unshown == "all numbers are above the range of data.stretch"
    assert found.unreadable.cells == 2
    assert found.no_data.cells == 0
    with pytest.raises(DataError, match=r"no window of it can be classified \(all numbers are"):
        mapped(Colours(Reading((), ("30000", "40000"))), scene, tmp_path / "n", overlap=0)
    assert not (tmp_path / "n").exists()


def test_grey_and_palettes_are_seen_as_images_are(tmp_path: Path) -> None:
    import rasterio

    grey = write_scene(tmp_path / "g.tif", np.full((16, 16, 1), 70, np.uint8))
    classifier = Colours()
    predict_scene(classifier, grey, overlap=0)
    assert (classifier.seen[0] == 70).all()
    scene = write_scene(tmp_path / "p.tif", CLASSES.repeat(16, 0).repeat(16, 1)[..., None] + 4)
    scene = write_scene(
        tmp_path / "p.tif",
        (CLASSES.repeat(16, 0).repeat(16, 1)[..., None] + 4).astype(np.uint8),
        photometric="palette",
        nodata=4,
    )
    with rasterio.open(scene, "r+") as file:
        file.write_colormap(1, {4: (200, 0, 0), 5: (0, 200, 0), 6: (0, 0, 200)})
    found = predict_scene(Colours(), scene, overlap=0)
    assert np.array_equal(found.classes, np.where(CLASSES == 0, NO_DATA, CLASSES))


# --- what cannot be read --------------------------------------------------------------------------


def test_a_damaged_tile_in_the_middle_is_named_and_left_out(tmp_path: Path) -> None:
    noisy = patchwork(CLASSES) + np.random.default_rng(0).integers(0, 40, (112, 144, 3)).astype(
        np.uint8
    )
    layout = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
    scene = write_scene(tmp_path / "s.tif", noisy, **layout)
    whole = mapped(Colours(), scene, tmp_path / "whole", overlap=0)
    damage(scene, block=5 * 1 + 2)  # the second row of blocks, the third column
    found = mapped(Colours(), scene, tmp_path / "m", overlap=0)
    assert found.progress.counts["damaged"] == 4
    assert found.progress.damaged == [(64, 32), (80, 32), (64, 48), (80, 48)]
    expected = whole.result.classes.copy()
    expected[2:4, 4:6] = NO_DATA
    assert np.array_equal(found.result.classes, expected)
    assert found.unreadable.cells == 4
    assert not found.result.scene_valid[32:64, 64:96].any()
    assert found.result.scene_valid.sum() == 112 * 144 - 32 * 32
    blended = predict_scene(Colours(), scene, overlap=0.5)
    assert np.array_equal(np.argwhere(blended.classes == NO_DATA).min(axis=0), [4, 8])
    assert np.array_equal(np.argwhere(blended.classes == NO_DATA).max(axis=0), [7, 11])


def damage(scene: Path, block: int) -> None:
    """Overwrite a compressed block of a GeoTIFF."""
    import struct

    data = bytearray(scene.read_bytes())
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    for k in range(count):
        tag, kind, length, value = struct.unpack_from("<HHII", data, place + 2 + 12 * k)
        if tag == 324:
            assert kind == 4 and length > block
            (start,) = struct.unpack_from("<I", data, value + 4 * block)
            data[start : start + 40] = b"\xff" * 40
    scene.write_bytes(bytes(data))


# --- interrupted ----------------------------------------------------------------------------------


def test_a_resumed_map_is_the_same_in_all_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedrsclip.map import work

    monkeypatch.setattr(work, "_SECONDS", 0.0)
    classes = np.random.default_rng(3).integers(0, 3, (60, 40))
    pixels = patchwork(classes) // 2
    pixels += np.random.default_rng(4).integers(0, 99, pixels.shape).astype(np.uint8)
    pixels[300:500, 100:300] = 0
    scene = write_scene(tmp_path / "s.tif", pixels, nodata=0, compress="deflate")
    once = Colours()
    mapped(once, scene, tmp_path / "once", all_probabilities=True)
    seen = 0
    for stop in (700, 1500, 900, None):
        classifier = Colours(stop_after=stop)
        try:
            mapped(classifier, scene, tmp_path / "often", all_probabilities=True)
        except KeyboardInterrupt:
            assert stop is not None
            assert sorted(p.name for p in (tmp_path / "often").iterdir()) == [".partial"]
        seen += len(classifier.seen)
    assert len(once.seen) < seen < 1.5 * len(once.seen)
    names = sorted(path.name for path in (tmp_path / "once").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "often").iterdir())
    for name in names:
        if name != "map.html":  # which says when it was written
            assert (tmp_path / "once" / name).read_bytes() == (
                tmp_path / "often" / name
            ).read_bytes()


@pytest.mark.parametrize("full", ["state.npz", "classes.bin", "classes.tif", "map.json"])
def test_a_full_disk_costs_nothing_that_was_done(tmp_path: Path, full: str) -> None:
    scene = write_scene(tmp_path / "s.tif", patchwork(CLASSES))
    with full_disk(lambda name: full in name), pytest.raises(OSError, match="No space left"):
        mapped(Colours(), scene, tmp_path / "m")
    assert not (tmp_path / "m" / "map.json").exists()
    classifier = Colours()
    found = mapped(classifier, scene, tmp_path / "m")
    assert len(classifier.seen) == (0 if full.endswith(("tif", "json")) else 221)
    assert np.array_equal(found.result.classes, predict_scene(Colours(), scene).classes)
    assert not (tmp_path / "m" / ".partial").exists()


def test_a_folder_belongs_to_one_map(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", patchwork(CLASSES))
    out = tmp_path / "m"
    with pytest.raises(KeyboardInterrupt):
        mapped(Colours(stop_after=0), scene, out)
    with open_job(Colours(), scene) as job:
        assert not is_complete(out, job.key)
        make(job, out)
        assert is_complete(out, job.key)
    with pytest.raises(DataError, match="holds this map already"):
        predict_scene(Colours(), scene, out)
    with pytest.raises(DataError, match="holds a map of another scene, by another classifier"):
        predict_scene(Colours(), scene, out, overlap=0)
    with pytest.raises(KeyboardInterrupt):
        mapped(Colours(stop_after=0), scene, tmp_path / "n")
    with pytest.raises(DataError, match="holds an unfinished map of another"):
        predict_scene(Colours(), scene, tmp_path / "n", overlap=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"full is not empty: choose another folder"):
        predict_scene(Colours(), scene, tmp_path / "full")
    with pytest.raises(DataError, match=r"s\.tif is a file: choose another folder"):
        predict_scene(Colours(), scene, scene)
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_a_map_that_another_process_writes(tmp_path: Path) -> None:
    import subprocess
    import sys

    scene = write_scene(tmp_path / "s.tif", patchwork(CLASSES))
    with open_job(Colours(), scene) as job:
        with pytest.raises(KeyboardInterrupt):
            make_stopped(job, tmp_path / "m")
        code = (
            "import sys, time, pathlib; from fedrsclip_core.runs import lock;"
            "held = lock.hold(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "m" / ".partial")], stdout=subprocess.PIPE
        )
        try:
            assert other.stdout is not None
            other.stdout.readline()
            with pytest.raises(DataError, match="is being written by another process"):
                make(job, tmp_path / "m")
            assert (tmp_path / "m" / ".partial").exists()
        finally:
            other.kill()
            other.communicate()


def make_stopped(job: Any, out: Path) -> None:
    def stop(count: int) -> None:
        raise KeyboardInterrupt

    make(job, out, on_windows=stop)
