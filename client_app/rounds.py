"""What a client does in a train or evaluate message."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from flwr.app import Metadata
from numpy.typing import NDArray

from client_app.encoders import release_image_encoder
from client_app.failures import LateError, NonFiniteError
from client_app.features import PARTS
from client_app.home_details import keep_classifier, keep_details, personal_classifier
from client_app.private_store import PrivateStore, open_store, start_from
from client_app.runtime import Runtime
from client_app.site_log import SiteLog
from fedrsclip_core.clip.earlier import earlier_fingerprint
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.errors import ConfigError, WireError
from fedrsclip_core.learning.calibration import cross_entropies, fit_logit_scale
from fedrsclip_core.learning.classifier import Classifier
from fedrsclip_core.learning.diagnostics import describe
from fedrsclip_core.learning.prompts import ClientState, initial_offset, initial_weight
from fedrsclip_core.wire.messages import (
    CALIBRATION_FACTORS,
    EVAL_PARTS,
    FEWEST_CALIBRATING,
    RoundReply,
    RoundRequest,
)

LAST_ROUND = 999_999
_SAME = 1e-3
"""Prompts closer than this (max abs) are one prompt: sending the shared would send the private."""


@dataclass(frozen=True)
class Deadline:
    """The end of a message's time to live, by the wall clock that Flower's metadata uses."""

    at: float
    now: Callable[[], float] = time.time

    @classmethod
    def of(cls, metadata: Metadata) -> "Deadline":
        """Read it from a message."""
        return cls(metadata.created_at + metadata.ttl)

    def check(self, before: str) -> None:
        """Raise :class:`LateError` if it is over."""
        late = self.now() - self.at
        if late > 0:
            raise LateError(
                f"the message's time was over {late:.1f} s ago, {before}: nothing was written; "
                "raise federation.round_timeout if this site is slow, and check its clock"
            )


def train(runtime: Runtime, request: RoundRequest, deadline: Deadline, log: SiteLog) -> RoundReply:
    """Train both sides, evaluate what had arrived, store the private one.

    Parameters
    ----------
    runtime : Runtime
        This client.
    request : RoundRequest
        The checked message.
    deadline : Deadline
        After it nothing is trained or written.
    log : SiteLog
        Takes a line on the result.

    Raises
    ------
    LateError, NonFiniteError, FedRSCLIPError
        With nothing written.
    """
    from fedrsclip_core.learning.evaluation import by_mode
    from fedrsclip_core.learning.training import train_round

    config, start = runtime.config, time.perf_counter()
    _check_round(request, first=1)
    if not config.prompt.has_shared and not config.prompt.has_private:
        raise WireError("a train message arrived but the method has nothing to train")
    deadline.check("before training")
    sets = _feature_sets(runtime, log)
    with _private_store(runtime, request.run_name, log) as store:
        state = _stored_or_start(runtime, store, request.server_round - 1, log)
        encoder, given = runtime.text.encoder, runtime.given(log)
        before_steps = time.perf_counter()
        outcome = train_round(
            encoder,
            request.shared,
            state,
            runtime.statistics(log),
            config,
            server_round=request.server_round,
            client_name=runtime.site.client_name,
            given=given,
            proximal_mu=request.proximal_mu,
        )
        in_steps = time.perf_counter() - before_steps
        _check_finite(outcome.losses, *outcome.shared.values(), *vars(outcome.state).values())
        classifiers = by_mode(outcome.received, given.template, encoder.logit_scale)
        counts = _counted(runtime, classifiers, sets, log)
        deadline.check("after training")
        if store is not None:
            beside = personal_classifier(runtime, request, outcome.state, given)
            store.save(outcome.state, request.server_round, beside)
    seconds = time.perf_counter() - start
    log.write(
        f"run {request.run_name}, round {request.server_round}: {outcome.num_steps} steps in "
        f"{in_steps:.3f} of {seconds:.3f} s, loss {outcome.losses['loss']:.4f}"
    )
    return replace(
        counts,
        seconds=seconds,
        shared=outcome.shared,
        num_steps=outcome.num_steps,
        losses=outcome.losses,
    )


def evaluate(runtime: Runtime, request: RoundRequest, log: SiteLog) -> RoundReply:
    """Count correct answers of the received shared side with the stored private one.

    The final evaluation with ``prompt.finetune_epochs`` first tunes a private copy of the shared
    prompt; ``personalized`` then means that copy. It also keeps at home what it has classified
    with, and how well.
    """
    from fedrsclip_core.learning.evaluation import classifiers as both_sides
    from fedrsclip_core.learning.evaluation import tuned_classifier

    start = time.perf_counter()
    _check_round(request, first=0)
    sets = _feature_sets(runtime, log)
    with _private_store(runtime, request.run_name, log) as store:
        state = _stored_or_start(runtime, store, request.server_round, log)
    encoder, given, prompt = runtime.text.encoder, runtime.given(log), runtime.config.prompt
    classifiers = both_sides(encoder, request.shared, state, prompt, given)
    tuned = _tuned(runtime, request, log) if request.final and prompt.finetune_epochs else None
    if tuned is not None:
        classifiers["personalized"] = tuned_classifier(encoder, *tuned, given)
    counts = _counted(runtime, classifiers, sets, log)
    if request.final:
        fitted = _fitted_factor(classifiers.get("personalized"), sets["val"], encoder.logit_scale)
        _keep_details(runtime, request, classifiers, sets, fitted, log)
        if "personalized" in classifiers:
            kept = personal_classifier(runtime, request, state, given, tuned, fitted)
            keep_classifier(runtime, kept, log)
        sums = _cross_entropies(classifiers.get("global"), sets["val"], encoder.logit_scale)
        counts = replace(counts, cross_entropies=sums)
    return replace(counts, seconds=time.perf_counter() - start)


def _check_round(request: RoundRequest, *, first: int) -> None:
    if not first <= request.server_round <= LAST_ROUND:
        raise WireError(f"server-round is {request.server_round}")


def _feature_sets(runtime: Runtime, log: SiteLog) -> dict[str, FeatureSet]:
    sets = {part: runtime.features(part, log) for part in PARTS}
    release_image_encoder()
    return sets


@contextmanager
def _private_store(runtime: Runtime, run_name: str, log: SiteLog) -> Iterator[PrivateStore | None]:
    """Open the private store, if the method keeps something private."""
    if not runtime.config.prompt.has_private:
        yield None
        return
    with open_store(
        runtime.config.federation.name,
        run_name,
        runtime.site.client_name,
        runtime.private_format,
        log.write,
        earlier_clip=partial(earlier_fingerprint, runtime.files.folder),
        set_aside=runtime.config.run.private_aside,
    ) as store:
        yield store


def _stored_or_start(
    runtime: Runtime, store: PrivateStore | None, before_round: int, log: SiteLog
) -> ClientState:
    """Return the newest stored state up to a round, else the start that the configuration names."""
    if store is None:
        return ClientState(None)
    state = store.load(before_round)
    return start_state(runtime, log) if state is None else state


def start_state(runtime: Runtime, log: SiteLog) -> ClientState:
    """Return the private side before the first round, as the configuration names it.

    Raises
    ------
    ConfigError
        If the start does not fit ``prompt.n_ctx``, is the shared prompt's too, or the run to
        start from has none that fits.
    """
    prompt, name = runtime.config.prompt, runtime.site.client_name
    weight = initial_weight(runtime.private_format.fusion, prompt.beta, len(runtime.words))
    source = runtime.config.run.private_init_from
    if source is not None:
        federation = runtime.config.federation.name
        earlier = partial(earlier_fingerprint, runtime.files.folder)
        state = start_from(federation, source, name, runtime.private_format, earlier)
        log.write(f"the private prompt starts from run {source}")
        return state if state.weight is not None else replace(state, weight=weight)
    offsets = None
    if prompt.private_offsets:
        offsets = np.zeros((len(runtime.words), runtime.files.dim), dtype=np.float32)
    if not prompt.private:
        return ClientState(None, weight, class_offsets=offsets)
    if prompt.private_rank is None:
        return ClientState(_own_prompt(runtime), weight, class_offsets=offsets)
    key = ("private", runtime.config.seed, name)
    u, v = initial_offset(prompt.n_ctx, runtime.files.width, prompt.private_rank, *key)
    return ClientState(None, weight, u, v, offsets)


def _own_prompt(runtime: Runtime) -> NDArray[np.float32]:
    """Start the private prompt ``(n_ctx, width)``, which must not be the shared one."""
    prompt, seed = runtime.config.prompt, runtime.config.seed
    private = runtime.start_prompt(prompt.private_init, "private", seed, runtime.site.client_name)
    if prompt.shared:
        shared = runtime.start_prompt(prompt.shared_init, "shared", seed)
        if np.abs(private - shared).max() < _SAME:
            raise ConfigError(
                f"prompt.private_init and prompt.shared_init are both {prompt.private_init!r}: "
                "equal prompts stay equal, and sending the shared one would send the private one; "
                "set prompt.private_init=random or other words"
            )
    return private


def _tuned(
    runtime: Runtime, request: RoundRequest, log: SiteLog
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Tune a private copy of the shared prompt: the copy, and a bias of each class's logit."""
    from fedrsclip_core.learning.training import finetune

    shared, name = request.shared[SHARED_PROMPT], runtime.site.client_name
    data = runtime.features("train", log)
    tuned, bias = finetune(runtime.text.encoder, shared, data, runtime.config, client_name=name)
    _check_finite({}, tuned, bias)
    return tuned, bias


def _counted(
    runtime: Runtime,
    classifiers: Mapping[str, Classifier],
    sets: Mapping[str, FeatureSet],
    log: SiteLog,
) -> RoundReply:
    """Classify val and test in every mode; a reply without training."""
    from fedrsclip_core.learning.evaluation import count_correct

    parts = {part: sets[part] for part in EVAL_PARTS}
    counts = count_correct(classifiers, parts, runtime.statistics(log).own_classes)
    return RoundReply(
        num_examples=len(sets["train"]), seconds=0.0, correct=counts.correct, total=counts.total
    )


def _keep_details(
    runtime: Runtime,
    request: RoundRequest,
    classifiers: Mapping[str, Classifier],
    sets: Mapping[str, FeatureSet],
    fitted: float | None,
    log: SiteLog,
) -> None:
    own_classes, scale = runtime.statistics(log).own_classes, runtime.text.encoder.logit_scale
    calibrated = scale if fitted is None else fitted * scale
    parts = {part: sets[part] for part in EVAL_PARTS}
    details = describe(classifiers, parts, own_classes, scale, calibrated)
    keep_details(runtime, request, details, calibrated, log)


def _fitted_factor(
    personalized: Classifier | None, val: FeatureSet, logit_scale: float
) -> float | None:
    """Return what fits the confidences to the validation images, if there are any."""
    if personalized is None or not len(val):
        return None
    scores = personalized.similarities(val.features, val.patches)
    return fit_logit_scale(scores, val.labels, logit_scale) / logit_scale


def _cross_entropies(
    shared: Classifier | None, val: FeatureSet, logit_scale: float
) -> tuple[float, ...]:
    """Return what the server needs to fit the global classifier's temperature."""
    if shared is None or len(val) < FEWEST_CALIBRATING:
        return ()
    scores = shared.similarities(val.features, val.patches)
    return tuple(cross_entropies(scores, val.labels, logit_scale, CALIBRATION_FACTORS))


def _check_finite(losses: Mapping[str, float], *arrays: object) -> None:
    finite = all(math.isfinite(value) for value in losses.values()) and all(
        np.isfinite(array).all() for array in arrays if isinstance(array, np.ndarray)
    )
    if not finite:
        raise NonFiniteError(
            "training gave NaN or infinity, nothing was written: lower optimizer.lr"
        )
