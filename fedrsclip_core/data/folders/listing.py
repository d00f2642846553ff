"""What lies in one folder: images, folders, what is left out, and what never counts.

What other programs leave beside images, and what people write beside them, never counts. Anything
else that is no image is left out, with a reason, so that it can be counted.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from fedrsclip_core.data.imagery.names import looks_like_image
from fedrsclip_core.errors import DataError

_SYSTEM = frozenset(
    {
        # macOS
        "__macosx",
        "icon\r",
        "network trash folder",
        "temporary items",
        "thevolumesettingsfolder",
        # Windows
        "$recycle.bin",
        "desktop.ini",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "found.000",
        "picasa.ini",
        "recycled",
        "recycler",
        "system volume information",
        "thumbs.db",
        # Synology, QNAP and other network storage
        "#recycle",
        "#snapshot",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "@sharebin",
        "@tmp",
        "synoindex_media_info",
        "~snapshot",
        # Linux, version control, Python
        "lost+found",
        "cvs",
        "__pycache__",
    }
)
"""Names, in lower case, of files and folders that systems leave; so are all with a leading dot."""

_SYSTEM_ENDINGS = (
    "@synoeastream",
    "@synoresource",
    ":encryptable",
    ":zone.identifier",
    ":com.dropbox.attributes",
    ":com.dropbox.attrs",
)
"""Of files that stand for what another file system keeps beside a file."""

_SIDECARS = (
    # Georeference, statistics, masks and overviews that GDAL and Esri keep beside an image.
    ".aux",
    ".cpg",
    ".dbf",
    ".eph",
    ".geojson",
    ".hdr",
    ".imd",
    ".kml",
    ".msk",
    ".ovr",
    ".prj",
    ".qpj",
    ".rpb",
    ".rpc",
    ".rrd",
    ".sbn",
    ".sbx",
    ".shp",
    ".shx",
    ".til",
    ".wld",
    ".xml",
    # World files: the first and last letter of the image's suffix and a w, or all of it and a w.
    ".bmpw",
    ".bpw",
    ".gfw",
    ".gifw",
    ".j2w",
    ".jgw",
    ".jp2w",
    ".jpegw",
    ".jpgw",
    ".pgw",
    ".pngw",
    ".tfw",
    ".tfwx",
    ".tiffw",
    ".tifw",
    ".webpw",
    ".wpw",
)

_DOCUMENTS = (
    ".bib",
    ".cff",
    ".cfg",
    ".csv",
    ".doc",
    ".docx",
    ".htm",
    ".html",
    ".ini",
    ".ipynb",
    ".json",
    ".jsonl",
    ".lnk",
    ".log",
    ".m",
    ".md",
    ".md5",
    ".pdf",
    ".py",
    ".rst",
    ".rtf",
    ".sh",
    ".sha1",
    ".sha256",
    ".toml",
    ".tsv",
    ".txt",
    ".url",
    ".xls",
    ".xlsx",
    ".yaml",
    ".yml",
)

_DOCUMENT_NAMES = frozenset(
    {
        "authors",
        "changelog",
        "checksums",
        "copying",
        "licence",
        "license",
        "makefile",
        "md5sums",
        "notice",
        "readme",
        "sha1sums",
        "sha256sums",
    }
)


@dataclass(frozen=True)
class Listing:
    """What lies in a folder, by name.

    Attributes
    ----------
    folders : list[str]
        Sorted.
    images : list[str]
        Files that are images by their suffix, in no order.
    documents : list[str]
        Files that never count and that people write, in no order.
    left_out : list[tuple[str, str]]
        Sorted names of other files, of links that lead nowhere and of what is no file, and why.
    lost_folders : list[str]
        Of these, links that lead nowhere and are not called as files: perhaps to folders.
    """

    folders: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    lost_folders: list[str] = field(default_factory=list)


def list_folder(folder: Path) -> Listing:
    """List a folder without what never counts.

    Raises
    ------
    DataError
        If it cannot be listed.
    """
    found = Listing()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name[0] != "." and looks_like_image(name) and is_true(entry.is_file):
                    found.images.append(name)
                elif not _is_leftover(name):
                    _sort_in(found, entry)
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be listed ({error.strerror})") from error
    found.folders.sort()
    found.left_out.sort()
    return found


def file_names(folder: Path) -> list[str]:
    """Return the names of all files in a folder, in no order.

    Raises
    ------
    DataError
        If it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if is_true(entry.is_file)]
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be listed ({error.strerror})") from error


def _sort_in(found: Listing, entry: "os.DirEntry[str]") -> None:
    """Add what is no image file."""
    name = entry.name
    if is_true(entry.is_dir):
        found.folders.append(name)
    elif is_true(entry.is_file):
        if _is_document(name):
            found.documents.append(name)
        else:
            found.left_out.append((name, _why(name)))
    elif entry.is_symlink():
        if not _is_document(name):
            found.left_out.append((name, "is a link to what is not there"))
            if not looks_like_image(name):
                found.lost_folders.append(name)
    else:
        found.left_out.append((name, "is no file"))


def is_true(test: Callable[[], bool]) -> bool:
    """Ask what a path is; what cannot be looked at is nothing."""
    try:
        return test()
    except OSError:  # a link in a circle, or to where nobody may look
        return False


def _is_leftover(name: str) -> bool:
    low = name.lower()
    return low[0] == "." or low in _SYSTEM or low.startswith("~$") or low.endswith(_SYSTEM_ENDINGS)


def _is_document(name: str) -> bool:
    low = name.lower()
    return low.endswith(_SIDECARS) or low.endswith(_DOCUMENTS) or low in _DOCUMENT_NAMES


def _why(name: str) -> str:
    suffix = PurePath(name).suffix
    return f"is no image by its suffix {suffix}" if suffix else "has no suffix"
