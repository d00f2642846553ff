"""Classify images with the shared prompt that a run left behind.

>>> from fedrsclip.predict import load_classifier
>>> classifier = load_classifier("shared_prompt.safetensors")  # doctest: +SKIP
>>> print(classifier.predict("scene.jpg"))  # doctest: +SKIP
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.clip.files import ClipFiles, find_clip
from fedrsclip_core.config.schema import DTYPES, ModelConfig, PromptConfig
from fedrsclip_core.data.images import decode, to_rgb
from fedrsclip_core.errors import DataError, ModelError
from fedrsclip_core.learning.prompts import SHARED_PROMPT_FORMAT, ClientState

if TYPE_CHECKING:
    from PIL.Image import Image

    from fedrsclip_core.clip.image_encoder import ImageEncoder

_BATCH_SIZE = 32


class SceneClassifier:
    """A frozen CLIP with a trained prompt; made by :func:`load_classifier`.

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
    """

    def __init__(
        self,
        class_names: Sequence[str],
        text: NDArray[np.float32],
        logit_scale: float,
        encoder: "ImageEncoder",
    ) -> None:
        self.class_names = list(class_names)
        self._text = text
        self._logit_scale = logit_scale
        self._encoder = encoder

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
            prepared = [self._encoder.prepare(_rgb(image)) for image in batch]
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

    saved = _read(Path(prompt_file).expanduser())
    files = _find_clip(saved, None if model_path is None else Path(model_path))
    text, logit_scale = _text_features(saved, files, device)
    return SceneClassifier(saved.class_names, text, logit_scale, ImageEncoder(files, device))


@dataclass(frozen=True)
class _SavedPrompt:
    """What the file holds."""

    shared: NDArray[np.float32]  # (n_ctx, width)
    class_names: list[str]
    words: list[str]
    model: ModelConfig
    clip: str


def _read(file: Path) -> _SavedPrompt:
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise ModelError(f"there is no shared prompt at {file}")
    try:
        with safe_open(file, framework="np") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
            if metadata.get("format") != SHARED_PROMPT_FORMAT:
                raise ModelError(
                    f"{file} is not a shared prompt of a run: give the shared_prompt.safetensors "
                    "of a run's folder"
                )
            saved = _saved(opened.get_tensor("shared_prompt"), metadata)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{file} is damaged ({type(error).__name__}: {error}): copy it from the run's folder "
            "anew"
        ) from error
    if not saved.class_names:
        raise ModelError(
            f"{file} names no classes, for the run's server did not know them: train with "
            "data.class_names set"
        )
    return saved


def _saved(shared: NDArray[np.float32], metadata: Mapping[str, str]) -> _SavedPrompt:
    """Check the content; whatever is wrong raises KeyError, TypeError or ValueError."""
    class_names, words = (
        [str(name) for name in json.loads(metadata[key])] for key in ("class_names", "words")
    )
    if len(words) != len(class_names):
        raise ValueError(f"{len(class_names)} classes but words for {len(words)}")
    if shared.ndim != 2 or shared.dtype != np.float32 or not np.isfinite(shared).all():
        raise ValueError("the prompt is not a finite float32 matrix")
    model = ModelConfig(
        name=metadata["model"],
        hub_id=metadata["hub_id"] or None,
        revision=metadata["revision"] or None,
        dtype=metadata.get("dtype", ModelConfig.dtype),
    )
    if model.dtype not in DTYPES:
        raise ValueError(f"the towers' dtype is {model.dtype}")
    return _SavedPrompt(shared, class_names, words, model, metadata["clip"])


def _find_clip(saved: _SavedPrompt, path: Path | None) -> ClipFiles:
    if path is None and saved.model.hub_id is None and saved.model.name != ModelConfig.name:
        raise ModelError(
            f"the prompt was trained for a CLIP in the clients' own folders (model "
            f"{saved.model.name!r}): give model_path the folder of that CLIP"
        )
    files = find_clip(saved.model, path)
    if files.digest != saved.clip:
        raise ModelError(
            f"the prompt was trained for another CLIP (model {saved.model.name!r}, digest "
            f"{saved.clip[:12]}) than the one in {files.folder} ({files.digest[:12]}): give "
            "model_path the folder of that CLIP"
        )
    return files


def _text_features(
    saved: _SavedPrompt, files: ClipFiles, device: str
) -> tuple[NDArray[np.float32], float]:
    """Return the classes' unit text features ``(n_cls, dim)`` and the inverse temperature."""
    from fedrsclip_core.clip.text_encoder import PackedTextEncoder
    from fedrsclip_core.clip.text_tower import load_text_tower
    from fedrsclip_core.clip.tokens import tokenize_prompts
    from fedrsclip_core.learning.evaluation import text_features

    if saved.shared.shape[1] != files.width:
        raise ModelError(
            f"the prompt's vectors have {saved.shared.shape[1]} numbers but the text encoder in "
            f"{files.folder} has width {files.width}"
        )
    tokens = tokenize_prompts(files, saved.words, len(saved.shared))
    encoder = PackedTextEncoder(load_text_tower(files, tokens.ids, device=device), tokens)
    texts = text_features(encoder, saved.shared, ClientState(None), PromptConfig())
    return texts["global"], encoder.logit_scale


def _rgb(image: "str | Path | Image") -> "Image":
    if not isinstance(image, str | Path):
        return to_rgb(image)
    file = Path(image).expanduser()
    if not file.is_file():
        raise DataError(f"there is no image at {file}")
    try:
        return decode(file)
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
