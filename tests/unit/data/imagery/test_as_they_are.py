"""Without a reading: grey and RGB of 8 bits with the same bits as ever, and nothing else."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fedrsclip_core.config.reading import Reading
from fedrsclip_core.data.imagery.decoding import decode
from fedrsclip_core.errors import DataError
from tests.unit.data.imagery.files import (
    CIELAB,
    CMYK,
    MINISBLACK,
    MINISWHITE,
    PALETTE,
    PREMULTIPLIED,
    STRAIGHT,
    UNSPECIFIED,
    YCBCR,
    Page,
    png,
    saved,
    scene,
    tiff,
)

pytestmark = pytest.mark.unit

COLOURS = scene()
GREY = COLOURS[..., 0]
DEEP = COLOURS.astype(np.uint16) * 15
ALPHA = np.full((8, 12, 1), 128, np.uint8)


def with_band(pixels: np.ndarray, band: np.ndarray = ALPHA) -> np.ndarray:
    return np.concatenate([pixels, band.astype(pixels.dtype)], axis=-1)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (tiff(Page(DEEP)), "3 bands of 16-bit unsigned integers"),
        (tiff(Page(DEEP), order=">"), "3 bands of 16-bit unsigned integers"),
        (tiff(Page(DEEP, planar=True)), "3 bands of 16-bit unsigned integers"),
        (tiff(Page(with_band(DEEP), extras=[STRAIGHT])), "3 bands and alpha of 16-bit"),
        (tiff(Page(with_band(DEEP), extras=[PREMULTIPLIED])), "3 bands and alpha of 16-bit"),
        (tiff(Page(with_band(DEEP), extras=[UNSPECIFIED])), "4 bands of 16-bit"),
        (tiff(Page(GREY.astype(np.uint16), MINISBLACK)), "1 band of 16-bit unsigned"),
        (tiff(Page(GREY.view(np.int8), MINISBLACK)), "1 band of 8-bit signed integers"),
        (tiff(Page(COLOURS.view(np.int8))), "3 bands of 8-bit signed integers"),
        (tiff(Page(COLOURS.astype(np.int16))), "3 bands of 16-bit signed integers"),
        (tiff(Page(GREY.astype(np.int32), MINISBLACK)), "1 band of 32-bit signed integers"),
        (tiff(Page(GREY.astype(np.uint64), MINISBLACK)), "1 band of 64-bit unsigned integers"),
        (tiff(Page(GREY.astype(np.float16), MINISBLACK)), "16-bit floating-point numbers"),
        (tiff(Page(COLOURS / np.float32(255))), "3 bands of 32-bit floating-point numbers"),
        (tiff(Page(GREY.astype(np.float64), MINISBLACK)), "64-bit floating-point numbers"),
        (png(DEEP, 2), "3 bands of 16-bit unsigned integers"),
        (png(DEEP[..., 0], 0), "1 band of 16-bit unsigned integers"),
        (png(DEEP[..., :2], 4), "1 band and alpha of 16-bit unsigned integers"),
        (png(with_band(DEEP), 6), "3 bands and alpha of 16-bit unsigned integers"),
        (saved(Image.fromarray(DEEP[..., 0]), "JPEG2000"), "1 band of 16-bit"),
    ],
)
def test_depths_beyond_eight_bits_are_refused_with_the_keys_that_help(
    file: bytes, said: str
) -> None:
    with pytest.raises(DataError) as caught:
        decode(file)
    sentence = str(caught.value)
    assert said in sentence and "set data." in sentence and "data.stretch" in sentence
    assert "convert it to 8-bit RGB" in sentence and "\n" not in sentence


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (Page(with_band(COLOURS), extras=[UNSPECIFIED]), "4 bands of 8-bit"),
        (Page(with_band(COLOURS), extras=[]), "4 bands of 8-bit"),
        (Page(with_band(COLOURS), MINISBLACK, [0, 0, 0]), "4 bands of 8-bit"),
        (Page(COLOURS, MINISBLACK, [0, 0]), "3 bands of 8-bit"),
        (Page(COLOURS[..., :2], MINISBLACK, [0]), "2 bands of 8-bit"),
        (Page(with_band(with_band(COLOURS)), extras=[0, 0]), "5 bands of 8-bit"),
        (Page(with_band(with_band(COLOURS)), extras=[2, 0]), "4 bands and alpha of 8-bit"),
        (Page(with_band(with_band(COLOURS)), extras=[0, 2]), "5 bands of 8-bit"),
        (Page(np.repeat(GREY[..., None], 13, axis=2), MINISBLACK, [0] * 12), "13 bands of 8-bit"),
        (Page(with_band(with_band(COLOURS)), CMYK, [0]), "5 bands of 8-bit"),
        (Page(GREY, None), "1 band of 8-bit"),
    ],
)
def test_no_band_vanishes(page: Page, said: str) -> None:
    for planar in (False, True):
        with pytest.raises(DataError, match=rf"has {said} .*: set data\.bands to"):
            decode(tiff(Page(page.pixels, page.photometric, page.extras, planar)))


@pytest.mark.parametrize("deflate", [False, True])
def test_near_infrared_that_calls_itself_alpha_does_not_divide_the_colours(deflate: bool) -> None:
    """Premultiplied colours cannot exceed their alpha; those beside near infrared do."""
    file = tiff(Page(with_band(COLOURS), extras=[PREMULTIPLIED], deflate=deflate))
    with pytest.raises(DataError, match=r"says that its last band is alpha.*colours exceed it"):
        decode(file)


@pytest.mark.parametrize("deflate", [False, True])
def test_real_alpha_is_divided_out_as_pillow_does(deflate: bool) -> None:
    alpha = np.linspace(0, 255, 96).astype(np.uint8).reshape(8, 12, 1)
    product = (COLOURS.astype(int) * alpha // 255).astype(np.uint8)
    file = tiff(Page(with_band(product, alpha), extras=[PREMULTIPLIED], deflate=deflate))
    expected = Image.open(BytesIO(file)).convert("RGB")
    assert decode(file).tobytes() == expected.tobytes()
    assert np.asarray(expected)[-1].max() > product[-1].max()


def test_real_alpha_of_grey_is_divided_out() -> None:
    product = (GREY[..., None].astype(int) * ALPHA // 255).astype(np.uint8)
    file = tiff(Page(with_band(product), MINISBLACK, [PREMULTIPLIED]))
    assert abs(np.asarray(decode(file))[..., 1].astype(int) - GREY).max() <= 2


def as_pillow_sees(file: bytes) -> bytes:
    image = Image.open(BytesIO(file))
    if image.mode == "P":
        image.info.pop("transparency", None)
    return image.convert("RGB").tobytes()


PICTURE = Image.fromarray(COLOURS)


@pytest.mark.parametrize(
    "file",
    [
        tiff(Page(COLOURS)),
        tiff(Page(COLOURS), order=">"),
        tiff(Page(COLOURS, planar=True)),
        tiff(Page(GREY, MINISBLACK)),
        tiff(Page(GREY, MINISWHITE)),
        tiff(Page(with_band(COLOURS), extras=[STRAIGHT])),
        tiff(Page(with_band(COLOURS), CMYK)),
        tiff(Page(COLOURS, YCBCR, tags={530: (1, 1)})),
        tiff(Page(GREY, PALETTE, tags={320: [257 * n for n in range(256)] * 3})),
        *(saved(PICTURE.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *(saved(PICTURE.convert(mode), "JPEG") for mode in ("L", "RGB", "CMYK")),
        saved(PICTURE, "JPEG", progressive=True),
        saved(PICTURE, "PNG", transparency=(60, 20, 200)),
        saved(PICTURE.quantize(9), "PNG", transparency=bytes(range(9))),
        saved(PICTURE.quantize(4), "PNG", bits=2),
        saved(PICTURE.quantize(4), "GIF"),
        *(saved(PICTURE, "TIFF", compression=kind) for kind in ("tiff_lzw", "jpeg", "zstd")),
        saved(PICTURE.convert("1"), "TIFF", compression="group4"),
        *(saved(PICTURE.convert(mode), "JPEG2000") for mode in ("L", "RGB", "RGBA")),
        *(saved(PICTURE, kind) for kind in ("WEBP", "BMP", "AVIF")),
        saved(PICTURE, "MPO", save_all=True, append_images=[PICTURE.rotate(180)]),
    ],
)
def test_eight_bits_are_what_they_were(file: bytes) -> None:
    assert decode(file).tobytes() == as_pillow_sees(file)


def test_overviews_and_masks_are_passed_over() -> None:
    small, mask = (
        Page(COLOURS[::2, ::2], tags={254: (1,)}),
        Page(GREY, MINISBLACK, tags={254: (4,)}),
    )
    assert decode(tiff(Page(COLOURS), small, mask)).tobytes() == COLOURS.tobytes()
    old = Page(COLOURS[::2, ::2], tags={255: (2,)})
    assert decode(tiff(Page(COLOURS), old)).tobytes() == COLOURS.tobytes()


def test_a_chain_that_leads_nowhere_does_not_spoil_the_page_before_it() -> None:
    file = bytearray(tiff(Page(COLOURS)))
    start = struct.unpack_from("<I", file, 4)[0]
    (count,) = struct.unpack_from("<H", file, start)
    struct.pack_into("<I", file, start + 2 + 12 * count, len(file) + 1000)
    assert decode(bytes(file)).tobytes() == COLOURS.tobytes()
    struct.pack_into("<I", file, start + 2 + 12 * count, start)  # to itself
    assert decode(bytes(file)).tobytes() == COLOURS.tobytes()


FRAMES = {"save_all": True, "append_images": [PICTURE.rotate(180)]}


@pytest.mark.parametrize(
    "file",
    [
        tiff(Page(GREY, MINISBLACK), Page(GREY, MINISBLACK), Page(GREY, MINISBLACK)),
        tiff(Page(COLOURS), Page(COLOURS[::2, ::2])),
        *(saved(PICTURE, kind, **FRAMES) for kind in ("PNG", "GIF", "WEBP", "AVIF")),
    ],
)
def test_further_images_in_a_file_do_not_vanish(file: bytes) -> None:
    with pytest.raises(DataError, match=r"holds several images .* only the first would be seen"):
        decode(file)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (Page(COLOURS, tags={254: (1,)}), "begins with a reduced copy"),
        (Page(COLOURS, CIELAB), "has CIELAB colours"),
        (Page(GREY.astype(np.complex64), MINISBLACK), "has complex numbers"),
        (Page(with_band(DEEP), CMYK), "has CMYK colours of more than 8 bits"),
        (Page(DEEP[..., 0], MINISWHITE), "has white where its numbers are 0"),
        (Page(COLOURS, YCBCR), "has subsampled YCbCr colours"),
        (Page(GREY, 32803), "holds a camera sensor's raw values"),
        (Page(GREY, PALETTE, tags={320: list(range(256)) * 3}), "a palette of 8-bit numbers"),
        (Page(with_band(COLOURS), extras=[1], planar=True), "multiplied by alpha, each in a plane"),
        (Page(COLOURS, tags={258: (8, 8, 16)}), "has bands of different depths"),
    ],
)
def test_what_decoders_would_misread_is_named(page: Page, said: str) -> None:
    with pytest.raises(DataError, match=f"{said}.*: convert it to 8-bit RGB"):
        decode(tiff(page))


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git-LFS pointer.*git lfs"),
        (b"\n<!DOCTYPE html><title>404</title>", "is a web page"),
        (bytes(4096), "holds zeros only"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"hello", "not readable as an image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "header is damaged"),
        (b"II*\0\x08\0\0\0", "header is damaged"),
        (b"II*\0\xff\xff\xff\xff", "header is damaged"),
        (b"\x89PNG\r\n\x1a\n", "header is damaged"),
        (saved(PICTURE, "JPEG")[:500], "not readable as an image"),
        (tiff(Page(COLOURS))[8:], "not readable as an image"),
    ],
)
def test_what_is_no_image_is_named(file: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        decode(file)


def test_deep_avif_is_not_offered_what_cannot_help() -> None:
    file = bytearray(saved(PICTURE, "AVIF"))
    file[file.find(b"av1C") + 6] |= 0x40
    with pytest.raises(DataError, match=r"3 bands of 10-bit .*: convert it to 8-bit RGB") as caught:
        decode(bytes(file))
    assert "data." not in str(caught.value)


def test_what_only_rasterio_can_unpack_says_so() -> None:
    import rasterio

    with rasterio.MemoryFile() as memory:
        size = {"width": 12, "height": 8, "count": 3, "dtype": "uint8"}
        with memory.open(driver="GTiff", photometric="RGB", compress="lerc", **size) as file:
            file.write(np.moveaxis(COLOURS, -1, 0))
        data = bytes(memory.read())
    with pytest.raises(DataError, match=r"not readable .*: data\.stretch=none may read it"):
        decode(data)
    assert np.array_equal(decode(data, Reading((), ("none",))), COLOURS)


def test_avif_by_its_compatible_brands() -> None:
    file = saved(PICTURE, "AVIF")
    again = file.replace(b"ftypavif", b"ftypmif1", 1)
    assert b"avif" in again[16 : again[3]]
    assert decode(again).tobytes() == decode(file).tobytes()
