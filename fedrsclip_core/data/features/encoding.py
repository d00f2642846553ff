"""Encoding the images that have no feature yet, in batches.

While some batches are encoded, the next ones are hashed, decoded and prepared in threads. What is
in a batch, and the order in which they are committed, do not depend on that, so the features are
the same in bits.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.data.features.bfloat16 import BFLOAT16, bits_of
from fedrsclip_core.data.features.pipeline import ahead, image_threads, in_order, shared_out
from fedrsclip_core.data.features.store import FeatureStore, KnownImage, Vector
from fedrsclip_core.data.sources import ImageSource
from fedrsclip_core.errors import DataError
from fedrsclip_core.machine import available_cpus

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Encoding:
    """How images become features.

    Attributes
    ----------
    prepare : Callable[[Image], Any]
        What is done with each RGB image by itself; called in threads.
    encode : Callable[[list[Any]], NDArray]
        Prepared images to ``(N, dim)`` features; called in threads, too.
    """

    prepare: "Callable[[Image], Any]"
    encode: Callable[[list[Any]], NDArray[Any]]


@dataclass
class Skipped:
    """Unreadable images, and how many of them are too many.

    Attributes
    ----------
    source : ImageSource
        Whose images.
    wanted : list[int]
        All that were asked for.
    allowed : float
        Fraction of them that may be unreadable.
    reasons : dict[int, str]
        Why each of the skipped ones is.
    """

    source: ImageSource
    wanted: list[int]
    allowed: float
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, i: int, reason: str) -> None:
        """Skip an image.

        Raises
        ------
        DataError
            If too many are skipped by now.
        """
        self.reasons[i] = reason
        # What the source left out is no client's: each is charged with its share.
        others = len(self.source.left_out)
        left_out = others * len(self.wanted) / len(self.source)
        if len(self.reasons) + left_out > self.allowed * (len(self.wanted) + left_out):
            more = f", and {others} other files of the site are not read" if others else ""
            raise DataError(
                f"{len(self.reasons)} of {len(self.wanted)} images are unreadable{more}, more than "
                f"data.max_unreadable={self.allowed:g} allows: {self._named()}"
            )

    def _named(self) -> str:
        """Name the first of the skipped images, and the reason once if it is that of all."""
        names = [self.source.describe(i) for i in self.reasons]
        more = " ..." if len(names) > 3 else ""
        if len(set(self.reasons.values())) == 1 < len(names):
            return f"each {next(iter(self.reasons.values()))} ({', '.join(names[:3])}{more})"
        told = [f"{name} {why}" for name, why in zip(names, self.reasons.values(), strict=True)]
        return f"{'; '.join(told[:3])}{more}; repair them or take them away"

    def report(self, on_event: Callable[[str], None]) -> None:
        """Tell of each skipped image, and how many there are."""
        for i, reason in self.reasons.items():
            on_event(f"skipped {self.source.describe(i)}: {reason}")
        if self.reasons:
            on_event(f"skipped {len(self.reasons)} of {len(self.wanted)} images as unreadable")


@dataclass
class FeatureQuery:
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
        """The encoder, loaded at the first use."""
        return self.load()

    def look_up(self, wanted: list[int]) -> None:
        """Find features and known problems of images whose files are unchanged."""
        for i in wanted:
            try:
                self.stats[i] = stat_digest(self.source.stat_key(i))
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

    def encode_missing(self, missing: list[int], batch_size: int, device: str) -> Iterator[int]:
        """Encode batch by batch; yield the size of each when it is committed."""
        if not missing:
            return
        if self.source.sequential:
            missing = sorted(missing)
        batches = [missing[k : k + batch_size] for k in range(0, len(missing), batch_size)]
        with (
            shared_out(device) as count,
            image_threads(available_cpus()) as pool,
            image_threads(count) as encoders,
        ):
            unknown = self._unknown(map(dict, ahead(pool, self._hashed, batches)))
            prepared = (
                [(i, image.result) for i, image in batch]
                for batch in ahead(pool, self._prepared, unknown)
            )
            encoded = in_order(encoders, self._encoded, prepared, count)
            for batch, outcome in zip(batches, encoded, strict=True):
                self._commit(batch, outcome)
                yield len(batch)

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

    def _commit(self, batch: list[int], encoded: "Encoded") -> None:
        """Store what became of a batch, and what its images are known to be."""
        readable = [i for i in batch if self._is_hashed(i)]
        # An equal image may have been encoded since the batch was looked up.
        self._take_vectors([i for i in readable if i not in self.found and i not in encoded.tried])
        vectors = {self.contents[i]: vector for i, vector in encoded.vectors.items()}
        problems = dict(encoded.problems)
        for i in readable:
            if not (i in self.found or i in encoded.tried or self.contents[i] in vectors):
                # The first of several equal images could not be read.
                late = self._encoded([(i, partial(self._prepared, i))])
                vectors |= {self.contents[k]: vector for k, vector in late.vectors.items()}
                problems |= late.problems
        known = {self.stats[i]: KnownImage(self.contents[i], problems.get(i, "")) for i in readable}
        for i in readable:
            self._drop_if_changed(i, known, vectors)
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
        self, i: int, known: dict[bytes, KnownImage], vectors: dict[bytes, Vector]
    ) -> None:
        """Forget an image whose file changed between hash and pixels: they may not fit."""
        try:
            same = stat_digest(self.source.stat_key(i)) == self.stats[i]
        except DataError:
            same = False
        if not same:
            known.pop(self.stats[i], None)
            vectors.pop(self.contents[i], None)

    def _encoded(self, prepared: Iterable[tuple[int, Callable[[], Any]]]) -> "Encoded":
        """Encode what can be prepared of a batch; called in threads, several at a time."""
        images, problems = {}, {}
        for i, image in prepared:
            try:
                images[i] = image()
            except DataError as error:
                problems[i] = str(error)
        if not images:
            return Encoded(problems, {})
        vectors = np.asarray(self.encoding.encode(list(images.values())))
        if vectors.shape != (len(images), self.dim) or not np.isfinite(vectors).all():
            raise DataError(
                f"the image encoder returned {vectors.shape} for {len(images)} images, or values "
                f"that are not finite; expected are {self.dim} finite numbers per image"
            )
        if self.dtype == BFLOAT16:
            vectors = bits_of(vectors)
        return Encoded(problems, dict(zip(images, vectors.astype(self.dtype), strict=True)))


@dataclass(frozen=True)
class Encoded:
    """What became of a batch's images.

    Attributes
    ----------
    problems : dict[int, str]
        Why some cannot be decoded.
    vectors : dict[int, Vector]
        The features of the others.
    """

    problems: dict[int, str]
    vectors: dict[int, Vector]

    @property
    def tried(self) -> set[int]:
        """All of them."""
        return {*self.problems, *self.vectors}


def stat_digest(stat_key: str) -> bytes:
    """Return the key under which the store knows an image."""
    # File names need not be valid UTF-8.
    return hashlib.blake2b(stat_key.encode(errors="surrogateescape"), digest_size=16).digest()
