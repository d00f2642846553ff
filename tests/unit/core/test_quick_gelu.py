import pytest
import torch
from torch import Tensor

from fedrsclip_core.clip.quick_gelu import quick_gelu

pytestmark = pytest.mark.unit


def plain(tensor: Tensor) -> Tensor:
    return tensor * torch.sigmoid(1.702 * tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_values_and_gradients_have_the_bits_of_the_plain_expression(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    start = 4 * torch.randn(3, 50, 64, generator=generator, dtype=torch.float64).to(dtype)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    grad = torch.randn(start.shape, generator=generator, dtype=torch.float64).to(dtype)
    values, expected = quick_gelu(ours), plain(theirs)
    values.backward(grad)
    expected.backward(grad)
    assert torch.equal(values, expected)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)
    assert torch.equal(start, ours.detach())


def test_only_its_input_is_kept_for_the_gradient() -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    start = torch.randn(10, 10, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        quick_gelu(start)
    assert [tensor.data_ptr() for tensor in kept] == [start.data_ptr()]
