"""Local training on cached features: a few optimizer steps on a few kilobytes of prompts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedrsclip_core.clip.text_encoder import PackedTextEncoder
from fedrsclip_core.config.schema import Config, OptimizerConfig, PromptConfig
from fedrsclip_core.data.featureset import FeatureSet
from fedrsclip_core.learning.classifier import logits, private_weight, unit
from fedrsclip_core.learning.losses import TextFeatures, combine, loss_terms, total_loss
from fedrsclip_core.learning.optimal_transport import Transport
from fedrsclip_core.learning.optimizer import Leaf, PromptOptimizer
from fedrsclip_core.learning.prompts import ClientState
from fedrsclip_core.runs.fileio import sha256_of


@dataclass(frozen=True)
class TrainOutcome:
    """What one round of local training gives.

    Attributes
    ----------
    shared : NDArray[np.float32] or None
        The trained shared prompt ``(n_ctx, width)``, to be sent.
    state : ClientState
        The trained private part, to be stored.
    losses : dict[str, float]
        Means over the steps, by the names of the wire contract.
    num_steps : int
        Optimizer steps taken.
    received : TextFeatures
        Text features of the prompts as they were before the first step, which computes them
        anyway: the evaluation of what arrived needs no forward pass of its own.
    """

    shared: NDArray[np.float32] | None
    state: ClientState
    losses: dict[str, float]
    num_steps: int
    received: TextFeatures


def train_round(
    encoder: PackedTextEncoder,
    shared: NDArray[np.float32] | None,
    state: ClientState,
    data: FeatureSet,
    config: Config,
    *,
    server_round: int,
    client_name: str,
    proximal_mu: float = 0.0,
    template: NDArray[np.float32] | None = None,
) -> TrainOutcome:
    """Train both prompts (and the gate) for ``optimizer.local_epochs`` over ``data``.

    Parameters
    ----------
    encoder : PackedTextEncoder
        The frozen text encoder with the federation's classes.
    shared : NDArray[np.float32] or None
        The shared prompt as received, ``(n_ctx, width)``.
    state : ClientState
        The private part as stored.
    data : FeatureSet
        The client's training part.
    config : Config
        The run's configuration.
    server_round : int
        From 1; the learning rate and the batch order depend on it.
    client_name : str
        The batch order depends on it.
    proximal_mu : float
        FedProx's weight of ``||P_s - received||^2 / 2`` (Li et al., MLSys 2020).
    template : NDArray[np.float32] or None
        Unit text features of the hand-written template ``(n_cls, dim)``; needed if
        ``loss.lambda_contrast`` is above 0.

    Raises
    ------
    ValueError
        If ``data`` is empty.
    """
    if not len(data):
        raise ValueError("no image to train on")
    trained = _Trained(encoder, shared, state)
    optimizer, factor = _optimizer(trained, config.optimizer), _schedule(config, server_round)
    terms_of = _Terms(encoder, trained, data, config, template)
    start = None if trained.shared is None else trained.shared.detach().clone()
    received: TextFeatures | None = None
    sums: dict[str, Tensor] = {}
    num_steps = 0
    for batch in batches(len(data), config, server_round, client_name):
        text = trained.text(config.prompt)
        received = received or text.detached()
        terms = terms_of(batch, text)
        loss = total_loss(terms, config.loss)
        sums = _add(sums, {"loss": loss, **terms})
        if proximal_mu and trained.shared is not None and start is not None:
            loss = loss + 0.5 * proximal_mu * (trained.shared - start).square().sum()
        optimizer.minimize(loss, factor)
        num_steps += 1
    assert received is not None  # an epoch has a batch
    losses = {name: float(value) / num_steps for name, value in sums.items()}
    return TrainOutcome(_array(trained.shared), trained.state(), losses, num_steps, received)


def finetune(
    encoder: PackedTextEncoder,
    shared: NDArray[np.float32],
    data: FeatureSet,
    config: Config,
    *,
    client_name: str,
) -> ClientState:
    """Train a private copy of the shared prompt by cross entropy (the ``promptfl_ft`` control).

    Takes ``prompt.finetune_epochs`` epochs at ``prompt.finetune_lr`` (default: the optimizer's),
    cosine over the epochs.
    """
    copy = _Trained(encoder, None, ClientState(shared))
    assert copy.private is not None
    lr = config.prompt.finetune_lr or config.optimizer.lr
    optimizer = PromptOptimizer([Leaf(copy.private, lr)], config.optimizer)
    features, labels = _tensors(data, encoder)
    epochs = config.prompt.finetune_epochs
    for epoch in range(1, epochs + 1):
        for batch in batches(len(data), config, -epoch, client_name, epochs=1):
            text = copy.text(config.prompt)
            scores = logits(features[batch], text.fused, encoder.logit_scale)
            loss = functional.cross_entropy(scores, labels[batch])
            optimizer.minimize(loss, cosine(epoch, epochs))
    return copy.state()


def cosine(step: int, steps: int) -> float:
    """Cosine decay from 1 at step 1 towards 0 after ``steps``."""
    return 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))


class _Trained:
    """The leaf tensors of one message, and their text features."""

    def __init__(
        self, encoder: PackedTextEncoder, shared: NDArray[np.float32] | None, state: ClientState
    ) -> None:
        def leaf(value: NDArray[np.float32] | None) -> Tensor | None:
            if value is None:
                return None
            tensor = torch.tensor(value, device=encoder.device, dtype=encoder.dtype)
            return tensor.requires_grad_()

        self._encoder = encoder
        self.shared = leaf(shared)
        self.private = leaf(state.private)
        self.gate = leaf(state.gate)
        self.offset_u = leaf(state.offset_u)
        self.offset_v = leaf(state.offset_v)

    def text(self, prompt: PromptConfig) -> TextFeatures:
        """Encode both prompts in one batch."""
        private_prompt = self._private_prompt()
        present = [p for p in (self.shared, private_prompt) if p is not None]
        encoded = list(unit(self._encoder(torch.stack(present))))  # each (n_cls, dim)
        shared = None if self.shared is None else encoded.pop(0)
        private = None if private_prompt is None else encoded.pop(0)
        weight = private_weight(self.gate, prompt.fusion, prompt.beta)
        return combine(shared, private, weight)

    def _private_prompt(self) -> Tensor | None:
        """As :meth:`ClientState.private_prompt`, for gradients."""
        if self.shared is None or self.offset_u is None or self.offset_v is None:
            return self.private
        return self.shared + self.offset_u @ self.offset_v  # (n_ctx, width)

    def state(self) -> ClientState:
        return ClientState(
            _array(self.private),
            _array(self.gate),
            _array(self.offset_u),
            _array(self.offset_v),
        )


class _Terms:
    """The loss terms of one message's batches; what the batches have in common is made once."""

    def __init__(
        self,
        encoder: PackedTextEncoder,
        trained: _Trained,
        data: FeatureSet,
        config: Config,
        template: NDArray[np.float32] | None,
    ) -> None:
        self._encoder = encoder
        self._config = config
        self._features, self._labels = _tensors(data, encoder)
        self._patches = None if data.patches is None else torch.from_numpy(data.patches)
        self._transport = Transport.of(config.prompt)
        self._anchor = _received_anchor(encoder, trained, config)
        self._own_classes = torch.zeros(encoder.n_cls, dtype=torch.bool, device=encoder.device)
        self._own_classes[self._labels] = True
        self._template: Tensor | None = None
        if config.loss.lambda_contrast and template is not None:
            self._template = torch.tensor(template, device=encoder.device, dtype=encoder.dtype)

    def __call__(self, batch: Tensor, text: TextFeatures) -> dict[str, Tensor]:
        patches = None
        if self._patches is not None:
            patches = self._patches[batch].to(self._encoder.device, self._encoder.dtype)
        return loss_terms(
            self._features[batch],
            self._labels[batch],
            text,
            self._encoder.logit_scale,
            self._config.loss,
            anchor=self._anchor,
            own_classes=self._own_classes,
            template=self._template,
            patches=patches,
            transport=self._transport,
        )


def _received_anchor(
    encoder: PackedTextEncoder, trained: _Trained, config: Config
) -> Tensor | None:
    """Text features of the shared prompt as received, if the alignment is to them."""
    if config.loss.dpac_anchor != "received" or not config.loss.lambda_dpac:
        return None
    if trained.shared is None:
        return None
    with torch.no_grad():
        return unit(encoder(trained.shared[None]))[0]  # (n_cls, dim)


def _schedule(config: Config, server_round: int) -> float:
    if config.optimizer.schedule == "constant":
        return 1.0
    return cosine(server_round, max(config.federation.num_rounds, server_round))


def _optimizer(trained: _Trained, config: OptimizerConfig) -> PromptOptimizer:
    private_lr = config.lr if config.private_lr is None else config.private_lr
    leaves = [
        Leaf(tensor, lr, is_prompt)
        for tensor, lr, is_prompt in (
            (trained.shared, config.lr, True),
            (trained.private, private_lr, True),
            (trained.offset_u, private_lr, True),
            (trained.offset_v, private_lr, True),
            (trained.gate, private_lr, False),
        )
        if tensor is not None
    ]
    return PromptOptimizer(leaves, config)


def batches(
    size: int, config: Config, server_round: int, client_name: str, *, epochs: int | None = None
) -> Iterator[Tensor]:
    """Yield index batches; their order is a function of (seed, client, round) alone."""
    entropy = int(sha256_of("batches", str(config.seed), client_name, str(server_round))[:32], 16)
    generator = np.random.default_rng(entropy)
    for _ in range(config.optimizer.local_epochs if epochs is None else epochs):
        order = torch.from_numpy(generator.permutation(size))
        yield from torch.split(order, config.optimizer.batch_size)


def _tensors(data: FeatureSet, encoder: PackedTextEncoder) -> tuple[Tensor, Tensor]:
    features = torch.from_numpy(data.features).to(device=encoder.device, dtype=encoder.dtype)
    return features, torch.from_numpy(data.labels).to(encoder.device)


def _add(sums: dict[str, Tensor], values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: sums.get(name, 0) + value.detach() for name, value in values.items()}


def _array(tensor: Tensor | None) -> NDArray[np.float32] | None:
    if tensor is None:
        return None
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float32).copy()
