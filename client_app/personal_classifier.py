"""A client's personalized classifier as a sealed file: both sides, and what they were used with.

Every private file of a round holds one, the last evaluation leaves another, and an export is one.
What is shared in it came from the server; the rest is the client's own.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client_app.private_format import Tensors, state_of, tensors_of
from fedrsclip_core.config.schema import DTYPES, PromptConfig
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.errors import PrivateStoreError
from fedrsclip_core.learning.prompts import ClientState
from fedrsclip_core.runs import shared_prompt
from fedrsclip_core.runs.sealed import DamagedFileError, read_tensors, write_sealed
from fedrsclip_core.runs.shared_prompt import SharedPrompt

FORMAT = "fedrsclip-personal-1"
DESCRIPTION = "classifier"
"""The key of a file's metadata under which all but tensors stands, as JSON."""
_LOG_PRIOR, _TUNED, _TUNED_BIAS = "log_prior", "tuned_prompt", "tuned_bias"
_FUSION = ("fusion", "beta", "transport_mass", "transport_eps")


@dataclass(frozen=True)
class PersonalClassifier:
    """What a client classifies with.

    Attributes
    ----------
    federation, client : str
        Whose it is.
    prompt : SharedPrompt
        What is shared, as it arrived with the message (nothing under ``local``), the classes, the
        CLIP and how images are read here; ``server_round`` is the message's, ``calibrated_factor``
        was fitted to the client's own validation images.
    state : ClientState
        The private side that was trained with it.
    fusion : str
        How both are fused; ``beta``, ``transport_mass`` and ``transport_eps`` as in
        :class:`~fedrsclip_core.config.schema.PromptConfig`.
    log_prior : NDArray[np.float32] or None
        Added to the logits ``(n_cls,)``, where ``prompt.class_prior`` asks for it.
    tuned, tuned_bias : NDArray[np.float32] or None
        The private copy ``(n_ctx, width)`` of the shared prompt that the last evaluation tuned, and
        its classes' bias of the logits ``(n_cls,)``: it classifies alone.
    """

    federation: str
    client: str
    prompt: SharedPrompt
    state: ClientState
    fusion: str
    beta: float
    transport_mass: float
    transport_eps: float
    log_prior: NDArray[np.float32] | None = None
    tuned: NDArray[np.float32] | None = None
    tuned_bias: NDArray[np.float32] | None = None

    @property
    def config(self) -> PromptConfig:
        """What of a run's configuration the fusion reads."""
        return PromptConfig(**{name: getattr(self, name) for name in _FUSION})

    @property
    def n_ctx(self) -> int:
        """Context vectors of its prompts; 0 without one."""
        parts = (self.prompt.shared.get(SHARED_PROMPT), self.state.private, self.state.offset_u)
        return next((len(part) for part in parts if part is not None), 0)


def tensors_beside(classifier: PersonalClassifier) -> dict[str, NDArray[np.float32]]:
    """Return its tensors that are not the private side's, by their names in a file."""
    own = {
        _LOG_PRIOR: classifier.log_prior,
        _TUNED: classifier.tuned,
        _TUNED_BIAS: classifier.tuned_bias,
    }
    found = {name: t for name, t in own.items() if t is not None}
    return {**classifier.prompt.shared, **found}


def all_tensors(classifier: PersonalClassifier) -> dict[str, NDArray[np.float32]]:
    """Return its tensors by their names in a file."""
    return {**tensors_of(classifier.state), **tensors_beside(classifier)}


def description_of(classifier: PersonalClassifier) -> str:
    """Return all but its tensors, for a file's metadata under :data:`DESCRIPTION`."""
    fusion = {name: getattr(classifier, name) for name in _FUSION}
    whose = {"federation": classifier.federation, "client": classifier.client}
    prompt = shared_prompt.described(classifier.prompt)
    return json.dumps({**whose, **fusion, "prompt": prompt})


def write_personal(path: Path, classifier: PersonalClassifier) -> None:
    """Replace ``path`` atomically by a file for its owner only.

    Raises
    ------
    OSError
        If the disk is full or not writable; the previous file is then intact.
    """
    metadata = {"format": FORMAT, DESCRIPTION: description_of(classifier)}
    write_sealed(path, all_tensors(classifier), metadata, mode=0o600)


def is_personal(path: Path) -> bool:
    """Whether a file is a personalized classifier, whole or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return DESCRIPTION in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return False


def read_personal(path: Path) -> PersonalClassifier:
    """Return what a file holds: an export, what the last evaluation left, or a round's.

    Raises
    ------
    PrivateStoreError
        If it is damaged, of something else, or of a version that did not keep enough.
    """
    try:
        metadata, tensors, sealed = read_tensors(path)
        if not sealed:
            raise DamagedFileError("it has no checksum")
        text = metadata.get(DESCRIPTION)
        if text is None and "client" in metadata:
            raise PrivateStoreError(
                f"{path} was kept by a version that did not keep the shared prompt beside the "
                "private one: take part in one more round with this version"
            )
        if text is None:
            raise PrivateStoreError(
                f"{path} holds no personalized classifier: give a file that `fedrsclip private "
                "export` has written"
            )
        return _classifier(json.loads(text), tensors)
    except FileNotFoundError:
        raise PrivateStoreError(f"there is no file {path}") from None
    except (DamagedFileError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise PrivateStoreError(f"{path} is damaged ({type(error).__name__}: {error})") from error


def _classifier(found: Mapping[str, Any], tensors: Tensors) -> PersonalClassifier:
    """Check the content; whatever is wrong raises KeyError, TypeError or ValueError."""
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(f"{name} is not finite float32")
    prompt = shared_prompt.prompt_of(tensors, found["prompt"])
    if prompt.dtype not in DTYPES or not prompt.class_names:
        raise ValueError(f"{len(prompt.class_names)} classes, of towers in {prompt.dtype[:64]}")
    numbers = {name: float(found[name]) for name in _FUSION[1:]}
    if not all(map(math.isfinite, numbers.values())):
        raise ValueError("a number of the fusion is not finite")
    own = {name: tensors.get(name) for name in (_LOG_PRIOR, _TUNED, _TUNED_BIAS)}
    return PersonalClassifier(
        federation=str(found["federation"]),
        client=str(found["client"]),
        prompt=prompt,
        state=state_of(tensors),
        fusion=str(found["fusion"]),
        log_prior=own[_LOG_PRIOR],
        tuned=own[_TUNED],
        tuned_bias=own[_TUNED_BIAS],
        **numbers,
    )
