"""One picture stored in eight ways is one picture."""

import numpy as np
import pytest
from PIL import Image

from fedrsclip_core.config.reading import Reading
from fedrsclip_core.data.imagery.decoding import decode
from tests.unit.data.imagery.files import Page, png, saved, scene, tiff

pytestmark = pytest.mark.unit

COLOURS = scene()
STORED = {
    1: COLOURS,
    2: COLOURS[:, ::-1],
    3: COLOURS[::-1, ::-1],
    4: COLOURS[::-1],
    5: COLOURS.transpose(1, 0, 2),
    6: np.rot90(COLOURS, 1),
    7: COLOURS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(COLOURS, -1),
}
"""By orientation: what is stored if that is to be made upright."""
EVERY = pytest.mark.parametrize("orientation", STORED)


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@EVERY
@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 100, "subsampling": 0})],
)
def test_exif_turns_an_image(orientation: int, kind: str, options: dict[str, object]) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    image = decode(saved(stored, kind, exif=exif_of(orientation), **options))
    assert image.size == (12, 8)
    assert abs(np.asarray(image).astype(int) - COLOURS).max() <= (4 if kind == "JPEG" else 0)


@EVERY
def test_tiff_turns_an_image_once(orientation: int) -> None:
    file = tiff(Page(STORED[orientation], tags={274: (orientation,)}))
    assert np.array_equal(decode(file), COLOURS)
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    packed = saved(stored, "TIFF", compression="tiff_lzw", tiffinfo={274: orientation})
    assert np.array_equal(decode(packed), COLOURS)


@EVERY
def test_deep_images_are_turned_too(orientation: int) -> None:
    deep, reading = STORED[orientation].astype(np.uint16) * 10, Reading(stretch=("0", "2550"))
    file = tiff(Page(deep, tags={274: (orientation,)}))
    assert np.array_equal(decode(file, reading), COLOURS)
    # Pillow writes the tag into the chunk without the head that JPEG has before it.
    chunk = (b"eXIf", exif_of(orientation).tobytes().removeprefix(b"Exif\0\0"))
    assert np.array_equal(decode(png(deep, 2, chunk), reading), COLOURS)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_is_none(orientation: int) -> None:
    file = saved(Image.fromarray(COLOURS), "PNG", exif=exif_of(orientation))
    assert np.array_equal(decode(file), COLOURS)


def test_damaged_exif_says_nothing() -> None:
    for damage in (b"Exif\0\0II*\0", b"Exif\0\0\xff\xff\xff\xff\xff\xff", b"Exif\0\0"):
        file = saved(Image.fromarray(COLOURS), "JPEG", exif=damage)
        whole = saved(Image.fromarray(COLOURS), "JPEG")
        assert decode(file).tobytes() == decode(whole).tobytes()
