"""Classify images with what a run shared: its prompt, its class offsets, or both.

>>> from fedrsclip.predict import load_classifier
>>> classifier = load_classifier("shared_prompt.safetensors")  # doctest: +SKIP
>>> print(classifier.predict("scene.jpg"))  # doctest: +SKIP
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.clip.earlier import same_clip
from fedrsclip_core.clip.files import ClipFiles, find_clip
from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.config.schema import DTYPES, ModelConfig, PromptConfig
from fedrsclip_core.config.shared_tensors import (
    SHARED_COEFFICIENTS,
    SHARED_OFFSETS,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
    SharedTensors,
)
from fedrsclip_core.data.imagery.decoding import decode, to_rgb
from fedrsclip_core.errors import DataError, ModelError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.shared_prompt import (
    NoSharedPromptError,
    SharedPrompt,
    read_shared_prompt,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from fedrsclip_core.clip.image_encoder import ImageEncoder

_BATCH_SIZE = 32


class SceneClassifier:
    """A frozen CLIP with what was trained; made by :func:`load_classifier`.

    Parameters
    ----------
    class_names : Sequence[str]
        The federation's classes.
    text : NDArray[np.float32]
        Their unit text features ``(n_cls, dim)``.
    logit_scale : float
        Inverse temperature.
    encoder : ImageEncoder
        The frozen image tower.
    reading : Reading
        How image files become RGB, as in training.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        text: NDArray[np.float32],
        logit_scale: float,
        encoder: "ImageEncoder",
        reading: Reading = AS_THEY_ARE,
    ) -> None:
        self.class_names = list(class_names)
        self._text = text
        self._logit_scale = logit_scale
        self._encoder = encoder
        self._reading = reading

    def predict(self, image: "str | Path | Image") -> str:
        """Return the most probable class name of one image.

        Raises
        ------
        DataError
            If the image cannot be read.
        """
        return self.class_names[int(self.scores([image])[0].argmax())]

    def scores(self, images: "Sequence[str | Path | Image]") -> NDArray[np.float32]:
        """Return each image's probabilities ``(N, n_cls)``, in the order of ``class_names``.

        Raises
        ------
        DataError
            If an image cannot be read.
        """
        rows = [np.empty((0, len(self.class_names)), np.float32)]
        for batch in _batches(images):
            prepared = [self._encoder.prepare(_rgb(image, self._reading)) for image in batch]
            features = self._encoder.encode(prepared)  # (B, dim)
            rows.append(_softmax(self._logit_scale * features @ self._text.T))
        return np.concatenate(rows)


def load_classifier(
    prompt_file: str | Path, model_path: str | Path | None = None, device: str = "cpu"
) -> SceneClassifier:
    """Load a run's ``shared_prompt.safetensors`` together with the CLIP it was trained for.

    Parameters
    ----------
    prompt_file : str or Path
        The file in the run's folder.
    model_path : str or Path or None
        The CLIP's folder; by default the one that the run named (the packaged demo CLIP or a hub
        id).
    device : str
        A torch device.

    Raises
    ------
    ModelError
        If the file is no shared prompt of a run, or the CLIP is missing or another one.
    """
    from fedrsclip_core.clip.image_encoder import ImageEncoder

    saved = _read(paths.place(prompt_file, "prompt_file"))
    files = _find_clip(saved, None if model_path is None else Path(model_path))
    text, logit_scale = _text_features(saved, files, device)
    encoder = ImageEncoder(files, device)
    return SceneClassifier(saved.class_names, text, logit_scale, encoder, saved.reading)


def _read(file: Path) -> SharedPrompt:
    try:
        saved = read_shared_prompt(file)
    except FileNotFoundError:
        raise ModelError(f"there is no shared prompt at {file}") from None
    except NoSharedPromptError as error:
        raise ModelError(f"{file} {error}") from error
    if saved.dtype not in DTYPES:
        raise ModelError(f"{file} is damaged (the towers' dtype is {saved.dtype})")
    if not saved.class_names:
        raise ModelError(
            f"{file} names no classes, for the run's server did not know them: train with "
            "data.class_names set"
        )
    return saved


def _find_clip(saved: SharedPrompt, path: Path | None) -> ClipFiles:
    model = ModelConfig(
        saved.model, saved.hub_id or None, saved.revision or None, dtype=saved.dtype
    )
    if path is None and model.hub_id is None and model.name != ModelConfig.name:
        raise ModelError(
            f"the prompt was trained for a CLIP in the clients' own folders (model "
            f"{model.name!r}): give model_path the folder of that CLIP"
        )
    files = find_clip(model, path)
    if not same_clip(files, saved.clip):
        raise ModelError(
            f"the prompt was trained for another CLIP (model {model.name!r}, digest "
            f"{saved.clip[:12]}) than the one in {files.folder} ({files.digest[:12]}): give "
            "model_path the folder of that CLIP"
        )
    return files


def _text_features(
    saved: SharedPrompt, files: ClipFiles, device: str
) -> tuple[NDArray[np.float32], float]:
    """Return the classes' unit text features ``(n_cls, dim)`` and the inverse temperature."""
    from fedrsclip_core.clip.offset_basis import offset_basis
    from fedrsclip_core.clip.text_model import load_text_model
    from fedrsclip_core.learning.dual_prompt import Given
    from fedrsclip_core.learning.evaluation import shared_features

    _check_sizes(saved.shared, files)
    prompt = saved.shared.get(SHARED_PROMPT)  # (n_ctx, width)
    coefficients = saved.shared.get(SHARED_COEFFICIENTS)  # (n_cls, size)
    n_ctx = PromptConfig.n_ctx if prompt is None else len(prompt)
    # Files that do not say the templates hold a prompt, which needs none.
    templates = saved.templates or PromptConfig().templates
    model = load_text_model(files, saved.words, n_ctx, templates, device)
    basis = None if coefficients is None else offset_basis(files, coefficients.shape[1])
    given = Given(model.zero_shot, basis=basis)
    return shared_features(model.encoder, saved.shared, given), model.encoder.logit_scale


def _check_sizes(shared: SharedTensors, files: ClipFiles) -> None:
    wanted = {
        SHARED_PROMPT: files.width,
        SHARED_OFFSETS: files.dim,
        SHARED_OFFSETS_V: files.dim,
    }
    for name in wanted.keys() & shared.keys():
        size = shared[name].shape[1]
        if size != wanted[name]:
            raise ModelError(
                f"the vectors of {name} have {size} numbers but the CLIP in {files.folder} has "
                f"{wanted[name]} there"
            )


def _rgb(image: "str | Path | Image", reading: Reading) -> "Image":
    if not isinstance(image, str | Path):
        return to_rgb(image)
    file = paths.place(image, "the image")
    if not file.is_file():
        raise DataError(f"there is no image at {file}")
    try:
        return decode(file, reading)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _batches(
    images: "Sequence[str | Path | Image]",
) -> "Iterator[Sequence[str | Path | Image]]":
    for start in range(0, len(images), _BATCH_SIZE):
        yield images[start : start + _BATCH_SIZE]


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))  # (N, n_cls)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
