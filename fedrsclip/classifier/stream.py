"""Classify any number of images in bounded memory, several batches at a time.

On CPUs each batch is read, prepared and encoded by one thread. A tower's matrices are small: shared
out among threads they wait for each other at every layer, and beside other programs that takes many
times as long as the work itself. On a GPU one batch is encoded while others are prepared.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedrsclip.classifier.given_images import GivenImage
from fedrsclip.classifier.scene_classifier import BATCH_SIZE, SceneClassifier
from fedrsclip_core.errors import DataError
from fedrsclip_core.machine import available_cpus

T = TypeVar("T")
Answer = NDArray[np.float32] | DataError
_ENCODING = 4
"""Batches that are encoded at once at most: each takes as much memory as one alone."""
_PREPARING = 16


def classified(
    classifier: SceneClassifier,
    items: Iterable[T],
    load: "Callable[[T], GivenImage]",
    *,
    batch_size: int = BATCH_SIZE,
) -> Iterator[tuple[T, Answer]]:
    """Yield each item with its probabilities ``(n_cls,)``, or why it could not be read, in order.

    On CPUs, torch has fewer threads in this process until the last one is yielded.

    Parameters
    ----------
    classifier : SceneClassifier
        What classifies.
    items : Iterable[T]
        Drawn in the caller's thread, a few batches ahead of what is yielded.
    load : Callable[[T], GivenImage]
        Makes an image of an item, in threads; may raise DataError.
    batch_size : int
        Images that are encoded at once. What an image's numbers are in the last bits may depend
        on the others of its batch.
    """
    remaining = iter(items)
    with _workers(classifier.encoder.device) as (pool, count, turn):

        def answered(batch: list[T]) -> list[tuple[T, Answer]]:
            return _answered(classifier, batch, load, turn)

        waiting: deque[Future[list[tuple[T, Answer]]]] = deque()
        while batch := list(islice(remaining, batch_size)):
            waiting.append(pool.submit(answered, batch))
            # One more than are worked on: nobody waits while the first is consumed.
            if len(waiting) > count:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _answered(
    classifier: SceneClassifier,
    batch: list[T],
    load: "Callable[[T], GivenImage]",
    turn: AbstractContextManager[object],
) -> list[tuple[T, Answer]]:
    prepared, errors = [], {}
    for place, item in enumerate(batch):
        try:
            prepared.append(classifier.prepare(load(item)))
        except DataError as error:
            errors[place] = error
    rows: Iterator[NDArray[np.float32]] = iter(())
    if prepared:
        with turn:
            rows = iter(classifier.probabilities(prepared))
    return [(item, errors[k] if k in errors else next(rows)) for k, item in enumerate(batch)]


@contextmanager
def _workers(
    device: str,
) -> Iterator[tuple[ThreadPoolExecutor, int, AbstractContextManager[object]]]:
    """Give threads, their number, and what each holds while it encodes."""
    import torch

    before = torch.get_num_threads()
    turn: AbstractContextManager[object]
    if device == "cpu":
        cpus = min(before, available_cpus())
        count, turn = min(cpus, _ENCODING), nullcontext()
        torch.set_num_threads(cpus // count)
    else:
        count, turn = min(available_cpus(), _PREPARING), Lock()
    pool = ThreadPoolExecutor(count, thread_name_prefix="images")
    try:
        yield pool, count, turn
    finally:
        pool.shutdown(cancel_futures=True)
        if device == "cpu":
            torch.set_num_threads(before)
