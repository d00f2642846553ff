"""A file of predictions that an interrupted command leaves whole, and the same command resumes."""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip.predict.rows import Row, Stored
from fedrsclip_core.errors import DataError
from fedrsclip_core.runs import fileio

_ABOUT = ".about.json"
_FORMAT = "fedrsclip-predictions-1"


class OutFile:
    """Rows that are appended as they come.

    Beside it, ``<name>.about.json`` says which classifier the rows are of.

    Parameters
    ----------
    path : Path
        Where rows go; one that is there is resumed.
    form : Stored
        How rows are written.
    about : Mapping[str, Any]
        What the rows depend on.

    Attributes
    ----------
    resumed, unreadable : int
        Rows that were there already, and of these those of images that could not be read.

    Raises
    ------
    DataError
        If there is something else, or the rows of another classifier or another command's.
    OSError
        If the file cannot be written.
    """

    def __init__(self, path: Path, form: Stored, about: Mapping[str, Any]) -> None:
        self._path, self._form = path, form
        self.resumed = self.unreadable = 0
        said = {"format": _FORMAT, **about}
        beside = path.with_name(path.name + _ABOUT)
        is_new = not path.exists()
        if is_new:
            path.parent.mkdir(parents=True, exist_ok=True)
            fileio.write_json(beside, said)
        else:
            _check_same(path, beside, said)
        self._file = path.open("r+b" if path.exists() else "xb", buffering=0)
        try:
            _lock(self._file, path)
            self._counts = _Counts(self._read() if not is_new else iter(()))
            self._size = self._file.seek(0, os.SEEK_END)
            if not self._size:
                self._append(form.header().encode())
        except BaseException:
            self._file.close()
            raise

    def take(self, image: str) -> bool:
        """Whether a row of this image is there already; each row is told of once."""
        return self._counts.take(self._form.key(image))

    def write(self, rows: list[Row]) -> None:
        """Append rows, all or none.

        Raises
        ------
        OSError
            If the disk is full; the file then ends with the rows before.
        """
        self._append("".join(map(self._form.line, rows)).encode())

    def close(self) -> None:
        """Make the rows last."""
        try:
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def _append(self, data: bytes) -> None:
        try:
            if self._file.write(data) != len(data):  # what still fitted on a full disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        except BaseException:
            self._file.truncate(self._size)
            raise
        self._size += len(data)

    def _read(self) -> Iterator[str]:
        """Yield the images of all rows, and cut off a last one that is not whole."""
        kept = len(self._form.header().encode())
        for row in self._form.whole(self._file):
            kept += len(row)
            try:
                image, unreadable = self._form.read(row)
            except ValueError as error:
                raise DataError(
                    f"{self._path} has a row that is none of its own after {self.resumed} others "
                    f"({error}): name another file"
                ) from error
            self.resumed += 1
            self.unreadable += unreadable
            yield image
        # Less than a header is there if writing that was interrupted.
        self._file.truncate(kept if self.resumed or self._has_header() else 0)

    def _has_header(self) -> bool:
        header = self._form.header().encode()
        self._file.seek(0)
        return self._file.read(len(header)) == header


class _Counts:
    """How often each text is there, at 16 bytes each: a million do not count."""

    def __init__(self, texts: Iterator[str]) -> None:
        found = np.fromiter(map(_number, texts), np.uint64)
        self._numbers: NDArray[np.uint64]
        self._numbers, self._left = np.unique(found, return_counts=True)

    def take(self, text: str) -> bool:
        number = np.uint64(_number(text))
        place = int(self._numbers.searchsorted(number))
        if place == len(self._numbers) or self._numbers[place] != number or not self._left[place]:
            return False
        self._left[place] -= 1
        return True


def _number(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest())


def _check_same(path: Path, beside: Path, said: Mapping[str, Any]) -> None:
    try:
        before = json.loads(beside.read_text(encoding="utf-8"))
        known = before["format"] == _FORMAT
    except (OSError, ValueError, LookupError, TypeError):
        known = False
    if not known:
        raise DataError(
            f"{path} is there, and no {beside.name} beside it that says whose it is: name another "
            "file"
        )
    for name, words in (("digest", "another classifier"), ("top", "another --top")):
        if before.get(name) != said[name]:
            raise DataError(
                f"{path} has the rows of {words} ({before.get('classifier')}): name another file"
            )


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(f"another process is writing {path}: wait for it") from None
