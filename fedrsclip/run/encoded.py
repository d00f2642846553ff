"""How many images the clients of a run have encoded so far, as a person waits for them."""

import time
from collections.abc import Callable
from contextlib import suppress

from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.errors import DataError
from fedrsclip_core.runs.records import SplitRecord

_LOOK_EVERY = 2.0


class Encoded:
    """Counts the features that have come since it was made.

    Parameters
    ----------
    cache : FeatureCache
        Where the clients put them.
    split : SplitRecord
        The clients' images.
    clock : Callable[[], float]
        Seconds.
    """

    def __init__(
        self,
        cache: FeatureCache,
        split: SplitRecord,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache, self._clock = cache, clock
        parts = [part for client in split["clients"] for part in client.values()]
        self._total = sum(part["count"] for part in parts) or split["num_images"]
        self._before, self._looked = self._newest(), clock()
        self._count = 0

    def awaited(self) -> str | None:
        """Say what of them is waited for; ``None`` if the clients have encoded none."""
        if self._clock() - self._looked >= _LOOK_EVERY:
            self._looked = self._clock()
            newest, before = self._newest(), self._before
            # Fewer if an unusable cache was replaced.
            self._count = 0 if newest is None or before is None else max(0, newest - before)
        if not self._count:
            return None
        return f"the clients: {self._count} of at most {self._total} images are encoded"

    def _newest(self) -> int | None:
        with suppress(DataError):  # whoever needs the features says so
            return self._cache.newest()
        return None
