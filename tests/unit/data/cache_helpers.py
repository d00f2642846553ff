import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.data.features.encoding import Encoding
from fedrsclip_core.data.folders.source import FolderSource

DIM = 512


class CountingSource(FolderSource):
    """A folder that counts what was really read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.hashed: list[int] = []
        self.opened: list[int] = []

    def content_hash(self, i: int) -> str:
        self.hashed.append(i)
        return super().content_hash(i)

    def image(self, i: int):  # type: ignore[no-untyped-def]
        self.opened.append(i)
        return super().image(i)


class CountingEncoder:
    """A stand-in encoder: a vector drawn from the pixels' hash."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.encoded = 0
        self._seconds = seconds

    def __call__(self, images):  # type: ignore[no-untyped-def]
        self.encoded += len(images)
        time.sleep(self._seconds * len(images))
        return np.stack([vector_of(image) for image in images])


def encoding(encode: Callable[[list[Any]], np.ndarray]) -> Callable[[], Encoding]:
    """What the cache loads if it needs an encoder that takes images as they are."""
    return lambda: Encoding(lambda image: image, encode)


def vector_of(image) -> np.ndarray:  # type: ignore[no-untyped-def]
    seed = int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:4], "little")
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


class Run:
    """One call of the cache, as a new process would make it, and what it did."""

    def __init__(
        self,
        folder: Path,
        root: Path,
        *,
        key: str = "encoder-a",
        max_bytes: int = 2**30,
        max_unreadable: float = 0.05,
        batch_size: int = 8,
        seconds: float = 0.0,
        dtype: type[np.floating] = np.float32,
        now: Callable[[], float] = time.time,
        source: type[CountingSource] = CountingSource,
    ) -> None:
        self.source = source(root)
        self.encoder = CountingEncoder(seconds)
        self.events: list[str] = []
        self.progress: list[tuple[int, int]] = []
        cache = FeatureCache(folder, key, DIM, max_bytes, dtype, now)
        self.features, self.kept = cache.features(
            self.source,
            range(len(self.source)),
            encoding(self.encoder),
            batch_size=batch_size,
            max_unreadable=max_unreadable,
            on_event=self.events.append,
            progress=lambda done, total: self.progress.append((done, total)),
        )

    @property
    def work(self) -> tuple[int, int, int]:
        """Images encoded, hashed, opened."""
        return self.encoder.encoded, len(self.source.hashed), len(self.source.opened)

    def assert_right(self) -> None:
        """Every feature is the one of its image."""
        expected = [vector_of(FolderSource.image(self.source, int(i))) for i in self.kept]
        rounded = np.stack(expected).astype(self.features.dtype)
        np.testing.assert_array_equal(self.features, rounded)
