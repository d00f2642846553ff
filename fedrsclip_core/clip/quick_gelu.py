"""CLIP's activation, without an intermediate result that autograd would keep for every layer."""

from typing import Any

import torch
from torch import Tensor, nn

_SLOPE = 1.702


def quick_gelu(tensor: Tensor) -> Tensor:
    """Return ``x * sigmoid(1.702 x)``, as CLIP's ``hidden_act`` names it.

    Values and gradients have the bits of the plain expression. That one keeps ``x`` and the
    sigmoid, the two largest tensors of a layer, until the gradient has passed; this one keeps
    ``x`` and computes the sigmoid again.

    Parameters
    ----------
    tensor : Tensor
        Of any shape.
    """
    result: Tensor = _QuickGelu.apply(tensor)  # type: ignore[no-untyped-call]
    return result


class QuickGelu(nn.Module):
    """The same without a gradient, in a model of HuggingFace's: one new tensor instead of three."""

    def forward(self, tensor: Tensor) -> Tensor:
        """Return ``x * sigmoid(1.702 x)``."""
        return _value(tensor)


def _value(tensor: Tensor) -> Tensor:
    return (tensor * _SLOPE).sigmoid_().mul_(tensor)


class _QuickGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.save_for_backward(tensor)
        return _value(tensor)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        tensor: Tensor = ctx.saved_tensors[0]
        gate = (tensor * _SLOPE).sigmoid_()
        inner = torch.ops.aten.sigmoid_backward(grad * tensor, gate).mul_(_SLOPE)
        return (grad * gate).add_(inner)
