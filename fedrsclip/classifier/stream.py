"""Classify any number of images in bounded memory, several batches at a time."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedrsclip.classifier.given_images import GivenImage
from fedrsclip.classifier.scene_classifier import BATCH_SIZE, SceneClassifier
from fedrsclip_core.data.features.pipeline import ahead, image_threads, in_order, shared_out
from fedrsclip_core.errors import DataError
from fedrsclip_core.machine import available_cpus

if TYPE_CHECKING:
    from concurrent.futures import Future

    from torch import Tensor

T = TypeVar("T")
Answer = NDArray[np.float32] | DataError


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
    batches = iter(lambda: list(islice(remaining, batch_size)), [])

    def prepared(item: T) -> "Tensor":
        return classifier.prepare(load(item))

    def answered(batch: "list[tuple[T, Future[Tensor]]]") -> list[tuple[T, Answer]]:
        return _answered(classifier, batch)

    with (
        shared_out(classifier.encoder.device) as count,
        image_threads(available_cpus()) as pool,
        image_threads(count) as encoders,
    ):
        for answers in in_order(encoders, answered, ahead(pool, prepared, batches), count):
            yield from answers


def _answered(
    classifier: SceneClassifier, batch: "list[tuple[T, Future[Tensor]]]"
) -> list[tuple[T, Answer]]:
    prepared, errors = [], {}
    for place, (_, image) in enumerate(batch):
        try:
            prepared.append(image.result())
        except DataError as error:
            errors[place] = error
    rows: Iterator[NDArray[np.float32]] = iter(())
    if prepared:
        rows = iter(classifier.probabilities(prepared))
    return [(item, errors[k] if k in errors else next(rows)) for k, (item, _) in enumerate(batch)]
