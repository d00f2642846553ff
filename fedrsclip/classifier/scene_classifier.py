"""A frozen CLIP with what was trained for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrsclip.classifier.given_images import GivenImage, as_list, as_rgb, batches
from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.errors import DataError
from fedrsclip_core.learning.classifier import Classifier
from fedrsclip_core.printable import printable
from fedrsclip_core.runs.fileio import sha256_of

if TYPE_CHECKING:
    import torch

    from fedrsclip_core.clip.image_encoder import ImageEncoder

BATCH_SIZE = 32
_LISTED = 5


@dataclass(frozen=True)
class Origin:
    """Where a classifier comes from.

    Attributes
    ----------
    run : str
        The run's name.
    server_round : int
        The round after which it was kept.
    client : str
        Whose it is; empty for the global one.
    model : str
        The CLIP as the run's configuration named it.
    untrained : tuple of str
        Classes that nobody trained: a prompt, or the CLIP itself, knows them by their words.
    zero_shot : bool
        Whether nothing that was learned takes part.
    calibrated : bool
        Whether the temperature was fitted on validation images.
    digest : str
        Of all that was learned and of the CLIP.
    """

    run: str = ""
    server_round: int = 0
    client: str = ""
    model: str = ""
    untrained: tuple[str, ...] = ()
    zero_shot: bool = False
    calibrated: bool = False
    digest: str = ""


class SceneClassifier:
    """A frozen CLIP with what was trained; made by :func:`load_classifier`.

    Parameters
    ----------
    class_names : Sequence[str]
        Its classes.
    classifier : Classifier
        Their text features.
    logit_scale : float
        Inverse temperature of the probabilities.
    encoder : ImageEncoder
        The frozen image tower.
    reading : Reading
        How image files become RGB, as in training.
    origin : Origin
        Where it comes from.
    zero_shot : NDArray[np.float32] or None
        The CLIP's own unit text features of these classes ``(n_cls, dim)``, by hand-written
        templates: what it is compared with.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        classifier: Classifier,
        logit_scale: float,
        encoder: "ImageEncoder",
        reading: Reading = AS_THEY_ARE,
        origin: Origin | None = None,
        zero_shot: NDArray[np.float32] | None = None,
    ) -> None:
        self.class_names = list(class_names)
        self.reading = reading
        self.origin = origin or Origin()
        self.encoder = encoder
        self.zero_shot = zero_shot
        self.classifier = classifier
        self.logit_scale = logit_scale

    @property
    def digest(self) -> str:
        """Of all that its answers depend on but the image: equal ones answer alike."""
        about = (self.class_names, self.logit_scale, self.reading)
        return sha256_of(self.origin.digest, repr(about))

    def describe(self) -> str:
        """Say in a line what it is, whose, and of how many classes.

        Examples
        --------
        >>> from fedrsclip import load_classifier
        >>> load_classifier("first").describe()
        'first, round 2, global, 16 classes, demo_clip'
        >>> load_classifier("first", classes=["harbor", "volcano"]).describe()
        'first, round 2, global, 2 classes, demo_clip; nobody trained: volcano'
        """
        origin, count = self.origin, len(self.class_names)
        parts = [
            origin.run,
            f"round {origin.server_round}",
            f"personalized of {origin.client}" if origin.client else "global",
            f"{count} class{'es' * (count != 1)}",
            origin.model,
            "calibrated" if origin.calibrated else "",
        ]
        text = ", ".join(part for part in parts if part)
        if origin.untrained:
            text += f"; nobody trained: {_listed(origin.untrained)}"
        if origin.zero_shot:
            text += "; nothing learned takes part: this is the zero-shot CLIP"
        return text

    def predict(self, image: "GivenImage") -> str:
        """Return the most probable class name of one image.

        Parameters
        ----------
        image : GivenImage
            A path, the bytes of a file, a binary file object, a PIL image, or pixels of 8 bits: an
            array or tensor ``(H, W, 3)``, ``(3, H, W)`` or ``(H, W)``.

        Raises
        ------
        DataError
            If the image cannot be read, or is none or several.

        Examples
        --------
        >>> import numpy as np
        >>> from fedrsclip import load_classifier
        >>> classifier = load_classifier("first")
        >>> classifier.predict(np.zeros((64, 64, 3), np.uint8)) in classifier.class_names
        True
        """
        given = as_list(image)
        if len(given) != 1 or isinstance(image, list | tuple):
            raise DataError("predict takes one image: give several to scores")
        return self.class_names[int(self.scores(given)[0].argmax())]

    def scores(self, images: "GivenImage | Iterable[GivenImage]") -> NDArray[np.float32]:
        """Return each image's probabilities ``(N, n_cls)``, in the order of ``class_names``.

        Parameters
        ----------
        images : GivenImage or Iterable[GivenImage]
            One or several of what :meth:`predict` takes; of an array or tensor with four axes each
            of the first is an image.

        Raises
        ------
        DataError
            If an image cannot be read, naming which.

        Examples
        --------
        >>> from fedrsclip import load_classifier
        >>> load_classifier("first").scores("scene.jpg").sum().round(4)
        np.float32(1.0)
        """
        rows = [np.empty((0, len(self.class_names)), np.float32)]
        given = as_list(images)
        for start, batch in enumerate(batches(given, BATCH_SIZE)):
            prepared = [
                self._named(image, start * BATCH_SIZE + k, len(given))
                for k, image in enumerate(batch)
            ]
            rows.append(self.probabilities(prepared))
        return np.concatenate(rows)

    def prepare(self, image: "GivenImage") -> "torch.Tensor":
        """Return an image as the image tower takes it ``(3, size, size)``, also in threads.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        return self.encoder.prepare(as_rgb(image, self.reading))

    def probabilities(self, prepared: "Sequence[torch.Tensor]") -> NDArray[np.float32]:
        """Return the probabilities ``(N, n_cls)`` of prepared images, encoded as one batch."""
        by_patches = self.classifier.transport is not None
        # In the precision of the cache that training and evaluation read.
        patches = self.encoder.encode_patches(prepared).astype(np.float16) if by_patches else None
        features = self.encoder.encode(prepared)  # (N, dim)
        return _softmax(self.logit_scale * self.classifier.similarities(features, patches))

    def _named(self, image: "GivenImage", number: int, count: int) -> "torch.Tensor":
        try:
            return self.prepare(image)
        except DataError as error:
            named = count == 1 or isinstance(image, str | Path)
            raise error if named else DataError(f"image {number}, from 0: {error}") from error


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    shown = ", ".join(map(printable, names[:_LISTED]))
    return f"{shown} and {more} more" if more > 0 else shown


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))  # (N, n_cls)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
