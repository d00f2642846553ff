"""The site's journal: a line for each message that it answered, in a chain of checksums.

A line is written and synced before its answer leaves. It holds the checksum of the line before,
and its own covers that, so that a line that was changed, removed or put in between is noticed.
Number and checksum of the last line stand in a file beside it, so that lines missing at the end are
noticed as well. Who may write these files can make a new chain: the last checksum, kept elsewhere,
tells.

Each file is called after the number of its first line; when one is full the chain continues in the
next. Nothing is deleted here, the oldest files can be moved away. What a crash has left of a line
stays as it is: its answer was not sent.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fedrsclip_core.errors import RunError
from fedrsclip_core.runs.fileio import append_bytes, sha256_of, sync_directory

START = "0" * 64
"""What the first line of all follows."""

_MAX_BYTES = 2**20
_TAIL = 2**16
"""Bytes at a file's end that hold its last line."""
_FILE = re.compile(r"(?P<client>.+)\.journal\.(?P<first>\d+|last)")
_LINE = re.compile(r'(?P<body>\{.+), "checksum": "(?P<checksum>[0-9a-f]{64})"\}')
_LAST = re.compile(r"(\d{20}) ([0-9a-f]{64})\n")


@dataclass(frozen=True)
class Last:
    """The last line of a chain: its number, from 1, and its checksum."""

    number: int = 0
    checksum: str = START


class Journal:
    """The journal of one client.

    Parameters
    ----------
    folder : Path
        Where its files lie.
    client_name : str
        A name that can be a file's.
    max_bytes : int
        Size at which a file is full.
    """

    def __init__(self, folder: Path, client_name: str, *, max_bytes: int = _MAX_BYTES) -> None:
        self.client_name = client_name
        self._folder = folder
        self._last = self._path("last")
        self._max_bytes = max_bytes

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write a line and sync it.

        Raises
        ------
        OSError
            If it cannot be written; the journal is then as it was.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        # Two processes may answer at once, when one of them was given up.
        with _held(self._last) as noted:
            files = self.files()
            last = max(_read_last(noted.read()), _newest(files), key=lambda one: one.number)
            line, last = _line(entry, last)
            if files and files[-1].stat().st_size < self._max_bytes:
                append_bytes(files[-1], line if _ends_whole(files[-1]) else b"\n" + line)
            else:
                path = self._path(f"{last.number:09d}")
                path.touch(mode=0o600)
                append_bytes(path, line)
                sync_directory(self._folder)
            noted.seek(0)
            # Not synced: after a crash it may name an earlier line, never a later one.
            noted.write(f"{last.number:020d} {last.checksum}\n".encode())

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield all lines, the oldest first, and check the chain on the way.

        Raises
        ------
        RunError
            At the first line that is not what was written, or does not follow the one before.
        """
        noted = self._noted()  # before the lines: more may be written meanwhile
        last: Last | None = None
        for path in self.files():
            first = int(path.suffix[1:])
            for number, text in enumerate(path.read_bytes().splitlines(), start=1):
                entry = _parsed(text)
                if entry is None:
                    continue  # what a crash has left; had it been a line, the next would not fit
                where = f"line {number} of {path}"
                last = _follows(entry, text, last or Last(first - 1, entry["previous"]), where)
                yield entry
        found = last or Last()
        if noted.number > found.number:
            missing = noted.number - found.number
            raise RunError(f"{missing} lines are missing at the end of {self._path('*')}")
        if noted.number == found.number and noted.checksum != found.checksum:
            raise RunError(f"the last line of {self._path('*')} is not the one that was written")

    def files(self) -> list[Path]:
        """Return the files that are there, the oldest first."""
        found = {}
        for path in self._folder.glob("*"):
            name = _FILE.fullmatch(path.name)
            if name and name["client"] == self.client_name and name["first"] != "last":
                found[int(name["first"])] = path
        return [found[number] for number in sorted(found)]

    def _path(self, end: str) -> Path:
        return self._folder / f"{self.client_name}.journal.{end}"

    def _noted(self) -> Last:
        try:
            return _read_last(self._last.read_bytes())
        except FileNotFoundError:
            return Last()


def journals(folder: Path) -> list[Journal]:
    """Return the journals in a folder, by the clients' names."""
    found = (_FILE.fullmatch(path.name) for path in folder.glob("*"))
    return [Journal(folder, name) for name in sorted({name["client"] for name in found if name})]


@contextmanager
def _held(path: Path) -> Iterator[BinaryIO]:
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _newest(files: Sequence[Path]) -> Last:
    """Return the last whole line in the newest file that has one."""
    for path in reversed(files):
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            for text in reversed(file.read().splitlines()):
                entry = _parsed(text)
                if entry is not None:
                    return Last(entry["number"], entry["checksum"])
    return Last()


def _line(entry: Mapping[str, Any], last: Last) -> tuple[bytes, Last]:
    """Return the line that follows ``last``, and that line as the last."""
    number = last.number + 1
    body = json.dumps({"number": number, **entry, "previous": last.checksum})[:-1]
    checksum = sha256_of(body)
    return f'{body}, "checksum": "{checksum}"}}\n'.encode(), Last(number, checksum)


def _parsed(text: bytes) -> dict[str, Any] | None:
    """Return a line's values; nothing if it is no whole line."""
    try:
        values = json.loads(text) if _LINE.fullmatch(text.decode("ascii")) else None
    except (ValueError, RecursionError):
        return None
    whole = isinstance(values, dict) and type(values.get("number")) is int and "previous" in values
    return values if whole else None


def _follows(entry: Mapping[str, Any], text: bytes, last: Last, where: str) -> Last:
    line = _LINE.fullmatch(text.decode("ascii"))
    assert line is not None
    if sha256_of(line["body"]) != line["checksum"]:
        raise RunError(f"{where} is not what was written")
    if (entry["number"], entry["previous"]) != (last.number + 1, last.checksum):
        raise RunError(
            f"{where} is number {entry['number']} but follows number {last.number}: lines before "
            "it are missing or others"
        )
    return Last(entry["number"], line["checksum"])


def _read_last(text: bytes) -> Last:
    """Return what was noted; the start if a crash left something else."""
    found = _LAST.fullmatch(text.decode("ascii", "replace"))
    return Last(int(found[1]), found[2]) if found else Last()


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
