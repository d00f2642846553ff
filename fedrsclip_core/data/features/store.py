"""A bounded table of image features with a checksum in every row."""

import math
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fedrsclip_core.data.features.database import CacheDatabase, pragma, transaction

Vector = NDArray[Any]
"""A feature in the store's dtype."""

_SCHEMA = """
CREATE TABLE images (
    stat BLOB PRIMARY KEY, content BLOB NOT NULL, problem BLOB NOT NULL, checksum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE features (
    content BLOB PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER NOT NULL, used INTEGER NOT NULL
);
CREATE INDEX features_by_age ON features (used);
"""
_DAY_SECONDS = 86400
_KEYS_PER_QUERY = 500
_FREED_BY_EVICTION = 0.1


@dataclass(frozen=True)
class KnownImage:
    """What is known of an image whose file has not changed.

    Attributes
    ----------
    content : bytes
        Its content hash.
    problem : str
        Why it cannot be decoded; empty if it can.
    """

    content: bytes
    problem: str = ""


class FeatureStore:
    """The features of one encoder, opened for the length of a ``with`` block.

    Parameters
    ----------
    folder, stem : Path, str
        Where the file lies and how its name begins.
    identity : str
        Of encoder, preprocessing and format.
    dim : int
        Length of the vectors.
    max_bytes : int
        Bound of the file; the features that were not used for longest leave first.
    on_event : Callable[[str], None]
        Told what was repaired or removed.
    dtype : DTypeLike
        Of the vectors' numbers.
    now : Callable[[], float]
        The time by which features were used last.

    Raises
    ------
    DataError
        By every method, if the disk is full or the file cannot be used; nothing is half written.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        identity: str,
        dim: int,
        max_bytes: int,
        on_event: Callable[[str], None],
        dtype: DTypeLike = np.float32,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = CacheDatabase(folder, stem, _SCHEMA, identity, on_event)
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._bytes = self._dtype.itemsize * dim
        self._max_bytes = max_bytes
        self._on_event = on_event
        self._clock = now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    def known_images(self, stats: Sequence[bytes]) -> dict[bytes, KnownImage]:
        """Return what is known of the images with these stat digests."""

        def read(connection: sqlite3.Connection) -> dict[bytes, KnownImage]:
            query = "SELECT stat, content, problem, checksum FROM images WHERE stat"
            return {
                stat: KnownImage(content, problem.decode())
                for stat, content, problem, checksum in _select(connection, query, stats)
                if _is_intact(checksum, stat, content, problem)
            }

        return self._database.run(read)

    def vectors(self, contents: Sequence[bytes]) -> dict[bytes, Vector]:
        """Return the features of these content hashes; damaged ones are removed and told of."""

        def read(connection: sqlite3.Connection) -> dict[bytes, Vector]:
            found: dict[bytes, Vector] = {}
            damaged: list[bytes] = []
            unused_since_yesterday: list[bytes] = []
            query = "SELECT content, vector, checksum, used FROM features WHERE content"
            yesterday = self._now() - _DAY_SECONDS
            for content, vector, checksum, used in _select(connection, query, contents):
                if not _is_intact(checksum, content, vector) or len(vector) != self._bytes:
                    damaged.append(content)
                    continue
                found[content] = np.frombuffer(vector, dtype=self._dtype)
                if not isinstance(used, int) or used < yesterday:
                    unused_since_yesterday.append(content)
            if damaged:
                self._remove(connection, damaged)
            if unused_since_yesterday:
                _touch(connection, unused_since_yesterday, self._now())
            return found

        return self._database.run(read)

    def newest(self) -> int:
        """Return the number of the newest feature: it grows by one with each."""

        def read(connection: sqlite3.Connection) -> int:
            (number,) = connection.execute("SELECT max(rowid) FROM features").fetchone()
            return int(number or 0)

        return self._database.run(read)

    def write(self, images: Mapping[bytes, KnownImage], vectors: Mapping[bytes, Vector]) -> None:
        """Store both in one transaction, then remove the oldest features above the bound."""
        problems = {stat: image.problem.encode() for stat, image in images.items()}
        image_rows = [
            (stat, image.content, problems[stat], _checksum(stat, image.content, problems[stat]))
            for stat, image in images.items()
        ]
        encoded = {
            c: np.ascontiguousarray(v, dtype=self._dtype).tobytes() for c, v in vectors.items()
        }
        feature_rows = [(c, v, _checksum(c, v), self._now()) for c, v in encoded.items()]

        def store(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                connection.executemany("INSERT OR REPLACE INTO images VALUES (?,?,?,?)", image_rows)
                connection.executemany(
                    "INSERT OR REPLACE INTO features VALUES (?,?,?,?)", feature_rows
                )
                return self._evict(connection)

        if removed := self._database.run(store):
            self._on_event(
                f"the feature cache has reached {self._max_bytes} bytes: the {removed} features "
                "not used for longest were removed"
            )

    def _remove(self, connection: sqlite3.Connection, damaged: Sequence[bytes]) -> None:
        with transaction(connection):
            remove = "DELETE FROM features WHERE content = ?"
            connection.executemany(remove, [(content,) for content in damaged])
        self._on_event(f"{len(damaged)} damaged features in the cache are rebuilt")

    def _evict(self, connection: sqlite3.Connection) -> int:
        removed = 0
        while (excess := _used_bytes(connection) - self._max_bytes) > 0:
            excess += int(_FREED_BY_EVICTION * self._max_bytes)
            count = math.ceil(excess / (self._bytes + 64))
            oldest = "SELECT rowid FROM features ORDER BY used, rowid LIMIT ?"
            done = connection.execute(f"DELETE FROM features WHERE rowid IN ({oldest})", (count,))
            if not done.rowcount:
                break
            removed += done.rowcount
            # Unreadable images are tried again one day; they must not add up either.
            connection.execute(
                "DELETE FROM images WHERE problem != x'' "
                "OR content NOT IN (SELECT content FROM features)"
            )
        return removed

    def _now(self) -> int:
        return int(self._clock())


def _select(
    connection: sqlite3.Connection, query: str, keys: Sequence[bytes]
) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        chunk = keys[start : start + _KEYS_PER_QUERY]
        marks = ",".join("?" * len(chunk))
        yield from connection.execute(f"{query} IN ({marks})", chunk)


def _touch(connection: sqlite3.Connection, contents: Sequence[bytes], now: int) -> None:
    """Remember, at most daily, that features are in use; not worth failing for."""
    with suppress(sqlite3.OperationalError), transaction(connection):
        update = "UPDATE features SET used = ? WHERE content = ?"
        connection.executemany(update, [(now, content) for content in contents])


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages = pragma(connection, "page_count") - pragma(connection, "freelist_count")
    return pages * pragma(connection, "page_size")


def _is_intact(checksum: object, *parts: object) -> bool:
    # In a damaged row a value may even have changed its type.
    return _checksum(*(p if isinstance(p, bytes) else b"" for p in parts)) == checksum


def _checksum(*parts: bytes) -> int:
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return checksum
