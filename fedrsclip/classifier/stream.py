"""Classify any number of images in bounded memory: read ahead in threads, encoded in batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedrsclip.classifier.given_images import GivenImage
from fedrsclip.classifier.scene_classifier import BATCH_SIZE, SceneClassifier
from fedrsclip_core.errors import DataError
from fedrsclip_core.machine import available_cpus

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
_BATCHES_AHEAD = 2


def classified(
    classifier: SceneClassifier,
    items: Iterable[T],
    load: "Callable[[T], GivenImage]",
    *,
    batch_size: int = BATCH_SIZE,
) -> Iterator[tuple[T, NDArray[np.float32] | DataError]]:
    """Yield each item with its probabilities ``(n_cls,)``, or why it could not be read, in order.

    Parameters
    ----------
    classifier : SceneClassifier
        What classifies.
    items : Iterable[T]
        Drawn in the caller's thread, two batches ahead of what is yielded.
    load : Callable[[T], GivenImage]
        Makes an image of an item, in threads; may raise DataError.
    batch_size : int
        Images that are encoded at once.
    """

    def prepared(item: T) -> "torch.Tensor":
        return classifier.prepare(load(item))

    remaining = iter(items)
    waiting: deque[list[tuple[T, Future[torch.Tensor]]]] = deque()
    pool = ThreadPoolExecutor(available_cpus(), thread_name_prefix="images")
    try:
        while batch := list(islice(remaining, batch_size)):
            waiting.append([(item, pool.submit(prepared, item)) for item in batch])
            if len(waiting) > _BATCHES_AHEAD:
                yield from _of_batch(classifier, waiting.popleft())
        while waiting:
            yield from _of_batch(classifier, waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _of_batch(
    classifier: SceneClassifier, batch: "list[tuple[T, Future[torch.Tensor]]]"
) -> Iterator[tuple[T, NDArray[np.float32] | DataError]]:
    errors = [future.exception() for _, future in batch]
    for error in errors:
        if error is not None and not isinstance(error, DataError):
            raise error
    readable = [future.result() for _, future in batch if future.exception() is None]
    rows = iter(classifier.probabilities(readable) if readable else ())
    for (item, _), error in zip(batch, errors, strict=True):
        yield item, error if isinstance(error, DataError) else next(rows)
