"""What a client keeps at home of its final evaluation: how well it classified, and with what."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client_app.personal_classifier import PersonalClassifier
from client_app.private_store import CLASSIFIER, open_store
from client_app.runtime import Runtime
from client_app.site_log import SiteLog
from fedrsclip_core.errors import PrivateStoreError
from fedrsclip_core.learning.prompts import ClientState
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.evaluations import FORMAT, Evaluation, write_evaluation
from fedrsclip_core.runs.shared_prompt import SharedPrompt
from fedrsclip_core.wire.messages import RoundRequest

if TYPE_CHECKING:
    from fedrsclip_core.learning.dual_prompt import Given


def keep_details(
    runtime: Runtime,
    request: RoundRequest,
    parts: Mapping[str, Any],
    logit_scale: float,
    log: SiteLog,
) -> None:
    """Write ``<home>/evaluations/<federation>/<run>/<client>.json``, for its owner only.

    A disk without room costs the details, not the client's answer.
    """
    name = runtime.site.client_name
    folder = paths.evaluations_dir(runtime.config.federation.name, request.run_name)
    found: Evaluation = {
        "format": FORMAT,
        "run": request.run_name,
        "client": name,
        "round": request.server_round,
        "class_names": list(runtime.class_names),
        "logit_scale": logit_scale,
        "parts": dict(parts),
    }
    try:
        write_evaluation(folder, found)
    except OSError as error:
        log.write(f"the details of the evaluation were not kept in {folder}: {error.strerror}")


def personal_classifier(
    runtime: Runtime,
    request: RoundRequest,
    state: ClientState,
    given: "Given",
    tuned: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    calibrated_factor: float | None = None,
) -> PersonalClassifier:
    """Return what this client classifies with: what a message brought, and the private side.

    Parameters
    ----------
    runtime : Runtime
        This client.
    request : RoundRequest
        With what is shared.
    state : ClientState
        The private side.
    given : Given
        What is not learned.
    tuned : tuple[NDArray[np.float32], NDArray[np.float32]] or None
        A private copy of the shared prompt that classifies alone, and its bias of the logits.
    calibrated_factor : float or None
        Fitted to the client's validation images.
    """
    config = runtime.config
    model, prompt = config.model, config.prompt
    shared = SharedPrompt(
        shared=request.shared,
        class_names=runtime.class_names,
        words=runtime.words,
        model=model.name,
        hub_id=model.hub_id or "",
        revision=model.revision or "",
        dtype=model.dtype,
        clip=runtime.files.digest,
        templates=tuple(prompt.templates),
        run=request.run_name,
        server_round=request.server_round,
        reading=runtime.reading,
        calibrated_factor=calibrated_factor,
    )
    return PersonalClassifier(
        federation=config.federation.name,
        client=runtime.site.client_name,
        prompt=shared,
        state=state,
        fusion=prompt.fusion,
        beta=prompt.beta,
        transport_mass=prompt.transport_mass,
        transport_eps=prompt.transport_eps,
        log_prior=given.log_prior,
        tuned=None if tuned is None else tuned[0],
        tuned_bias=None if tuned is None else tuned[1],
    )


def keep_classifier(runtime: Runtime, classifier: PersonalClassifier, log: SiteLog) -> None:
    """Write what the client classifies with beside its private files.

    A disk without room, or another's file in the place, costs the file, not the client's answer.
    """
    federation, run_name = classifier.federation, classifier.prompt.run
    name = classifier.client
    try:
        with open_store(federation, run_name, name, runtime.private_format, log.write) as store:
            store.keep(classifier)
    except (OSError, PrivateStoreError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        log.write(f"{CLASSIFIER} of run {run_name} was not kept: {why}")
