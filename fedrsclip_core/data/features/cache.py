"""Each image is encoded once per encoder and preprocessing; afterwards its feature is on disk.

An image is known by its content hash, and the hash by the file's stat: a second run on the same
data reads no image, hashes nothing and encodes nothing, neither where it is started nor at its
clients.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fedrsclip_core.config.reading import Reading
from fedrsclip_core.data.features.bfloat16 import BFLOAT16, unit_rows
from fedrsclip_core.data.features.encoding import Encoding, FeatureQuery, Skipped, stat_digest
from fedrsclip_core.data.features.store import FeatureStore, KnownImage, Vector
from fedrsclip_core.data.sources import ImageSource, readable_hash
from fedrsclip_core.errors import DataError
from fedrsclip_core.machine import available_cpus
from fedrsclip_core.runs.fileio import sha256_of

if TYPE_CHECKING:
    from fedrsclip_core.clip.files import ClipFiles

Progress = Callable[[int, int], None]

_FORMAT = "fedrsclip features 3"
"""Those of the first format may be of images with deep or further bands, misread as 8-bit RGB.

Those of the second have other last bits: the tower's last layer computed all tokens.
"""
_MAX_BYTES = 8 * 2**30


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
        Of a feature's numbers, on disk and as returned. Of ``BFLOAT16`` the encoder gives numbers
        that it has not scaled; they are returned as unit rows of float32.
    now : Callable[[], float]
        The time by which features were used last.
    """

    def __init__(
        self,
        folder: Path,
        encoder_key: str,
        dim: int,
        max_bytes: int,
        dtype: DTypeLike = np.float32,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._identity = f"{_FORMAT} {encoder_key} {dim}"
        self._folder = folder
        self._stem = sha256_of(self._identity)[:32]
        self._dim = dim
        self._max_bytes = max_bytes
        self._dtype = np.dtype(dtype)
        self._now = now

    @classmethod
    def of_images(cls, folder: Path, files: "ClipFiles", reading: Reading) -> Self:
        """Return the cache of a CLIP's features ``(dim,)`` of images that are read in one way.

        In the precision in which they are computed.
        """
        dtype = BFLOAT16 if files.dtype == "bfloat16" else np.float32
        return cls(folder, f"{files.encoder_key}{reading.key}", files.dim, _MAX_BYTES, dtype)

    @classmethod
    def of_patches(cls, folder: Path, files: "ClipFiles", reading: Reading) -> Self:
        """Return the cache of a CLIP's patch features, ``(V * dim,)`` for each image.

        In a file of its own, so that what other methods have encoded stays valid; in half
        precision, because with ViT-B/16 an image's patches take 200 kB even so, a hundred times
        its feature.
        """
        key, dim = f"{files.encoder_key}{reading.key}-patches", files.num_patches * files.dim
        return cls(folder, key, dim, _MAX_BYTES, np.float16)

    def content_hashes(
        self,
        source: ImageSource,
        on_event: Callable[[str], None],
        before_reading: Callable[[list[int]], None] = lambda _: None,
    ) -> list[str | None]:
        """Return every image's content hash, ``None`` where it cannot be read.

        Only images whose files are new or have changed are read, and then remembered.
        ``before_reading`` is told which these are, and may refuse.

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
            before_reading(list(unknown.values()))
            with ThreadPoolExecutor(available_cpus(), thread_name_prefix="images") as pool:
                read = pool.map(lambda i: readable_hash(source, i), unknown.values())
                found = {stat: hash for stat, hash in zip(unknown, read, strict=True) if hash}
            # Not of a file that was changed while it was read.
            same = [stat for stat in found if _stat_of(source, unknown[stat]) == stat]
            if same:
                store.write({stat: KnownImage(bytes.fromhex(found[stat])) for stat in same}, {})
        hashes |= found
        return [hashes.get(stat) if stat else None for stat in stats]

    def newest(self) -> int:
        """Return a number that grows by one with each image encoded, whoever encodes it.

        Raises
        ------
        DataError
            If the cache cannot be used.
        """
        with self._store(lambda _: None) as store:
            return store.newest()

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
        device: str = "cpu",
    ) -> tuple[Vector, NDArray[np.int64]]:
        """Return the features of images, encoding those that are missing.

        Every encoded batch is committed, so that an interrupted call resumes where it stopped.

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
        device : str
            Torch's name of where the encoder is.

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
            query = FeatureQuery(source, store, encoding, self._dim, self._dtype, skipped)
            query.look_up(wanted)
            missing = [i for i in wanted if i not in query.found and i not in query.skipped.reasons]
            done = len(wanted) - len(missing)
            for encoded in query.encode_missing(missing, batch_size, device):
                done += encoded
                if progress is not None:
                    progress(done, len(wanted))
        query.skipped.report(on_event)
        kept = [i for i in wanted if i in query.found]
        features = np.zeros((len(kept), self._dim), dtype=self._dtype)
        for row, i in enumerate(kept):
            features[row] = query.found[i]
        if self._dtype == BFLOAT16:
            features = unit_rows(features)
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
            self._now,
        )


def _stat_of(source: ImageSource, i: int) -> bytes | None:
    try:
        return stat_digest(source.stat_key(i))
    except DataError:
        return None
