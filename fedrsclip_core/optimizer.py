"""Optimizer steps by torch's own update functions, without torch's optimizer classes.

The classes import torch's compiler, which costs a second of CPU; in a deployment each message is
a new process and would pay it again.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from fedrsclip_core.schema import OptimizerConfig

_BETAS, _EPS = (0.9, 0.999), 1e-8


class PromptOptimizer:
    """``sgd``, ``adam`` or ``adamw`` as in ``torch.optim``, each tensor with its own learning rate.

    Parameters
    ----------
    tensors : Sequence[tuple[Tensor, float]]
        Leaf tensors with their learning rates.
    config : OptimizerConfig
        Name, momentum and weight decay.
    """

    def __init__(self, tensors: Sequence[tuple[Tensor, float]], config: OptimizerConfig) -> None:
        self._config = config
        self._slots = [_Slot(tensor, lr) for tensor, lr in tensors]

    def minimize(self, loss: Tensor, factor: float) -> None:
        """Take one step down the gradient of ``loss``, learning rates times ``factor``."""
        for slot in self._slots:
            slot.tensor.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for slot in self._slots:
                if slot.tensor.grad is not None:
                    self._update(slot, slot.tensor.grad, factor * slot.lr)

    def _update(self, slot: "_Slot", gradient: Tensor, lr: float) -> None:
        decay = self._config.weight_decay
        if self._config.name == "sgd":
            sgd(
                [slot.tensor],
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
            [slot.tensor],
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

    def __init__(self, tensor: Tensor, lr: float) -> None:
        self.tensor = tensor
        self.lr = lr
        self.momentum: list[Tensor | None] = [None]
        self.mean = torch.zeros_like(tensor)
        self.square = torch.zeros_like(tensor)
        self.steps = torch.tensor(0.0)
