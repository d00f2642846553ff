"""VRTs, which only say in which other files pixels are: these must be files of the same data.

GDAL would follow a VRT to any place, also over the network, and let it run code. So only
mosaics and stacks of plain image files are read, and GDAL gets the places that were checked.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from fedrsclip_core.data.imagery.header import (
    JPEG,
    JPEG2000,
    PNG,
    SEVERAL_IMAGES,
    TIFF,
    read_header,
)
from fedrsclip_core.errors import DataError

_LONGEST = 2**24
"""Bytes of a VRT at most."""

_KNOWN = frozenset(
    """
    VRTDataset VRTRasterBand MaskBand OverviewList SRS GeoTransform GCPList GCP Metadata MDI
    Description UnitType Offset Scale CategoryNames Category ColorTable Entry ColorInterp
    NoDataValue HideNoDataValue Histograms HistItem HistMin HistMax BucketCount IncludeOutOfRange
    Approximate HistCounts SimpleSource ComplexSource AveragedSource KernelFilteredSource Overview
    SourceFilename SourceBand SourceProperties SrcRect DstRect NODATA UseMaskBand ScaleOffset
    ScaleRatio ColorTableComponent LUT Exponent SrcMin SrcMax DstMin DstMax Clamp Kernel Size Coefs
    """.split()  # noqa: SIM905
)
_SOURCE = "SourceFilename"
_SOURCED = "VRTSourcedRasterBand"


def sources_of(file: Path) -> list[Path]:
    """Return the files that a VRT's pixels are in; none of a file that is no VRT.

    Raises
    ------
    DataError
        If the VRT cannot be read.
    """
    if file.suffix.lower() != ".vrt":
        return []
    return sorted({_place(source, file) for source in _parsed(file).iter(_SOURCE)})


def safe_vrt(file: Path | bytes, root: Path | None) -> bytes:
    """Return a VRT with the checked, absolute places of its sources.

    Parameters
    ----------
    file : Path or bytes
        The VRT; given as content it has no files beside it, and is refused.
    root : Path or None
        The folder in which its sources must lie; by default the VRT's own.

    Raises
    ------
    DataError
        If it is no plain mosaic or stack, or a source is missing, elsewhere or of another kind.
    """
    if isinstance(file, bytes):
        raise DataError("is a VRT without the files that it names: give images themselves")
    tree = _parsed(file)
    for element in tree.iter():
        _check_known(element)
    inside = _absolute(file.parent if root is None else root)
    for source in tree.iter(_SOURCE):
        place = _place(source, file)
        _check_source(place, inside)
        source.text = str(place)
        source.set("relativeToVRT", "0")
    return ElementTree.tostring(tree)


def _parsed(file: Path) -> ElementTree.Element:
    try:
        with file.open("rb") as stream:
            text = stream.read(_LONGEST + 1)
        if len(text) > _LONGEST or b"<!" in text.replace(b"<!--", b""):
            raise DataError(f"not readable as a VRT (above {_LONGEST} bytes, or with a DTD)")
        return ElementTree.fromstring(text)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"not readable as a VRT ({error})") from error


def _check_known(element: ElementTree.Element) -> None:
    kind = element.get("subClass", _SOURCED)
    if element.tag not in _KNOWN or kind != _SOURCED:
        what = element.tag if kind == _SOURCED else kind
        raise DataError(
            f"is a VRT with {what[:40]}, of which only mosaics and stacks of files are read: save "
            "it as GeoTIFF by gdal_translate"
        )


def _place(source: ElementTree.Element, file: Path) -> Path:
    """Return where a source is."""
    # Joined to an absolute place, the folder falls away.
    return _absolute(file.parent / (source.text or "").strip())


def _absolute(path: Path) -> Path:
    """Return a path without ``..``; links stay, for data may be collected by links."""
    return Path(os.path.normpath(path.absolute()))


def _check_source(place: Path, inside: Path) -> None:
    if not place.is_relative_to(inside):
        raise DataError(
            f"is a VRT whose source {place.name} is not below {inside}: copy it there, or save the "
            "VRT as GeoTIFF by gdal_translate"
        )
    if not place.is_file():
        raise DataError(f"is a VRT whose source {place.name} is missing")
    try:
        header = read_header(place)
    except DataError as error:
        raise DataError(f"is a VRT whose source {place.name} {error}") from error
    if header.container not in (TIFF, JPEG2000, PNG, JPEG):
        raise DataError(f"is a VRT whose source {place.name} is no TIFF, JPEG 2000, PNG or JPEG")
    if header.bits < 8 or header.problem:
        raise DataError(f"is a VRT whose source {place.name} is no plain image of 8 bits or more")
    if header.images > 1:
        raise DataError(f"is a VRT whose source {place.name} {SEVERAL_IMAGES}")


def all_files(file: Path) -> Iterator[Path]:
    """Yield a file and, of a VRT, those that it names."""
    yield file
    yield from sources_of(file)
