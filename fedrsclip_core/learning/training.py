"""Local training on cached features: a few optimizer steps on a few kilobytes of prompts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedrsclip_core.clip.text_encoder import PackedTextEncoder, unit
from fedrsclip_core.config.schema import Config, OptimizerConfig
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT, SharedTensors
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.learning.class_statistics import ClassStatistics
from fedrsclip_core.learning.dual_prompt import DualPrompt, Given, TextFeatures, logits
from fedrsclip_core.learning.losses import Batch, ClassTargets, PromptLoss
from fedrsclip_core.learning.optimizer import Leaf, PromptOptimizer
from fedrsclip_core.learning.prompts import ClientState
from fedrsclip_core.runs.fileio import sha256_of


@dataclass(frozen=True)
class TrainOutcome:
    """What one round of local training gives.

    Attributes
    ----------
    shared : SharedTensors
        The trained shared tensors, to be sent.
    state : ClientState
        The trained private side, to be stored.
    losses : dict[str, float]
        Means over the steps, by the names of the wire contract.
    num_steps : int
        Optimizer steps taken.
    received : TextFeatures
        Text features as they were before the first step, which computes them
        anyway: the evaluation of what arrived needs no forward pass of its own.
    """

    shared: SharedTensors
    state: ClientState
    losses: dict[str, float]
    num_steps: int
    received: TextFeatures


def train_round(
    encoder: PackedTextEncoder,
    shared: SharedTensors,
    state: ClientState,
    statistics: ClassStatistics,
    config: Config,
    *,
    server_round: int,
    client_name: str,
    given: Given,
    proximal_mu: float = 0.0,
) -> TrainOutcome:
    """Train prompts, offsets and fusion weights for ``optimizer.local_epochs`` over the images.

    Parameters
    ----------
    encoder : PackedTextEncoder
        The frozen text encoder with the federation's classes.
    shared : SharedTensors
        The shared tensors as received.
    state : ClientState
        The private side as stored.
    statistics : ClassStatistics
        The client's training part and what it says of the classes.
    config : Config
        The run's configuration.
    server_round : int
        From 1; the learning rate and the batch order depend on it.
    client_name : str
        The batch order depends on it.
    given : Given
        What is not learned.
    proximal_mu : float
        FedProx's weight of ``||shared - received||^2 / 2`` (Li et al., MLSys 2020).

    Raises
    ------
    ValueError
        If there is no image, or nothing to train.
    """
    data = statistics.data
    if not len(data):
        raise ValueError("no image to train on")
    prompts = DualPrompt(
        encoder,
        shared,
        state,
        config.prompt,
        given,
        decoupled=config.loss.shared_gradient == "decoupled",
    )
    images = _Images(data, encoder)
    loss_of = _loss_of(encoder, statistics, config, given.template)
    optimizer = PromptOptimizer(_leaves(prompts, config.optimizer), config.optimizer)
    factor = _schedule(config, server_round)
    start = {name: tensor.detach().clone() for name, tensor in prompts.shared.items()}
    received: TextFeatures | None = None
    sums: dict[str, Tensor] = {}
    num_steps = 0
    for rows in batches(len(data), config, server_round, client_name):
        text = prompts.text_features()
        if text is None:
            raise ValueError("nothing to train")
        received = received or text.detached()
        terms = loss_of.terms(images.batch(rows), text)
        loss = loss_of.total(terms)
        sums = _add(sums, {"loss": loss, **terms})
        if proximal_mu:
            for name, tensor in prompts.shared.items():
                loss = loss + 0.5 * proximal_mu * (tensor - start[name]).square().sum()
        optimizer.minimize(loss, factor)
        num_steps += 1
    assert received is not None  # an epoch has a batch
    losses = {name: float(value) / num_steps for name, value in sums.items()}
    return TrainOutcome(prompts.shared_arrays(), prompts.state(), losses, num_steps, received)


def finetune(
    encoder: PackedTextEncoder,
    shared: NDArray[np.float32],
    data: FeatureSet,
    config: Config,
    *,
    client_name: str,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Train a private copy of the shared prompt by cross entropy (the ``promptfl_ft`` control).

    Takes ``prompt.finetune_epochs`` epochs at ``prompt.finetune_lr`` (default: the optimizer's),
    cosine over the epochs.

    Returns
    -------
    tuple[NDArray[np.float32], NDArray[np.float32]]
        The copy ``(n_ctx, width)`` and a bias of each class's logit ``(n_cls,)``, zero unless
        ``prompt.finetune_bias``.
    """
    copy = torch.tensor(shared, device=encoder.device, dtype=encoder.dtype).requires_grad_()
    bias = copy.new_zeros(encoder.n_cls).requires_grad_()
    lr = config.prompt.finetune_lr or config.optimizer.lr
    leaves = [Leaf(copy, lr), Leaf(bias, lr, is_prompt=False)]
    optimizer = PromptOptimizer(leaves[: 1 + config.prompt.finetune_bias], config.optimizer)
    images = _Images(data, encoder)
    epochs = config.prompt.finetune_epochs
    for epoch in range(1, epochs + 1):
        for rows in batches(len(data), config, -epoch, client_name, epochs=1):
            batch = images.batch(rows)
            text = unit(encoder(copy[None]))[0]  # (n_cls, dim)
            scores = logits(batch.features, text, encoder.logit_scale) + bias
            loss = functional.cross_entropy(scores, batch.labels)
            optimizer.minimize(loss, cosine(epoch, epochs))
    return _as_array(copy), _as_array(bias)


def cosine(step: int, steps: int) -> float:
    """Cosine decay from 1 at step 1 towards 0 after ``steps``."""
    return 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))


def batches(
    size: int, config: Config, server_round: int, client_name: str, *, epochs: int | None = None
) -> Iterator[Tensor]:
    """Yield index batches; their order is a function of (seed, client, round) alone."""
    entropy = int(sha256_of("batches", str(config.seed), client_name, str(server_round))[:32], 16)
    generator = np.random.default_rng(entropy)
    for _ in range(config.optimizer.local_epochs if epochs is None else epochs):
        order = torch.from_numpy(generator.permutation(size))
        yield from torch.split(order, config.optimizer.batch_size)


class _Images:
    """A client's training part on the text encoder's device; patches go there batch by batch."""

    def __init__(self, data: FeatureSet, encoder: PackedTextEncoder) -> None:
        features = torch.from_numpy(data.features)
        self._features = features.to(device=encoder.device, dtype=encoder.dtype)
        self.labels = torch.from_numpy(data.labels).to(encoder.device)
        self._patches = None if data.patches is None else torch.from_numpy(data.patches)

    def batch(self, rows: Tensor) -> Batch:
        features = self._features[rows]
        patches = None
        if self._patches is not None:
            patches = self._patches[rows].to(features.device, features.dtype)
        return Batch(features, self.labels[rows], patches)


def _loss_of(
    encoder: PackedTextEncoder,
    statistics: ClassStatistics,
    config: Config,
    template: NDArray[np.float32],
) -> PromptLoss:
    def constant(value: NDArray[np.float32]) -> Tensor:
        return torch.tensor(value, device=encoder.device, dtype=encoder.dtype)

    loss = config.loss
    classes = None
    if loss.lambda_dpac or loss.lambda_cmfac:
        whitened = loss.lambda_cmfac and loss.cmfac_form == "whitened"
        directions = statistics.directions if whitened else np.zeros_like(template)
        counts = torch.from_numpy(statistics.counts).to(encoder.device)
        classes = ClassTargets(counts, constant(directions), statistics.gate)
    return PromptLoss(loss, encoder.logit_scale, classes, constant(template))


def _leaves(prompts: DualPrompt, config: OptimizerConfig) -> list[Leaf]:
    def either(lr: float | None, otherwise: float) -> float:
        return otherwise if lr is None else lr

    private_lr = either(config.private_lr, config.lr)
    offsets_lr = either(config.offsets_lr, config.lr)
    leaves = [
        Leaf(tensor, config.lr if name == SHARED_PROMPT else offsets_lr)
        for name, tensor in prompts.shared.items()
    ]
    private = (
        (prompts.private, private_lr, True),
        (prompts.offset_u, private_lr, True),
        (prompts.offset_v, private_lr, True),
        (prompts.class_offsets, either(config.private_offsets_lr, private_lr), True),
        (prompts.weight, private_lr, False),
    )
    leaves += [Leaf(tensor, lr, decays) for tensor, lr, decays in private if tensor is not None]
    return leaves


def _schedule(config: Config, server_round: int) -> float:
    if config.optimizer.schedule == "constant":
        return 1.0
    return cosine(server_round, max(config.federation.num_rounds, server_round))


def _as_array(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def _add(sums: dict[str, Tensor], values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: sums.get(name, 0) + value.detach() for name, value in values.items()}
