"""Load what a run shared: its prompt, its class offsets, or both."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client_app.encoders import missing_device
from client_app.personal_classifier import is_personal
from fedrsclip.classifier.named_classes import (
    NamedClasses,
    all_classes,
    find_classes,
    of_classes,
)
from fedrsclip.classifier.scene_classifier import Origin, SceneClassifier
from fedrsclip_core.clip.earlier import same_clip
from fedrsclip_core.clip.files import ClipFiles, find_clip
from fedrsclip_core.config.reading import Reading
from fedrsclip_core.config.schema import DTYPES, ModelConfig, PromptConfig
from fedrsclip_core.config.shared_tensors import (
    SHARED_COEFFICIENTS,
    SHARED_OFFSETS,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
    SharedTensors,
)
from fedrsclip_core.errors import ConfigError, ModelError
from fedrsclip_core.learning.classifier import Classifier
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.fileio import sha256_of
from fedrsclip_core.runs.published import published_prompt
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.runs.shared_prompt import (
    NoSharedPromptError,
    SharedPrompt,
    read_shared_prompt,
)

if TYPE_CHECKING:
    import torch

    from fedrsclip_core.clip.text_model import TextModel
    from fedrsclip_core.learning.dual_prompt import Given

_SUFFIX = ".safetensors"
"""No name of a run or on the hub ends with it."""


def load_classifier(
    source: "str | Path | RunFolder",
    model_path: str | Path | None = None,
    device: "str | torch.device" = "cpu",
    reading: Reading | None = None,
    *,
    classes: str | Sequence[str] | None = None,
    calibrated: bool = False,
) -> SceneClassifier:
    """Load what a run has shared, together with the CLIP it was trained for.

    Parameters
    ----------
    source : str or Path or RunFolder
        The name of a run of this machine, a run's folder, a file ``shared_prompt.safetensors``, or
        what ``fedrsclip publish`` wrote: a folder, or ``owner/name`` of the HuggingFace hub, also
        with ``@revision``.
    model_path : str or Path or None
        The CLIP's folder; by default the one that the run named (the packaged demo CLIP or a hub
        id).
    device : str or torch.device
        ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``.
    reading : Reading or None
        How files of another sensor than the federation's become RGB; by default as in training.
    classes : str or Sequence[str] or None
        Classes instead of the run's, also as one text with commas between them. Of those that it
        was trained for it keeps what was learned; others the prompt knows by their words alone,
        and class offsets not at all.
    calibrated : bool
        Whether probabilities have the temperature that the run fitted on validation images.

    Raises
    ------
    ModelError
        If there is no shared prompt of a run, the CLIP is missing or another one, this machine
        has no such device, or no temperature was fitted.
    ConfigError
        If ``classes`` cannot be used.
    """
    from fedrsclip_core.clip.image_encoder import ImageEncoder

    device = checked_device(device)
    saved = _read(_prompt_file(source))
    own = all_classes(saved.class_names, saved.words)
    chosen = own if classes is None else find_classes(classes, own.names, own.words)
    files = clip_of(saved, None if model_path is None else paths.place(model_path, "model_path"))
    text, zero_shot, logit_scale = _text_features(saved, chosen, files, device)
    origin = Origin(
        run=saved.run,
        server_round=saved.server_round,
        model=saved.model,
        untrained=chosen.untrained,
        zero_shot=SHARED_PROMPT not in saved.shared and chosen.untrained == chosen.names,
        calibrated=calibrated,
        digest=_digest(saved, chosen, files),
    )
    return SceneClassifier(
        chosen.names,
        Classifier(text),
        calibrated_scale(saved, logit_scale) if calibrated else logit_scale,
        ImageEncoder(files, device),
        reading or saved.reading,
        origin,
        zero_shot,
    )


def _prompt_file(source: "str | Path | RunFolder") -> Path:
    """Return the file of a run, or of what was published, that is given in one of five ways."""
    if isinstance(source, RunFolder):
        return source.shared_prompt
    if not isinstance(source, str | os.PathLike):
        raise ModelError(
            f"a {type(source).__name__} is no run: give a shared_prompt.safetensors, a run's "
            "folder or the name of a run of this machine"
        )
    place = paths.place(source, "the run")
    if place.is_dir():
        return published_prompt(place) or RunFolder(place).shared_prompt
    if place.exists() or not isinstance(source, str) or place.suffix == _SUFFIX:
        return place
    # A name has no folder in it.
    if place.name == source:
        with suppress(ConfigError):
            named = RunFolder.named(source)
            if named.path.is_dir():
                return named.shared_prompt
    return published_prompt(source) or place


def checked_device(given: "str | torch.device") -> str:
    """Return a device that this machine has.

    Raises
    ------
    ModelError
        If it has none of that name.
    """
    wanted = str(given)
    try:
        missing = missing_device(wanted)
    except ConfigError as error:
        raise ModelError(str(error)) from error
    if missing:
        raise ModelError(f"{missing}: choose another, such as cpu")
    return wanted


def _read(file: Path) -> SharedPrompt:
    try:
        saved = read_shared_prompt(file)
    except FileNotFoundError:
        named = " and no run of that name" if file.name == str(file) else ""
        raise ModelError(
            f"there is no shared prompt at {file}{named} (runs are in {paths.runs_dir()})"
        ) from None
    except NoSharedPromptError as error:
        if is_personal(file):
            raise ModelError(
                f"{file} holds a personalized classifier: load it with load_personal_classifier"
            ) from None
        raise ModelError(f"{file} {error}") from error
    if saved.dtype not in DTYPES:
        raise ModelError(f"{file} is damaged (the towers' dtype is {saved.dtype})")
    if not saved.class_names:
        raise ModelError(
            f"{file} names no classes, for the run's server did not know them: train with "
            "data.class_names set"
        )
    return saved


def clip_of(saved: SharedPrompt, path: Path | None) -> ClipFiles:
    """Return the CLIP that a prompt was trained for, in a folder or where the run named it.

    Raises
    ------
    ModelError
        If it is not there, or another one is.
    """
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


def calibrated_scale(saved: SharedPrompt, logit_scale: float) -> float:
    """Return the inverse temperature that was fitted, of the CLIP's own.

    Raises
    ------
    ModelError
        If none was.
    """
    if saved.calibrated_factor is None:
        raise ModelError(
            f"the run {saved.run!r} fitted no temperature, for it had too few validation images, "
            "did not end, or is of an earlier version: leave calibrated out"
        )
    return logit_scale * saved.calibrated_factor


def _digest(saved: SharedPrompt, classes: NamedClasses, files: ClipFiles) -> str:
    tensors = [part for name, one in saved.shared.items() for part in (name, one.tobytes())]
    about = (files.digest, saved.dtype, saved.words, saved.templates, classes)
    return sha256_of(repr(about), *tensors)


def _text_features(
    saved: SharedPrompt, classes: NamedClasses, files: ClipFiles, device: str
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Return the classes' unit text features ``(n_cls, dim)``, learned and by the templates alone.

    And the inverse temperature.
    """
    from fedrsclip_core.learning.evaluation import shared_features

    check_sizes(saved.shared, files)
    prompt = saved.shared.get(SHARED_PROMPT)  # (n_ctx, width)
    n_ctx = 0 if prompt is None else len(prompt)
    model, given = text_side(saved, classes.words, n_ctx, files, device)
    learned = shared_features(model.encoder, of_classes(saved.shared, classes), given)
    return learned, model.zero_shot, model.encoder.logit_scale


def text_side(
    saved: SharedPrompt,
    words: Sequence[str],
    n_ctx: int,
    files: ClipFiles,
    device: str,
    log_prior: NDArray[np.float32] | None = None,
) -> "tuple[TextModel, Given]":
    """Return the text tower for some words, and what text features are made of and is not learned.

    Parameters
    ----------
    saved : SharedPrompt
        Its templates and the size of its basis count.
    words : Sequence[str]
        What is read for each class.
    n_ctx : int
        Context vectors of the prompts; 0 without one.
    files : ClipFiles
        The CLIP.
    device : str
        Where it runs.
    log_prior : NDArray[np.float32] or None
        Added to the logits ``(n_cls,)``.
    """
    from fedrsclip_core.clip.offset_basis import offset_basis
    from fedrsclip_core.clip.text_model import load_text_model
    from fedrsclip_core.learning.dual_prompt import Given

    # Files that do not say the templates hold a prompt, which needs none.
    templates = saved.templates or PromptConfig().templates
    model = load_text_model(files, words, n_ctx, templates, device)
    coefficients = saved.shared.get(SHARED_COEFFICIENTS)  # (n_cls, size)
    basis = None if coefficients is None else offset_basis(files, coefficients.shape[1])
    return model, Given(model.zero_shot, log_prior, basis)


def check_sizes(shared: SharedTensors, files: ClipFiles) -> None:
    """Refuse shared tensors that do not fit the CLIP.

    Raises
    ------
    ModelError
        With the one that does not.
    """
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
