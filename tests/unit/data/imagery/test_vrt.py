"""VRTs name other files: those of the same data are read, and no others."""

import re
from pathlib import Path

import numpy as np
import pytest

from fedrsclip_core.config.reading import Reading
from fedrsclip_core.data.folders.source import FolderSource
from fedrsclip_core.data.imagery.decoding import decode
from fedrsclip_core.errors import DataError
from tests.unit.data.imagery.files import MINISBLACK, Page, png, scene, tiff

pytestmark = pytest.mark.unit

BANDS = scene().astype(np.uint16) * 12
READING = Reading(("B4", "b3", 3), (0, 3000))


def stack(*sources: str, relative: int = 1) -> str:
    """A VRT of one band for each source."""
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{n}"><Description>B{5 - n}</Description>'
        f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for n, source in enumerate(sources, 1)
    )
    return f'<VRTDataset rasterXSize="12" rasterYSize="8">{bands}</VRTDataset>'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a scene whose bands are in files of their own."""
    (tmp_path / "data" / "beach" / ".bands").mkdir(parents=True)
    for band in range(3):
        file = tiff(Page(BANDS[..., band], MINISBLACK))
        (tmp_path / "data" / "beach" / ".bands" / f"{4 - band}.tif").write_bytes(file)
    (tmp_path / "elsewhere.tif").write_bytes(tiff(Page(BANDS[..., 0], MINISBLACK)))
    sources = [f".bands/{n}.tif" for n in (4, 3, 2)]
    (tmp_path / "data" / "beach" / "scene.vrt").write_text(stack(*sources))
    return tmp_path / "data"


def test_bands_in_files_of_their_own(data: Path) -> None:
    expected = np.rint(255 * np.clip(BANDS / 3000, 0, 1))
    image = decode(data / "beach" / "scene.vrt", READING)
    assert abs(np.asarray(image) - expected).max() == 0
    absolute = [str(data / "beach" / ".bands" / f"{n}.tif") for n in (4, 3, 2)]
    (data / "beach" / "b.vrt").write_text(stack(*absolute, relative=0))
    assert decode(data / "beach" / "b.vrt", READING).tobytes() == image.tobytes()
    with pytest.raises(DataError, match=r"is a VRT, which is read only if data\.bands"):
        decode(data / "beach" / "scene.vrt")


def test_an_image_is_another_one_when_a_file_that_it_names_is(data: Path) -> None:
    source = FolderSource(data, reading=READING)
    assert len(source) == 1
    key, content = source.stat_key(0), source.content_hash(0)
    assert source.image(0).size == (12, 8)
    (data / "beach" / ".bands" / "3.tif").write_bytes(tiff(Page(BANDS[..., 0], MINISBLACK)))
    assert source.stat_key(0) != key and source.content_hash(0) != content
    (data / "beach" / ".bands" / "3.tif").unlink()
    for identity in (source.stat_key, source.content_hash):
        with pytest.raises(DataError, match="cannot be read"):
            identity(0)


def test_the_data_folder_bounds_what_may_be_named(data: Path) -> None:
    (data / "shared.tif").write_bytes(tiff(Page(BANDS[..., 0], MINISBLACK)))
    (data / "beach" / "scene.vrt").write_text(stack(*["../shared.tif"] * 3))
    assert FolderSource(data, ["beach"], reading=READING).image(0).size == (12, 8)
    with pytest.raises(DataError, match=re.escape("shared.tif is not below")):
        decode(data / "beach" / "scene.vrt", READING)
    for place in ("../../elsewhere.tif", str(data.parent / "elsewhere.tif"), "/etc/passwd"):
        (data / "beach" / "scene.vrt").write_text(stack(*[place] * 3))
        with pytest.raises(DataError, match=r"is a VRT whose source .* is not below"):
            FolderSource(data, ["beach"], reading=READING).image(0)


WMS = "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9</ServerUrl></Service></GDAL_WMS>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (stack("/vsicurl/http://127.0.0.1:9/a.tif"), "is not below"),
        (stack("http://127.0.0.1:9/a.tif"), "is missing"),
        (stack("WMS:http://127.0.0.1:9/?x"), "is missing"),
        (stack("nowhere.tif"), "source nowhere.tif is missing"),
        (stack("service.tif"), "source service.tif not readable as an image"),
        (stack("other.vrt"), "source other.vrt is no TIFF"),
        (stack("bilevel.png"), "source bilevel.png is no plain image"),
        (stack("pages.tif"), "source pages.tif holds several images"),
        (stack("&#60;VRTDataset/&#62;"), "is missing"),
        (stack(""), "is missing|cannot be read"),
        (
            stack(".bands/4.tif").replace("<VRTDataset", '<VRTDataset subClass="VRTWarpedDataset"'),
            "VRTWarpedDataset",
        ),
        (
            stack(".bands/4.tif").replace('band="1"', 'band="1" subClass="VRTRawRasterBand"'),
            "VRTRawRasterBand",
        ),
        (
            stack(".bands/4.tif").replace('band="1"', 'band="1" subClass="VRTDerivedRasterBand"'),
            "VRTDerivedRasterBand",
        ),
        (stack(".bands/4.tif").replace("<SourceBand", "<OpenOptions/><SourceBand"), "OpenOptions"),
        (stack(".bands/4.tif").replace("<VRTD", "<!DOCTYPE a [<!ENTITY b 'c'>]><VRTD"), "."),
        (stack(".bands/4.tif").replace("<Sour", "<!DOCTYPE a><Sour"), "not readable as a VRT"),
        (stack(".bands/4.tif")[:120], "not readable as a VRT"),
        (stack(".bands/4.tif").replace("12", "minus"), "not readable as an image"),
    ],
)
def test_what_leads_elsewhere_is_refused(data: Path, text: str, said: str) -> None:
    folder = data / "beach"
    (folder / "service.tif").write_text(WMS)
    (folder / "other.vrt").write_text(stack(".bands/4.tif"))
    (folder / "bilevel.png").write_bytes(png(BANDS[..., 0].astype(np.uint8), 0).replace(
        b"\0\0\0\x0c\0\0\0\x08\x08", b"\0\0\0\x0c\0\0\0\x08\x01"))  # fmt: skip
    page = Page(BANDS[..., 0], MINISBLACK)
    (folder / "pages.tif").write_bytes(tiff(page, page))
    (folder / "scene.vrt").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        decode(folder / "scene.vrt", Reading((1,), (0, 3000)))
    assert "\n" not in str(caught.value)


def test_without_a_place_there_are_no_files_beside_it() -> None:
    with pytest.raises(DataError, match="is a VRT without the files that it names"):
        decode(stack("a.tif").encode(), Reading((1,), (0, 3000)))
