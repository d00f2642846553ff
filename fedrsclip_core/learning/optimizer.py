"""Optimizer steps by torch's own update functions, without torch's optimizer classes.

The classes import torch's compiler, which costs a second of CPU; in a deployment each message is
a new process and would pay it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from fedrsclip_core.config.schema import OptimizerConfig

_BETAS, _EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Leaf:
    """A tensor to train.

    Attributes
    ----------
    tensor : Tensor
        A leaf of the graph.
    lr : float
        Its learning rate.
    is_prompt : bool
        Whether ``optimizer.weight_decay`` is for it. A prompt decays towards zero, an offset's
        factors (as LoRA's do) towards the shared prompt; a fusion weight of zero would mean the
        shared prompt alone, which is no neutral place to be pulled to.
    """

    tensor: Tensor
    lr: float
    is_prompt: bool = True


class PromptOptimizer:
    """``sgd``, ``adam`` or ``adamw`` as in ``torch.optim``, each tensor with its own learning rate.

    Parameters
    ----------
    leaves : Sequence[Leaf]
        What is trained.
    config : OptimizerConfig
        Name, momentum and weight decay.
    """

    def __init__(self, leaves: Sequence[Leaf], config: OptimizerConfig) -> None:
        self._config = config
        self._slots = [_Slot(leaf) for leaf in leaves]

    def minimize(self, loss: Tensor, factor: float) -> None:
        """Take one step down the gradient of ``loss``, learning rates times ``factor``."""
        for slot in self._slots:
            slot.leaf.tensor.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for slot in self._slots:
                if slot.leaf.tensor.grad is not None:
                    self._update(slot, slot.leaf.tensor.grad, factor * slot.leaf.lr)

    def _update(self, slot: "_Slot", gradient: Tensor, lr: float) -> None:
        decay = self._config.weight_decay if slot.leaf.is_prompt else 0.0
        if self._config.name == "sgd":
            sgd(
                [slot.leaf.tensor],
                [gradient],
                slot.momentum,
                foreach=False,
                weight_decay=decay,
                momentum=self._config.momentum,
                lr=lr,
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )
            return
        update = adamw if self._config.name == "adamw" else adam
        update(
            [slot.leaf.tensor],
            [gradient],
            [slot.mean],
            [slot.square],
            [],
            [slot.steps],
            foreach=False,
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=lr,
            weight_decay=decay,
            eps=_EPS,
            maximize=False,
        )


class _Slot:
    """A tensor and what the update functions remember of it."""

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf
        self.momentum: list[Tensor | None] = [None]
        self.mean = torch.zeros_like(leaf.tensor)
        self.square = torch.zeros_like(leaf.tensor)
        self.steps = torch.tensor(0.0)
