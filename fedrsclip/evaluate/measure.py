"""Classify labelled images by cached features, and count the answers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_app.features import by_patch, pooled
from fedrsclip.classifier.scene_classifier import BATCH_SIZE, SceneClassifier
from fedrsclip.evaluate.labelled import Labelled
from fedrsclip.evaluate.scores import calibration_error, macro_f1, paired_difference, wilson
from fedrsclip_core.data.features.cache import FeatureCache, Progress
from fedrsclip_core.data.features.encoding import Encoding
from fedrsclip_core.learning.classifier import Classifier
from fedrsclip_core.learning.diagnostics import Tally, tally
from fedrsclip_core.runs import paths

TOP = 5


@dataclass(frozen=True)
class Answers:
    """What one classifier answered.

    Attributes
    ----------
    tally : Tally
        Images by true and answered class, and its confidences.
    hits : NDArray[np.bool_]
        Which images it has right ``(N,)``.
    among_top : int
        Images whose class is among its five most probable.
    """

    tally: Tally
    hits: NDArray[np.bool_]
    among_top: int

    @property
    def accuracy(self) -> float:
        """Share of the images that are right."""
        return float(self.hits.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of it."""
        return wilson(int(self.hits.sum()), len(self.hits))

    @property
    def top(self) -> float | None:
        """Share of the images whose class is among the first five; ``None`` of fewer classes."""
        return self.among_top / len(self.hits) if len(self.tally.confusion) > TOP else None

    @property
    def macro_f1(self) -> float | None:
        """F1, averaged over the classes that have images."""
        return macro_f1(self.tally.confusion)

    @property
    def calibration_error(self) -> float | None:
        """How far confidence and accuracy lie apart."""
        return calibration_error(self.tally.calibration)

    def to_json(self) -> dict[str, Any]:
        """Return its figures, as fractions."""
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.interval),
            "top5": self.top,
            "macro_f1": self.macro_f1,
            "confusion": self.tally.confusion.tolist(),
        }


@dataclass(frozen=True)
class ClassFigures:
    """How well one class is known; a figure that has no meaning is ``None``."""

    name: str
    images: int
    precision: float | None
    recall: float | None
    f1: float | None
    zero_shot_recall: float | None
    taken_for: int | None
    """Number of the class that most of its missed images are taken for, if any is missed."""


@dataclass(frozen=True)
class Evaluation:
    """How good a classifier is on labelled images.

    Attributes
    ----------
    classifier : str
        What it is, in a line.
    personalized : bool
        Whether it is one site's.
    data : str
        What the images are called.
    part : str
        Which part of them.
    class_names : tuple of str
        The classifier's.
    unreadable : int
        Images that could not be read and are left out.
    answers : Answers
        Of the classifier.
    zero_shot : Answers or None
        Of its CLIP alone, by hand-written templates; ``None`` if nothing learned takes part.
    """

    classifier: str
    personalized: bool
    data: str
    part: str
    class_names: tuple[str, ...]
    unreadable: int
    answers: Answers
    zero_shot: Answers | None

    @property
    def images(self) -> int:
        """Images that were classified."""
        return len(self.answers.hits)

    @property
    def absent(self) -> list[str]:
        """Classes of which there is no image."""
        counts = self.answers.tally.confusion.sum(axis=1)
        return [name for name, count in zip(self.class_names, counts, strict=True) if not count]

    @property
    def gain(self) -> tuple[float, tuple[float, float]] | None:
        """By how much it is more accurate than its CLIP alone, and the 95 % interval of that."""
        if self.zero_shot is None:
            return None
        one, two = self.answers.hits, self.zero_shot.hits
        counts = [
            int((a & b).sum()) for a, b in ((one, two), (one, ~two), (~one, two), (~one, ~two))
        ]
        return self.answers.accuracy - self.zero_shot.accuracy, paired_difference(*counts)

    @property
    def classes(self) -> list[ClassFigures]:
        """Figures of each class."""
        confusion = self.answers.tally.confusion
        alone = None if self.zero_shot is None else self.zero_shot.tally.confusion
        return [_of_class(c, name, confusion, alone) for c, name in enumerate(self.class_names)]

    @property
    def verdict(self) -> str:
        """Whether what was learned helps here, in a sentence; empty without a comparison."""
        if self.gain is None:
            return ""
        points, (low, high) = self.gain
        what = "the personalized classifier" if self.personalized else "what the federation shares"
        within = f"95 % interval {100 * low:+.1f} to {100 * high:+.1f}"
        if low <= 0 <= high:
            return (
                f"No difference can be told here between {what} and CLIP's own words: "
                f"{100 * points:+.1f} points ({within})."
            )
        word = "better" if points > 0 else "worse"
        return (
            f"{what[0].upper()}{what[1:]} is {word} here than CLIP's own words by "
            f"{abs(100 * points):.1f} points ({within})."
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data; shares are fractions."""
        gain = self.gain
        return {
            "format": "fedrsclip-evaluation-1",
            "classifier": self.classifier,
            "data": self.data,
            "part": self.part,
            "images": self.images,
            "unreadable": self.unreadable,
            "class_names": list(self.class_names),
            "result": self.answers.to_json()
            | {"calibration_error": self.answers.calibration_error},
            "zero_shot": None if self.zero_shot is None else self.zero_shot.to_json(),
            "gain": None if gain is None else {"accuracy": gain[0], "interval": list(gain[1])},
            "classes": [vars(one) for one in self.classes],
            "verdict": self.verdict,
        }


def evaluate(
    classifier: SceneClassifier,
    labelled: Labelled,
    *,
    batch_size: int = BATCH_SIZE,
    on_event: Callable[[str], None] = lambda _line: None,
    progress: Progress | None = None,
) -> Evaluation:
    """Classify labelled images; their features are encoded once and then in the cache.

    Parameters
    ----------
    classifier : SceneClassifier
        What is evaluated.
    labelled : Labelled
        The images.
    batch_size : int
        Images that are encoded at once.
    on_event : Callable[[str], None]
        Told of each image that cannot be read.
    progress : Callable[[int, int], None] or None
        Told how many of how many images have their features.

    Raises
    ------
    DataError
        If more images than are allowed cannot be read, or the cache cannot be used.
    """
    look_up = partial(
        _cached,
        labelled,
        batch_size=batch_size,
        on_event=on_event,
        progress=progress,
        device=classifier.encoder.device,
    )
    encoder, home = classifier.encoder, paths.features_dir()
    files, reading = encoder.files, labelled.reading
    cache = FeatureCache.of_images(home, files, reading)
    features, kept = look_up(labelled.indices, cache, lambda: pooled(encoder))  # (N, dim)
    patches = None
    if classifier.classifier.transport is not None:
        cache = FeatureCache.of_patches(home, files, reading)
        flat, readable = look_up(kept, cache, lambda: by_patch(encoder))
        patches = flat.reshape(-1, files.num_patches, files.dim)  # (N, V, dim)
        features, kept = features[np.isin(kept, readable)], readable
    labels = labelled.source.labels[kept]
    scores = classifier.classifier.similarities(features, patches)  # (N, n_cls)
    origin = classifier.origin
    alone = None
    if classifier.zero_shot is not None and not origin.zero_shot:
        text = Classifier(classifier.zero_shot)
        alone = _answers(text.similarities(features), labels, classifier.logit_scale)
    return Evaluation(
        classifier.describe(),
        bool(origin.client),
        labelled.name,
        labelled.part,
        tuple(classifier.class_names),
        len(labelled.indices) - len(kept),
        _answers(scores, labels, classifier.logit_scale),
        alone,
    )


def _answers(scores: NDArray[np.float32], labels: NDArray[np.int64], logit_scale: float) -> Answers:
    true = scores[np.arange(len(labels)), labels][:, None]  # (N, 1)
    return Answers(
        tally(scores, labels, logit_scale),
        scores.argmax(axis=1) == labels,
        int(((scores > true).sum(axis=1) < TOP).sum()),
    )


def _of_class(
    c: int, name: str, confusion: NDArray[np.int64], alone: NDArray[np.int64] | None
) -> ClassFigures:
    images, answered, hits = int(confusion[c].sum()), int(confusion[:, c].sum()), confusion[c, c]
    return ClassFigures(
        name,
        images,
        float(hits / answered) if answered else None,
        float(hits / images) if images else None,
        float(2 * hits / (images + answered)) if images else None,
        float(alone[c, c] / images) if images and alone is not None else None,
        _taken_for(c, confusion[c]),
    )


def _taken_for(c: int, row: NDArray[np.int64]) -> int | None:
    missed = row.copy()
    missed[c] = 0
    return int(missed.argmax()) if missed.any() else None


def _cached(
    labelled: Labelled,
    indices: NDArray[np.int64],
    cache: FeatureCache,
    encoding: Callable[[], Encoding],
    *,
    batch_size: int,
    on_event: Callable[[str], None],
    progress: Progress | None,
    device: str,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the features of images and the indices that could be read."""
    return cache.features(
        labelled.source,
        indices,
        encoding,
        batch_size=batch_size,
        max_unreadable=labelled.max_unreadable,
        on_event=on_event,
        progress=progress,
        device=device,
    )
