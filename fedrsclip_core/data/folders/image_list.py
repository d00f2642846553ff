"""Images named by a list: a CSV file with the columns path and label, perhaps split and client."""

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from fedrsclip_core.config.texts import composed
from fedrsclip_core.data.folders.layouts import TRAIN, ImageFolder, Layout, part_of
from fedrsclip_core.data.folders.listing import file_names, list_folder
from fedrsclip_core.errors import DataError

SUFFIX = ".csv"

_COLUMNS = {
    "path": ("path", "file", "filename", "filepath", "image", "imagepath"),
    "label": ("label", "class", "classname"),
    "split": ("split", "set", "subset", "part", "partition", "phase"),
    "client": ("client", "clientid", "site", "silo", "institution"),
}
"""What each column may be called; letters count, not their case nor blanks, dashes and lines.

A column for the split that was not understood as one would put test images into training.
"""

_NEEDED = ("path", "label")
_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class _Row:
    """One line: an image, by its folder and name."""

    line: int
    folder: str
    name: str
    label: str
    part: int | None
    client: str | None


def read_image_list(path: Path) -> Layout:
    """Read which images there are, of which class, and perhaps for which part and client.

    Paths are relative to the list's folder and below it. An image that is not there is left out.

    Parameters
    ----------
    path : Path
        The list, an absolute path.

    Raises
    ------
    DataError
        If it cannot be read as UTF-8 or CSV, lacks a column, or a row is no image's; with the
        line.
    """
    rows = list(_rows(path))
    if not rows:
        raise DataError(f"{path} has no line but the first: list an image in each further one")
    _check_together(path, rows)
    columns = ["path", "label"]
    columns += ["split"] if rows[0].part is not None else []
    columns += ["client"] if any(row.client for row in rows) else []
    layout = Layout(patterns=[f"{path.name} ({', '.join(columns)})"], listed=[str(path)])
    by_folder: dict[str, list[_Row]] = {}
    for row in rows:
        by_folder.setdefault(row.folder, []).append(row)
    for name, members in by_folder.items():
        _add_folder(layout, path.parent, name, members)
    return layout


def _add_folder(layout: Layout, root: Path, name: str, rows: Sequence[_Row]) -> None:
    """Add the images of one folder, as far as they are there."""
    folder = _folder_on_disk(root, name)
    there: dict[str, str] = {}
    if folder is not None:
        layout.listed.append(str(folder))
        there = {composed(file): file for file in file_names(folder)}
    found: dict[tuple[str, int, str | None], list[str]] = {}
    for row in rows:
        image = there.get(row.name)
        if image is None:
            missing = str(root / row.folder / row.name)
            layout.left_out.append((missing, f"is not there, but in line {row.line} of the list"))
        else:
            key = row.label, row.part or TRAIN, row.client
            found.setdefault(key, []).append(image)
    layout.folders.extend(
        ImageFolder(str(folder), PurePosixPath(name).name, label, part, client, images)
        for (label, part, client), images in found.items()
    )


def _folder_on_disk(root: Path, name: str) -> Path | None:
    """Return a folder whose name is given composed, ``None`` if it is not there."""
    if (root / name).is_dir():
        return root / name
    path = root
    for part in PurePosixPath(name).parts:
        found = [folder for folder in list_folder(path).folders if composed(folder) == part]
        if not found:
            return None
        path /= found[0]
    return path


def _rows(path: Path) -> Iterator[_Row]:
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file.readline())
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            columns = _columns(path, next(reader, []))
            for cells in reader:
                line = reader.line_num
                if any(cell.strip() for cell in cells):
                    yield _row(path, line, cells, columns)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8: save the list as CSV in UTF-8") from error
    except csv.Error as error:
        raise DataError(f"line {line + 1} of {path} is no CSV: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def _delimiter(header: str) -> str:
    """Return what separates columns: spreadsheets of some languages write semicolons."""
    return max(_DELIMITERS, key=header.count)


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Return where each column is."""
    places: dict[str, int] = {}
    words = ["".join(filter(str.isalnum, name.lower())) for name in header]
    for column, names in _COLUMNS.items():
        found = [i for i, word in enumerate(words) if word in names]
        if len(found) > 1:
            first, second = (header[i].strip() for i in found[:2])
            raise DataError(
                f"line 1 of {path} has two columns for the {column}, {first!r} and {second!r}: "
                "rename the one that is not meant"
            )
        if found:
            places[column] = found[0]
        elif column in _NEEDED:
            there = ", ".join(name.strip() or "(empty)" for name in header) or "nothing"
            raise DataError(
                f"line 1 of {path} has no column {column}: it must name path and label, and may "
                f"name split and client; it has {there}"
            )
    return places


def _row(path: Path, line: int, cells: Sequence[str], columns: dict[str, int]) -> _Row:
    where = f"line {line} of {path}"
    if len(cells) <= max(columns.values()):
        raise DataError(f"{where} has {len(cells)} cells, fewer than line 1: complete it")
    cell = {column: composed(cells[place].strip()) for column, place in columns.items()}
    if not cell["label"]:
        raise DataError(f"{where} has no label: give each image its class")
    folder, _, name = cell["path"].rpartition("/")
    _check_path(cell["path"], name, where)
    return _Row(
        line,
        _folder(folder),
        name,
        sys.intern(cell["label"]),
        _part(cell.get("split", ""), where),
        sys.intern(cell.get("client", "")) or None,
    )


def _check_path(given: str, name: str, where: str) -> None:
    """Refuse what is no path of a file below the list's folder."""
    if name in ("", ".", ".."):
        raise DataError(f"{where} has no path of a file, but {given!r}: name an image file")
    if given.startswith(("/", "../")) or "/../" in given or given[1:3] in (":\\", ":/"):
        raise DataError(
            f"{where} has the path {given!r}: write it relative to the list's folder, and put the "
            "list into a folder that all its images are below"
        )
    if "\\" in given:
        raise DataError(f"{where} has the path {given!r}: write / between the folders")


@lru_cache(maxsize=1024)
def _folder(given: str) -> str:
    """Return a folder's path without single dots and double slashes."""
    return str(PurePosixPath(given))


def _part(word: str, where: str) -> int | None:
    if not word:
        return None
    part = part_of(word)
    if part is None:
        raise DataError(f"{where} has the split {word!r}: write train, val or test")
    return part


def _check_together(path: Path, rows: Sequence[_Row]) -> None:
    """Refuse what no row can be blamed for alone."""
    lines: dict[tuple[str, str], int] = {}
    for row in rows:
        first = lines.setdefault((row.folder, row.name), row.line)
        if first != row.line:
            image = PurePosixPath(row.folder, row.name)
            raise DataError(
                f"line {row.line} of {path} has {image}, which line {first} has already: list "
                "each image once"
            )
        if (row.part is None) != (rows[0].part is None):
            bare = row if row.part is None else rows[0]
            raise DataError(
                f"line {bare.line} of {path} has no split, but other lines have: give it to all "
                "or to none"
            )
