"""Bands of any depth, chosen and stretched: each pixel is what the formula says."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedrsclip_core.config.reading import Reading
from fedrsclip_core.data.imagery import raster
from fedrsclip_core.data.imagery.decoding import decode
from fedrsclip_core.errors import DataError
from tests.unit.data.imagery.files import (
    MINISBLACK,
    PREMULTIPLIED,
    STRAIGHT,
    UNSPECIFIED,
    Page,
    png,
    saved,
    scene,
    tiff,
)

pytestmark = pytest.mark.unit

SENTINEL = np.random.default_rng(0).integers(200, 3400, (8, 12, 13)).astype(np.uint16)
COLOURS = scene()
NATURAL = Reading((4, 3, 2), (0, 3000))


def scaled(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    ratio = (np.asarray(pixels, np.float64) - low) / (high - low)
    return np.rint(255 * np.clip(ratio, 0, 1))


def differs(image: Image.Image, expected: np.ndarray) -> int:
    if expected.ndim == 2:
        expected = np.stack([expected] * 3, axis=-1)
    assert np.asarray(image).shape == expected.shape
    return int(abs(np.asarray(image).astype(int) - expected).max())


def write(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    """Write a file by GDAL; ``pixels`` are ``(H, W, bands)``."""
    import rasterio

    later = {"mask", "descriptions", "scales", "offsets"}
    after = {key: options.pop(key) for key in later & options.keys()}
    height, width, count = pixels.shape
    size = {"width": width, "height": height, "count": count, "dtype": pixels.dtype}
    with (
        rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **{"driver": "GTiff", **size, **options}) as file,
    ):
        file.write(np.moveaxis(pixels, -1, 0))
        if "mask" in after:
            file.write_mask(after["mask"])
        for name, value in after.items():
            if name != "mask":
                setattr(file, name, value)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"interleave": "band"},
        {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
        {"compress": "lzw", "predictor": 2},
        {"compress": "zstd", "BIGTIFF": "YES"},
        {"compress": "lerc"},
        {"driver": "COG"},
        {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"},
    ],
)
def test_sentinel_2_in_every_container(tmp_path: Path, options: dict[str, Any]) -> None:
    image = decode(write(tmp_path / "scene", SENTINEL, **options), NATURAL)
    assert differs(image, scaled(SENTINEL[..., [3, 2, 1]], 0, 3000)) == 0


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
def test_every_depth(kind: str) -> None:
    pixels = (COLOURS[..., 0] // 2).astype(kind)
    for order in "<>":
        file = tiff(Page(pixels, MINISBLACK), order=order)
        assert differs(decode(file, Reading((), (20, 100))), scaled(pixels, 20, 100)) == 0


def test_sixteen_bit_png_and_bytes_are_read_alike(tmp_path: Path) -> None:
    deep = COLOURS.astype(np.uint16) * 12
    for colour_type, pixels in ((2, deep), (0, deep[..., 0]), (6, SENTINEL[..., :4])):
        file = png(pixels, colour_type)
        (tmp_path / "a.png").write_bytes(file)
        image = decode(file, Reading((), (0, 3400)))
        assert differs(image, scaled(pixels[..., :3] if pixels.ndim == 3 else pixels, 0, 3400)) <= 1
        assert decode(tmp_path / "a.png", Reading((), (0, 3400))).tobytes() == image.tobytes()


def test_bands_by_name(tmp_path: Path) -> None:
    names = tuple(f"B{n:02d}" for n in range(1, 14))
    file = write(tmp_path / "a.tif", SENTINEL, descriptions=names)
    expected = decode(file, NATURAL).tobytes()
    assert decode(file, Reading(("b04", "B03", "B02"), (0, 3000))).tobytes() == expected
    with pytest.raises(DataError, match=r"has no band 'B8A' of data.bands: its bands are 1 b01"):
        decode(file, Reading(("B8A",), ("minmax",)))
    with pytest.raises(DataError, match=r"has no band 14 of data\.bands"):
        decode(file, Reading((14,), ("minmax",)))
    twice = write(tmp_path / "b.tif", SENTINEL[..., :3], descriptions=("red", "x", "x"))
    with pytest.raises(DataError, match=r"has no band 'x'|has 2 bands 'x'"):
        decode(twice, Reading(("x",), ("minmax",)))


def test_one_band_is_grey_and_a_band_may_be_seen_twice() -> None:
    file = tiff(Page(SENTINEL[..., :2], MINISBLACK, [UNSPECIFIED]))
    grey = scaled(SENTINEL[..., 1], 0, 3000)
    assert differs(decode(file, Reading((2,), (0, 3000))), grey) == 0
    image = decode(file, Reading((1, 2, 1), (0, 3000)))
    assert differs(image, scaled(SENTINEL[..., [0, 1, 0]], 0, 3000)) == 0


def test_what_an_image_says_itself() -> None:
    rgb, words = SENTINEL[..., :3], Reading((), (0, 3000))
    assert differs(decode(tiff(Page(rgb)), words), scaled(rgb, 0, 3000)) == 0
    with_alpha = tiff(Page(SENTINEL[..., :4], extras=[STRAIGHT]))
    assert differs(decode(with_alpha, words), scaled(rgb, 0, 3000)) == 0
    for page in (
        Page(SENTINEL[..., :4], extras=[UNSPECIFIED]),
        Page(rgb, MINISBLACK, [0, 0]),
        Page(SENTINEL, MINISBLACK, [0] * 12),
    ):
        with pytest.raises(DataError, match=r"does not say .* red, green and blue alone .*bands"):
            decode(tiff(page), words)


def test_one_range_for_all_bands_keeps_their_ratio() -> None:
    rgb = SENTINEL[..., :3]
    file = tiff(Page(rgb))
    whole = scaled(rgb, rgb.min(), rgb.max())
    assert differs(decode(file, Reading((), ("minmax",))), whole) == 0
    low, high = np.percentile(rgb, [2, 98])
    assert differs(decode(file, Reading((), ("percentiles",))), scaled(rgb, low, high)) <= 1
    low, high = np.percentile(rgb, [10, 70])
    image = decode(file, Reading((), ("percentiles", 10, 70)))
    assert differs(image, scaled(rgb, low, high)) <= 1


def test_a_range_for_each_band() -> None:
    ends = [(0, 3000), (200, 1000), (1000, 4000)]
    image = decode(
        tiff(Page(SENTINEL[..., :3])), Reading((), [end for pair in ends for end in pair])
    )
    for band, pair in enumerate(ends):
        assert np.array_equal(np.asarray(image)[..., band], scaled(SENTINEL[..., band], *pair))
    with pytest.raises(DataError, match=r"shows 1 band, but data\.stretch has 3 ranges"):
        decode(png(SENTINEL[..., 0], 0), Reading((), (0, 1, 0, 1, 0, 1)))


def test_percentiles_of_an_image_that_is_nearly_constant_show_what_is_there() -> None:
    pixels = np.zeros((40, 40), np.uint16)
    pixels[0, :4] = 900
    image = decode(png(pixels, 0), Reading((), ("percentiles",)))
    assert differs(image, scaled(pixels, 0, 900)) == 0


@pytest.mark.parametrize(
    ("pixels", "stretch", "said"),
    [
        (COLOURS / np.float32(255), (0, 3000), "from 0.0784314 to 0.784314, all of them below"),
        (SENTINEL[..., :3], (0, 1), "from 215 to 3393, all of them above"),
        (COLOURS, (0, 3000), "has 8-bit numbers, but data.stretch goes up to 3000"),
        (np.full((8, 12, 3), 7, np.uint16), ("minmax",), "has the number 7 everywhere"),
        (np.full((8, 12, 3), 7, np.uint16), ("percentiles",), "has the number 7 everywhere"),
        (SENTINEL[..., :3], ("none",), "has numbers of type uint16, which do not fit 8 bits"),
        (np.full((8, 12, 3), np.nan, np.float32), ("minmax",), "has no pixel with data"),
    ],
)
def test_a_stretch_that_would_show_nothing_is_refused(
    pixels: np.ndarray, stretch: tuple[Any, ...], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        decode(tiff(Page(pixels)), Reading((), stretch))


# --- nodata -----------------------------------------------------------------------------------


HOLES = np.zeros((8, 12), bool)
HOLES[2:5, 3:9] = True


def with_holes(value: float, pixels: np.ndarray = SENTINEL[..., :3]) -> np.ndarray:
    return np.where(HOLES[..., None], np.array(value, pixels.dtype), pixels)


@pytest.mark.parametrize("stretch", [("minmax",), ("percentiles", 0, 100)])
@pytest.mark.parametrize("how", ["tag", "key", "key instead of tag", "mask", "nan"])
def test_nodata_is_black_and_counts_for_nothing(
    tmp_path: Path, how: str, stretch: tuple[Any, ...]
) -> None:
    rgb = SENTINEL[..., :3]
    options: dict[str, Any] = {"photometric": "RGB"}
    key, value = None, 65535.0
    if how == "tag":
        options["nodata"] = 65535
    elif how == "mask":
        options["mask"] = ~HOLES
    elif how == "nan":
        rgb, value = rgb.astype(np.float32), np.nan
    else:
        key = 65535.0
        options |= {"nodata": 0} if how == "key instead of tag" else {}
    file = write(tmp_path / "a.tif", with_holes(value, rgb), **options)
    valid = rgb[~HOLES]
    expected = np.where(HOLES[..., None], 0, scaled(rgb, valid.min(), valid.max()))
    assert differs(decode(file, Reading((), stretch, key)), expected) <= 1


def test_nothing_but_nodata_is_unreadable(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", np.zeros((8, 12, 1), np.uint16), nodata=0)
    with pytest.raises(DataError, match="has no pixel with data"):
        decode(file, Reading((), (0, 3000)))


def test_nodata_of_pictures_of_eight_bits() -> None:
    holed = with_holes(255, COLOURS)
    expected = np.where(HOLES[..., None], 0, COLOURS)
    for file in (tiff(Page(holed)), saved(Image.fromarray(holed), "BMP")):
        assert differs(decode(file, Reading(nodata=255)), expected) == 0


def test_alpha_hides_nothing_but_gives_no_range_either(tmp_path: Path) -> None:
    """Near infrared that calls itself alpha would else make water black."""
    alpha = np.where(HOLES, 0, 65535).astype(np.uint16)
    holed = with_holes(60000)
    file = tiff(Page(np.dstack([holed, alpha]), extras=[STRAIGHT]))
    valid = SENTINEL[..., :3][~HOLES]
    image = decode(file, Reading((), ("minmax",)))
    assert differs(image, scaled(holed, valid.min(), valid.max())) == 0
    assert differs(decode(file, Reading((4,), (0, 65535))), scaled(alpha, 0, 65535)) == 0
    hidden = tiff(Page(np.dstack([holed, 0 * alpha]), extras=[STRAIGHT]))
    image = decode(hidden, Reading((), ("minmax",)))
    assert differs(image, scaled(holed, holed.min(), holed.max())) == 0


def test_a_band_that_calls_itself_premultiplied_alpha_can_be_chosen_away() -> None:
    pixels = np.dstack([COLOURS, np.full((8, 12), 9, np.uint8)])
    file = tiff(Page(pixels, extras=[PREMULTIPLIED]))
    assert differs(decode(file, Reading((1, 2, 3))), COLOURS) == 0
    assert differs(decode(file, Reading((4, 1, 2))), pixels[..., [3, 0, 1]]) == 0


def test_scale_and_offset_are_what_numbers_mean(tmp_path: Path) -> None:
    rgb = SENTINEL[..., :3]
    file = write(tmp_path / "a.tif", rgb, photometric="RGB", scales=(1e-4,) * 3,
                 offsets=(-0.02,) * 3)  # fmt: skip
    image = decode(file, Reading((), (0, 0.3)))
    assert differs(image, scaled(rgb * 1e-4 - 0.02, 0, 0.3)) <= 1
    with pytest.raises(DataError, match="all of them below"):
        decode(file, Reading((), (0, 3000)))


# --- what Pillow reads ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", "JPEG2000"])
def test_eight_bits_stay_as_they_are_until_stretched(kind: str) -> None:
    picture = Image.fromarray(COLOURS)
    file = saved(picture.quantize() if kind == "GIF" else picture, kind)
    plain = decode(file)
    for reading in (Reading((), ("none",)), Reading((1, 2, 3)), Reading(("red", "GREEN", "blue"))):
        if kind != "GIF" or reading.bands != ("1", "2", "3"):
            assert decode(file, reading).tobytes() == plain.tobytes()
    pixels = np.asarray(plain)
    image = decode(file, Reading((), ("minmax",)))
    assert differs(image, scaled(pixels, pixels.min(), pixels.max())) == 0
    image = decode(file, Reading((3, 2, 1), (50, 150)))
    assert differs(image, scaled(pixels[..., ::-1], 50, 150)) == 0


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_fewer_bits_palettes_and_inks_are_what_is_seen_of_them(mode: str) -> None:
    picture = Image.fromarray(COLOURS).convert(mode)
    for kind in ("PNG", "TIFF") if mode != "CMYK" else ("TIFF", "JPEG"):
        file = saved(picture, kind)
        assert decode(file, Reading((), ("none",))).tobytes() == decode(file).tobytes()


# --- cost and safety --------------------------------------------------------------------------


def test_a_large_scene_is_read_at_a_lower_resolution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster, "_READ", 600)
    x = np.tile(np.arange(90), (60, 1))
    file = write(tmp_path / "a.tif", (x * 10).astype(np.uint16)[..., None])
    image = decode(file, Reading((), (0, 900)))
    assert image.size == (30, 20)
    assert differs(image, scaled(np.tile(np.arange(1, 90, 3) * 10, (20, 1)), 0, 900)) <= 3


def test_a_scene_without_bound_and_a_strip_without_bound_are_refused(tmp_path: Path) -> None:
    import rasterio

    size = {"driver": "GTiff", "count": 1, "dtype": "uint16", "SPARSE_OK": True}
    with rasterio.open(tmp_path / "a.tif", "w", width=2**16, height=2**16, tiled=True, **size):
        pass
    with rasterio.open(tmp_path / "b.tif", "w", width=2**15, height=2**15, blockysize=2**15,
                       compress="deflate", **size):  # fmt: skip
        pass
    with rasterio.open(tmp_path / "c.tif", "w", width=2**15, height=2**15, tiled=True,
                       blockxsize=2**12, blockysize=2**12, **size):  # fmt: skip
        pass
    with pytest.raises(DataError, match=r"too large \(65536 x 65536 pixels; at most 2147483648"):
        decode(tmp_path / "a.tif", NATURAL)
    for name in ("b", "c"):  # else it would be said to hold next to nothing
        with (tmp_path / f"{name}.tif").open("ab") as stream:
            stream.truncate(2**20 if name == "b" else 2**12)
    with pytest.raises(DataError, match=r"too large \(32768 x 32768 pixels in tiles or strips"):
        decode(tmp_path / "b.tif", Reading((1,), (0, 1)))
    with pytest.raises(DataError, match=r"32768 x 32768 pixels in 4096 bytes: it is cut off"):
        decode(tmp_path / "c.tif", Reading((1,), (0, 1)))


def test_what_lies_beside_a_file_changes_nothing(tmp_path: Path) -> None:
    """Its features are remembered by its own content."""
    file = write(tmp_path / "a.tif", SENTINEL[..., :3], photometric="RGB")
    alone = decode(file, Reading((), ("minmax",))).tobytes()
    nodata = "<PAMRasterBand band='1'><NoDataValue>300</NoDataValue></PAMRasterBand>"
    (tmp_path / "a.tif.aux.xml").write_text(f"<PAMDataset>{nodata}</PAMDataset>")
    write(tmp_path / "a.tif.msk", np.zeros((8, 12, 1), np.uint8))
    assert decode(file, Reading((), ("minmax",))).tobytes() == alone


def test_damaged_files_are_one_sentence_and_nothing_is_printed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", SENTINEL, compress="deflate").read_bytes()
    for name, data in {"cut": file[: len(file) // 2], "odd": file[:300] + b"\xff" * 3000}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "service").write_text("<GDAL_WMS><Service name='TMS'></Service></GDAL_WMS>")
    code = (
        "import sys; from pathlib import Path\n"
        "from fedrsclip_core.config.reading import Reading\n"
        "from fedrsclip_core.data.imagery.decoding import decode\n"
        "from fedrsclip_core.errors import DataError\n"
        "for name in ('cut', 'odd', 'service'):\n"
        "    try: decode(Path(sys.argv[1]) / name, Reading((4, 3, 2), (0, 3000)))\n"
        "    except DataError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all("readable as an image" in line for line in lines)


def test_without_rasterio_one_sentence_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "rasterio.py").write_text("raise ImportError('no such thing')")
    (tmp_path / "a.tif").write_bytes(tiff(Page(SENTINEL[..., :3])))
    code = (
        "import sys; from pathlib import Path\n"
        "from fedrsclip_core.config.reading import Reading\n"
        "from fedrsclip_core.data.imagery.decoding import decode\n"
        "from fedrsclip_core.errors import DataError\n"
        "try: decode(Path(sys.argv[1]), Reading((), ('minmax',)))\n"
        "except DataError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.tif")]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "need rasterio: pip install 'fedrsclip[geo]'" in done.stdout


def test_gdal_does_not_look_for_ever_in_a_damaged_jpeg_2000() -> None:
    """A box of no length in the header; asked how bands are interleaved, GDAL would not return."""
    file = bytearray(saved(Image.fromarray(COLOURS), "JPEG2000"))
    place = file.index(b"colr")
    file[place - 4 : place] = bytes(4)
    assert differs(decode(bytes(file), Reading((1, 2, 3))), COLOURS) == 0
