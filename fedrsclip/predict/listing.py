"""Which images are meant: files, folders, patterns, and a list on stdin; drawn one by one."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fedrsclip_core.data.folders.listing import is_true, list_folder
from fedrsclip_core.data.imagery.names import looks_like_image
from fedrsclip_core.errors import DataError
from fedrsclip_core.runs import paths

STDIN = "-"
_BLOCK = 2**16


@dataclass(frozen=True)
class Unlisted:
    """A folder that cannot be looked into.

    Attributes
    ----------
    place : str
        The folder.
    why : str
        In words.
    """

    place: str
    why: str


Item = str | Unlisted
"""The path of an image as it was given or found, or a folder with unknown ones."""


def check_given(given: Sequence[str]) -> None:
    """Refuse what no image can come of, before anything is done.

    Raises
    ------
    DataError
        If nothing is given, or something is not there or is a folder without an image.
    """
    if not given:
        raise DataError(
            "no images are given: name files, folders or patterns, or - for a list on stdin"
        )
    for one in given:
        if one == STDIN or _is_file(place := _place(one)):
            continue
        if next(_below(place), None) is None:
            if _is_folder(place):
                raise DataError(f"the folder {one} has no image in it, nor have its sub-folders")
            what = "no image matches" if glob.has_magic(one) else "there is no image or folder at"
            raise DataError(f"{what} {one}")


def items_of(given: Sequence[str], stdin: IO[bytes], *, null: bool = False) -> Iterator[Item]:
    """Yield the images, those of a folder in the order of their names, then of its sub-folders.

    Of what a pattern matches, files are taken that are images by their names.

    Parameters
    ----------
    given : Sequence[str]
        As :func:`check_given` has let pass.
    stdin : IO[bytes]
        Where ``-`` reads names, one a line.
    null : bool
        Whether names there end with NUL instead.
    """
    for one in given:
        names = _names(stdin, b"\0" if null else b"\n") if one == STDIN else [one]
        for name in names:
            place = _place(name) if one != STDIN else name
            if _is_file(place):
                yield place
            elif one == STDIN and not _is_folder(place):
                # In a list a name is no pattern; reading it says what is wrong.
                yield place
            else:
                yield from _below(place)


def _place(given: str) -> str:
    return str(paths.place(given, "the image")) if given.startswith("~") else given


def _is_file(place: str) -> bool:
    return is_true(Path(place).is_file)


def _is_folder(place: str) -> bool:
    return is_true(Path(place).is_dir)


def _below(place: str) -> Iterator[Item]:
    """Yield the images of a folder, or of what a pattern stands for."""
    if _is_folder(place):
        yield from _walk(place, frozenset())
    elif glob.has_magic(place):
        matches = sorted(glob.iglob(place, recursive=True))  # noqa: PTH207  as it was given
        yield from (found for found in matches if looks_like_image(found) and _is_file(found))


def _walk(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[Item]:
    try:
        status = Path(folder).stat()
        here = (status.st_dev, status.st_ino)
        if here in above:  # a link back
            return
        listing = list_folder(Path(folder))
    except (DataError, OSError) as error:
        yield Unlisted(folder, str(error))
        return
    for name in sorted(listing.images):
        yield os.path.join(folder, name)  # noqa: PTH118  pathlib would take ./ away
    for name in listing.folders:
        yield from _walk(os.path.join(folder, name), above | {here})  # noqa: PTH118


def _names(stream: IO[bytes], end: bytes) -> Iterator[str]:
    """Yield names as they arrive; those of a list from Windows end with CR LF."""
    rest = b""
    while block := stream.read1(_BLOCK) if hasattr(stream, "read1") else stream.read(_BLOCK):
        *whole, rest = (rest + block).split(end)
        yield from filter(None, (_name(one, end) for one in whole))
    if name := _name(rest, end):
        yield name


def _name(line: bytes, end: bytes) -> str:
    if b"\0" in line:
        raise DataError("the names on stdin have NUL in them: say -0 if they end with it")
    return os.fsdecode(line.removesuffix(b"\r") if end == b"\n" else line)
