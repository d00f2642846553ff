"""Each image is encoded once per encoder and preprocessing; afterwards its feature is on disk.

An image is known by its content hash, and the hash by the file's stat: a second run on the same
data reads no image, hashes nothing and encodes nothing, neither where it is started nor at its
clients.

While a batch is encoded, the next ones are hashed, decoded and prepared in threads. Batches and
their order do not depend on that, so the features are the same in bits.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fedrsclip_core.data.feature_store import FeatureStore, KnownImage, Vector
from fedrsclip_core.data.lookahead import ahead
from fedrsclip_core.data.skipped import Skipped
from fedrsclip_core.data.sources import ImageSource, readable_hash
from fedrsclip_core.errors import DataError
from fedrsclip_core.machine import available_cpus
from fedrsclip_core.runs.fileio import sha256_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from fedrsclip_core.clip.files import ClipFiles

Progress = Callable[[int, int], None]

_FORMAT = "fedrsclip features 1"
_MAX_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Encoding:
    """How images become features.

    Attributes
    ----------
    prepare : Callable[[Image], Any]
        What is done with each RGB image by itself; called in threads.
    encode : Callable[[list[Any]], NDArray]
        Prepared images to ``(N, dim)`` features; called in the caller's thread.
    """

    prepare: "Callable[[Image], Any]"
    encode: Callable[[list[Any]], NDArray[Any]]


class FeatureCache:
    """The features of one encoder on one machine.

    Parameters
    ----------
    folder : Path
        Holds a file per encoder.
    encoder_key : str
        Names encoder and preprocessing.
    dim : int
        Length of a feature.
    max_bytes : int
        Bound of the file.
    dtype : DTypeLike
        Of a feature's numbers, on disk and as returned.
    """

    def __init__(
        self,
        folder: Path,
        encoder_key: str,
        dim: int,
        max_bytes: int,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self._identity = f"{_FORMAT} {encoder_key} {dim}"
        self._folder = folder
        self._stem = sha256_of(self._identity)[:32]
        self._dim = dim
        self._max_bytes = max_bytes
        self._dtype = np.dtype(dtype)

    @classmethod
    def of_images(cls, folder: Path, files: "ClipFiles") -> Self:
        """Return the cache of a CLIP's image features ``(dim,)``."""
        return cls(folder, files.encoder_key, files.dim, _MAX_BYTES)

    @classmethod
    def of_patches(cls, folder: Path, files: "ClipFiles") -> Self:
        """Return the cache of a CLIP's patch features, ``(V * dim,)`` for each image.

        In a file of its own, so that what other methods have encoded stays valid; in half
        precision, because with ViT-B/16 an image's patches take 200 kB even so, a hundred times
        its feature.
        """
        key, dim = f"{files.encoder_key}-patches", files.num_patches * files.dim
        return cls(folder, key, dim, _MAX_BYTES, np.float16)

    def content_hashes(
        self, source: ImageSource, on_event: Callable[[str], None]
    ) -> list[str | None]:
        """Return every image's content hash, ``None`` where it cannot be read.

        Only images whose files are new or have changed are read, and then remembered.

        Raises
        ------
        DataError
            If the cache cannot be used.
        """
        stats = [_stat_of(source, i) for i in range(len(source))]
        with self._store(on_event) as store:
            known = store.known_images([stat for stat in stats if stat])
            hashes = {stat: image.content.hex() for stat, image in known.items()}
            unknown = {stat: i for i, stat in enumerate(stats) if stat and stat not in hashes}
            with ThreadPoolExecutor(available_cpus(), thread_name_prefix="images") as pool:
                read = pool.map(lambda i: readable_hash(source, i), unknown.values())
                found = {stat: hash for stat, hash in zip(unknown, read, strict=True) if hash}
            # Not of a file that was changed while it was read.
            same = [stat for stat in found if _stat_of(source, unknown[stat]) == stat]
            if same:
                store.write({stat: KnownImage(bytes.fromhex(found[stat])) for stat in same}, {})
        hashes |= found
        return [hashes.get(stat) if stat else None for stat in stats]

    def features(
        self,
        source: ImageSource,
        indices: Sequence[int] | NDArray[np.int64],
        encoding: Callable[[], Encoding],
        *,
        batch_size: int,
        max_unreadable: float,
        on_event: Callable[[str], None],
        progress: Progress | None = None,
    ) -> tuple[Vector, NDArray[np.int64]]:
        """Return the features of images, encoding those that are missing.

        Every encoded batch is committed, so that an interrupted call goes on where it stopped.

        Parameters
        ----------
        source : ImageSource
            The images.
        indices : Sequence[int]
            Which of them.
        encoding : Callable[[], Encoding]
            Loads the encoder; called if features are missing only.
        batch_size : int
            Images that are encoded at once.
        max_unreadable : float
            Fraction of ``indices`` that may be unreadable.
        on_event : Callable[[str], None]
            Told about skipped images and repaired entries, for the site's own log.
        progress : Callable[[int, int], None] or None
            Told after each batch how many of how many images are done.

        Returns
        -------
        tuple[Vector, NDArray[np.int64]]
            ``(N, dim)`` features and the ``(N,)`` indices that could be read, in the given order.

        Raises
        ------
        DataError
            If too many images are unreadable, or the cache cannot be written, e.g. on a full
            disk; it then still holds every earlier batch.
        """
        wanted = [int(i) for i in indices]
        skipped = Skipped(source, wanted, max_unreadable)
        with self._store(on_event) as store:
            call = _Call(source, store, encoding, self._dim, self._dtype, skipped)
            call.look_up(wanted)
            missing = [i for i in wanted if i not in call.found and i not in call.skipped.reasons]
            done = len(wanted) - len(missing)
            for encoded in call.encode_missing(missing, batch_size):
                done += encoded
                if progress is not None:
                    progress(done, len(wanted))
        call.skipped.report(on_event)
        kept = [i for i in wanted if i in call.found]
        features = np.zeros((len(kept), self._dim), dtype=self._dtype)
        for row, i in enumerate(kept):
            features[row] = call.found[i]
        return features, np.array(kept, dtype=np.int64)

    def _store(self, on_event: Callable[[str], None]) -> FeatureStore:
        return FeatureStore(
            self._folder,
            self._stem,
            self._identity,
            self._dim,
            self._max_bytes,
            on_event,
            self._dtype,
        )


@dataclass
class _Call:
    """The state of one call of :meth:`FeatureCache.features`."""

    source: ImageSource
    store: FeatureStore
    load: Callable[[], Encoding]
    dim: int
    dtype: np.dtype[Any]
    skipped: Skipped
    found: dict[int, Vector] = field(default_factory=dict)
    stats: dict[int, bytes] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    hashing: dict[int, Future[bytes]] = field(default_factory=dict)

    @cached_property
    def encoding(self) -> Encoding:
        return self.load()

    def look_up(self, wanted: list[int]) -> None:
        """Find features and known problems of images whose files are unchanged."""
        for i in wanted:
            try:
                self.stats[i] = _digest(self.source.stat_key(i))
            except DataError as error:
                self.skipped.add(i, str(error))
        known = self.store.known_images(list(self.stats.values()))
        for i, stat in self.stats.items():
            image = known.get(stat)
            if image is not None and image.problem:
                self.skipped.add(i, image.problem)
            elif image is not None:
                self.contents[i] = image.content
        self._take_vectors(list(self.contents))

    def encode_missing(self, missing: list[int], batch_size: int) -> Iterator[int]:
        """Encode batch by batch; yield the size of each when it is committed."""
        if not missing:
            return
        batches = [missing[k : k + batch_size] for k in range(0, len(missing), batch_size)]
        pool = ThreadPoolExecutor(available_cpus(), thread_name_prefix="images")
        try:
            unknown = self._unknown(ahead(pool, self._hashed, batches))
            for batch, prepared in zip(batches, ahead(pool, self._prepared, unknown), strict=True):
                self._encode_batch(batch, prepared)
                yield len(batch)
        finally:
            pool.shutdown(cancel_futures=True)

    def _unknown(self, hashing: Iterable[dict[int, Future[bytes]]]) -> Iterator[list[int]]:
        """Yield of each batch the images that must be decoded, of equal ones the first."""
        claimed: set[bytes] = set()
        for hashes in hashing:
            self.hashing |= hashes
            readable = [i for i, future in hashes.items() if future.exception() is None]
            new = [i for i in readable if i not in self.contents]
            self.contents |= {i: hashes[i].result() for i in new}
            self._take_vectors(new)
            chosen = []
            for i in readable:
                if i not in self.found and self.contents[i] not in claimed:
                    claimed.add(self.contents[i])
                    chosen.append(i)
            if chosen:
                # Loaded here, in one thread, before the others want to use it.
                _ = self.encoding
            yield chosen

    def _encode_batch(self, batch: list[int], prepared: dict[int, Future[Any]]) -> None:
        """Encode a batch, as far as no equal image is known, and commit it."""
        readable = [i for i in batch if self._is_hashed(i)]
        # An equal image may have been encoded since the batch was looked up.
        self._take_vectors([i for i in readable if i not in self.found and i not in prepared])
        images: dict[bytes, Any] = {}
        known: dict[bytes, KnownImage] = {}
        for i in readable:
            content = self.contents[i]
            known[self.stats[i]] = KnownImage(content)
            if i in self.found or content in images:
                continue
            try:
                images[content] = prepared[i].result() if i in prepared else self._prepared(i)
            except DataError as error:
                known[self.stats[i]] = KnownImage(content, str(error))
        for i in readable:
            self._drop_if_changed(i, known, images)
        vectors = self._encoded(images)
        self.store.write(known, vectors)
        for i in readable:
            image = known.get(self.stats[i])
            if image is not None and image.problem:
                self.skipped.add(i, image.problem)
            elif image is not None and image.content in vectors:
                self.found[i] = vectors[image.content]
            elif i not in self.found:
                self.skipped.add(i, "changed while it was read")

    def _take_vectors(self, candidates: list[int]) -> None:
        vectors = self.store.vectors(list({self.contents[i] for i in candidates}))
        for i in candidates:
            if self.contents[i] in vectors:
                self.found[i] = vectors[self.contents[i]]

    def _hashed(self, i: int) -> bytes:
        known = self.contents.get(i)
        return bytes.fromhex(self.source.content_hash(i)) if known is None else known

    def _prepared(self, i: int) -> Any:
        return self.encoding.prepare(self.source.image(i))

    def _is_hashed(self, i: int) -> bool:
        try:
            self.hashing.pop(i).result()
        except DataError as error:
            # Not remembered: access rights or a network share may be back tomorrow.
            self.skipped.add(i, str(error))
            return False
        return True

    def _drop_if_changed(
        self, i: int, known: dict[bytes, KnownImage], images: dict[bytes, Any]
    ) -> None:
        """Forget an image whose file changed between hash and pixels: they may not fit."""
        try:
            same = _digest(self.source.stat_key(i)) == self.stats[i]
        except DataError:
            same = False
        if not same:
            known.pop(self.stats[i], None)
            images.pop(self.contents[i], None)

    def _encoded(self, images: dict[bytes, Any]) -> dict[bytes, Vector]:
        if not images:
            return {}
        vectors = np.asarray(self.encoding.encode(list(images.values())), dtype=self.dtype)
        if vectors.shape != (len(images), self.dim) or not np.isfinite(vectors).all():
            raise DataError(
                f"the image encoder returned {vectors.shape} for {len(images)} images, or values "
                f"that are not finite; expected are {self.dim} finite numbers per image"
            )
        return dict(zip(images, vectors, strict=True))


def _stat_of(source: ImageSource, i: int) -> bytes | None:
    try:
        return _digest(source.stat_key(i))
    except DataError:
        return None


def _digest(stat_key: str) -> bytes:
    # File names need not be valid UTF-8.
    return hashlib.blake2b(stat_key.encode(errors="surrogateescape"), digest_size=16).digest()
