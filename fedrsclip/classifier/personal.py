"""Load a site's personalized classifier: its private side with what was shared when it was trained.

From the site's own private store, or from a file that its administrator has exported.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client_app.personal_classifier import (
    PersonalClassifier,
    all_tensors,
    description_of,
    is_personal,
    read_personal,
)
from client_app.private_store import newest
from fedrsclip.classifier.loading import (
    calibrated_scale,
    check_sizes,
    checked_device,
    clip_of,
    text_side,
)
from fedrsclip.classifier.named_classes import NamedClasses, all_classes, find_classes
from fedrsclip.classifier.scene_classifier import Origin, SceneClassifier
from fedrsclip.private.kept import find_kept
from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.config.reading import Reading
from fedrsclip_core.config.shared_tensors import OFFSETS
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.errors import ConfigError, ModelError, PrivateStoreError
from fedrsclip_core.learning.classifier import Classifier
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.fileio import sha256_of
from fedrsclip_core.runs.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

_MODEL_PATH = SITE_KEYS["model.path"].variable


def load_personal_classifier(
    source: "str | Path | RunFolder",
    client: str | None = None,
    model_path: str | Path | None = None,
    device: "str | torch.device" = "cpu",
    reading: Reading | None = None,
    *,
    classes: str | Sequence[str] | None = None,
    calibrated: bool = False,
    federation: str | None = None,
) -> SceneClassifier:
    """Load what a client of this machine classifies with: what is shared and what is its own.

    It is what the run's last evaluation has counted as *personalized*. Of a run that did not come
    so far it is the private side after the client's last round, with what was shared at its start.

    Parameters
    ----------
    source : str or Path or RunFolder
        The run in which a client of this machine took part, by its name or folder, or a file that
        ``fedrsclip private export`` has written.
    client : str or None
        Whose; by default that of the only client there is.
    model_path : str or Path or None
        The CLIP's folder; by default that of ``FEDRSCLIP_MODEL_PATH``, or the one that the run
        named (the packaged demo CLIP or a hub id).
    device : str or torch.device
        ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``.
    reading : Reading or None
        How files of another sensor become RGB; by default as in the client's training.
    classes : str or Sequence[str] or None
        Some of the run's classes. Others only where nothing is learned for each class by itself.
    calibrated : bool
        Whether probabilities have the temperature that fits the client's validation images.
    federation : str or None
        Of which federation; by default the only one that has such a run here.

    Raises
    ------
    PrivateStoreError
        If there is none here, it is damaged, or not enough of it was kept.
    ModelError
        If the CLIP is missing or another one, this machine has no such device, or no temperature
        was fitted.
    ConfigError
        If it is not said whose is meant, or ``classes`` cannot be used.
    """
    from fedrsclip_core.clip.image_encoder import ImageEncoder

    device = checked_device(device)
    found = _found(source, client, federation)
    prompt = found.prompt
    own = all_classes(prompt.class_names, prompt.words)
    chosen = own if classes is None else find_classes(classes, own.names, own.words)
    if chosen.untrained and _by_class(found):
        raise ConfigError(
            f"the personalized classifier of {found.client} has learned something for each class "
            f"of its run, and {chosen.untrained[0]!r} is none of them: choose among "
            f"{', '.join(own.names)}, or take the global classifier"
        )
    given = model_path or os.environ.get(_MODEL_PATH) or None
    files = clip_of(prompt, None if given is None else paths.place(given, "model_path"))
    # The answers among some classes do not depend on the others.
    encoded = chosen if chosen.untrained else own
    classifier, zero_shot, logit_scale = _encoded(found, encoded, files, device)
    if not chosen.untrained:
        rows = list(chosen.places)
        classifier, zero_shot = _of(classifier, rows), zero_shot[rows]
    origin = Origin(
        run=prompt.run,
        server_round=prompt.server_round,
        client=found.client,
        model=prompt.model,
        untrained=chosen.untrained,
        calibrated=calibrated,
        digest=_digest(found, chosen, files),
    )
    return SceneClassifier(
        chosen.names,
        classifier,
        calibrated_scale(prompt, logit_scale) if calibrated else logit_scale,
        ImageEncoder(files, device),
        reading or prompt.reading,
        origin,
        zero_shot,
    )


def is_export(source: str | Path) -> bool:
    """Whether a file holds a personalized classifier."""
    path = paths.place(source, "the run")
    return path.is_file() and is_personal(path)


def _found(
    source: "str | Path | RunFolder", client: str | None, federation: str | None
) -> PersonalClassifier:
    if isinstance(source, RunFolder):
        source = source.path
    if not isinstance(source, str | os.PathLike):
        raise ModelError(
            f"a {type(source).__name__} is no run: give the name of one in which a client of this "
            "machine took part, or a file that `fedrsclip private export` has written"
        )
    path = paths.place(source, "the run")
    if not path.is_file():
        name = path.name if path.is_dir() else str(source)
        return newest(find_kept(name, client, federation).folder)
    found = read_personal(path)
    for what, asked, held in (
        ("client", client, found.client),
        ("federation", federation, found.federation),
    ):
        if asked not in (None, held):
            raise PrivateStoreError(f"{path} is of {what} {held}, not of {asked}")
    return found


def _by_class(found: PersonalClassifier) -> bool:
    """Whether something was learned or counted for each class by itself."""
    state, weight = found.state, found.state.weight
    tensors = (state.class_offsets, found.log_prior, found.tuned_bias)
    own_weights = weight is not None and found.fusion in ("class_weight", "class_gate")
    shared = set(OFFSETS) & found.prompt.shared.keys()
    return own_weights or bool(shared) or any(tensor is not None for tensor in tensors)


def _encoded(
    found: PersonalClassifier, classes: NamedClasses, files: ClipFiles, device: str
) -> tuple[Classifier, NDArray[np.float32], float]:
    """Return what the client's evaluation classified with, zero-shot text features, and the scale.

    The features ``(n_cls, dim)`` are those of the templates; the scale is an inverse temperature.
    """
    from fedrsclip_core.learning.evaluation import classifiers, tuned_classifier

    prompt = found.prompt
    _check(found, files)
    model, given = text_side(prompt, classes.words, found.n_ctx, files, device, found.log_prior)
    scale = model.encoder.logit_scale
    if found.tuned is not None and found.tuned_bias is not None:
        tuned = tuned_classifier(model.encoder, found.tuned, found.tuned_bias, given)
        return tuned, model.zero_shot, scale
    made = classifiers(model.encoder, prompt.shared, found.state, found.config, given)
    if "personalized" not in made:
        raise PrivateStoreError(f"the run {prompt.run} has learned nothing to classify with")
    return made["personalized"], model.zero_shot, scale


def _of(classifier: Classifier, rows: list[int]) -> Classifier:
    """Return a classifier of some of the classes."""
    bias = None if classifier.bias is None else classifier.bias[rows]
    return replace(classifier, text=np.ascontiguousarray(classifier.text[..., rows, :]), bias=bias)


def _check(found: PersonalClassifier, files: ClipFiles) -> None:
    """Refuse tensors that fit neither each other nor the CLIP."""
    check_sizes(found.prompt.shared, files)
    n_cls, n_ctx = len(found.prompt.words), found.n_ctx
    offset_u = found.state.offset_u
    rank = 0 if offset_u is None or offset_u.ndim != 2 else offset_u.shape[1]
    wanted = {
        "private_prompt": (n_ctx, files.width),
        "offset_u": (n_ctx, rank),
        "offset_v": (rank, files.width),
        "class_offsets": (n_cls, files.dim),
        "gate": (1 if found.fusion == "gate" else n_cls,),
        "log_prior": (n_cls,),
        "tuned_prompt": (n_ctx, files.width),
        "tuned_bias": (n_cls,),
    }
    held = all_tensors(found)
    for name, shape in wanted.items():
        if name in held and held[name].shape != shape:
            raise ModelError(
                f"{name} of the personalized classifier is {held[name].shape}, but {shape} belongs "
                f"to its classes and the CLIP in {files.folder}"
            )


def _digest(found: PersonalClassifier, classes: NamedClasses, files: ClipFiles) -> str:
    tensors = sorted(all_tensors(found).items())
    parts = [part for name, one in tensors for part in (name, one.tobytes())]
    return sha256_of(files.digest, description_of(found), repr(classes), *parts)
