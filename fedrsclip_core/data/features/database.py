"""An SQLite file for one cache: safe for several processes, replaced when it is unusable.

Its write-ahead log is shared by memory, which only processes of one machine have in common: on a
file system of a network there is none, and the whole file is locked for each change.

A replaced file gets a new name, ``<stem>-<generation>.sqlite``: a process that still has the old
one open deletes, when it closes it, the write-ahead log *of that name*.
"""

import fcntl
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from fedrsclip_core.errors import DataError
from fedrsclip_core.mounts import is_shared

_T = TypeVar("_T")

_APPLICATION_ID = 0x46525343  # "FRSC": tells our files from other SQLite files.
_PAGE_BYTES = 16384
_WAIT_SECONDS = 60


class _ForeignFileError(Exception):
    """A file of another program, encoder or format."""


class CacheDatabase:
    """Opens at the first operation.

    Parameters
    ----------
    folder : Path
        Created if absent, readable by its owner only.
    stem : str
        Beginning of the file's name.
    schema : str
        Statements that create the tables.
    identity : str
        What the content belongs to; a file with another identity is replaced.
    on_event : Callable[[str], None]
        Told when a file was replaced.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        schema: str,
        identity: str,
        on_event: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._stem = stem
        self._schema = schema
        self._identity = identity
        self._on_event = on_event
        self._connection: sqlite3.Connection | None = None
        self._file = folder / stem

    def run(self, operation: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run an operation; if the file turns out unusable, replace it and run it again.

        Raises
        ------
        DataError
            If the disk is full or the file cannot be read or written.
        """
        try:
            try:
                return operation(self._opened())
            except _ForeignFileError:
                self._replace("is not a cache of this encoder")
            except (sqlite3.Error, UnicodeDecodeError) as error:
                if not _is_damage(error):
                    raise
                self._replace(f"is damaged ({type(error).__name__})")
            return operation(self._opened())
        except (sqlite3.Error, UnicodeDecodeError, OSError) as error:
            raise DataError(
                f"the cache in {self._folder} cannot be used ({error}): make room on the disk, "
                "see that the folder is writable, or set FEDRSCLIP_HOME to another one"
            ) from error

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked():
                self._file = self._generation_file(self._newest_generation())
                self._connection = sqlite3.connect(
                    self._file, timeout=_WAIT_SECONDS, isolation_level=None
                )
                # A flipped bit can make text of a blob; text need not be valid UTF-8.
                self._connection.text_factory = bytes
                self._prepare(self._connection)
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if shared := is_shared(self._folder):
            # Also of a file that a version without this has begun.
            connection.execute("PRAGMA journal_mode = DELETE")
        else:
            # Loses at most the last commits in a power cut, never the file's integrity.
            connection.execute("PRAGMA synchronous = NORMAL")
        if pragma(connection, "application_id") != _APPLICATION_ID:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise _ForeignFileError
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            if not shared:
                connection.execute("PRAGMA journal_mode = WAL")
            with transaction(connection):
                for statement in self._schema.split(";")[:-1]:
                    connection.execute(statement)
                connection.execute("CREATE TABLE identity (text BLOB NOT NULL)")
                connection.execute("INSERT INTO identity VALUES (?)", (self._identity.encode(),))
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        found = connection.execute("SELECT text FROM identity").fetchall()
        if found != [(self._identity.encode(),)]:
            raise _ForeignFileError

    def _replace(self, why: str) -> None:
        self.close()
        with self._locked():
            generation = self._newest_generation()
            # Another process may have replaced the file meanwhile; then that one is good.
            if self._generation_file(generation) != self._file:
                return
            self._generation_file(generation + 1).touch()
            for suffix in ("", "-wal", "-shm", "-journal"):
                Path(f"{self._file}{suffix}").unlink(missing_ok=True)
        self._on_event(f"the cache {self._file} {why}: it is rebuilt")

    def _newest_generation(self) -> int:
        names = (file.stem for file in self._folder.glob(f"{self._stem}-*.sqlite"))
        numbers = (name.removeprefix(f"{self._stem}-") for name in names)
        return max((int(number) for number in numbers if number.isdecimal()), default=0)

    def _generation_file(self, generation: int) -> Path:
        return self._folder / f"{self._stem}-{generation}.sqlite"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process at a time creates or replaces the file."""
        with (self._folder / f"{self._stem}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make the statements of a block one change, whole or absent."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has already rolled back after a full disk.
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return a numeric PRAGMA."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _is_damage(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    if isinstance(error, UnicodeDecodeError):  # SQLite quotes a damaged schema in its message.
        return True
    code = getattr(error, "sqlite_errorcode", 0)
    damage = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
    return code & 0xFF in damage or code == sqlite3.SQLITE_IOERR_SHORT_READ
