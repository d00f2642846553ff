"""The steps equal those of torch's optimizer classes."""

import pytest
import torch

from fedrsclip_core.config.schema import OptimizerConfig
from fedrsclip_core.learning.optimizer import Leaf, PromptOptimizer

pytestmark = pytest.mark.unit

CLASSES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def leaves() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(4, 8, generator=generator) for _ in range(2)]
    return [draw.requires_grad_() for draw in draws]


def loss_of(tensors: list[torch.Tensor], step: int) -> torch.Tensor:
    loss = (tensors[0] * tensors[1]).square().sum() + tensors[0].sin().sum()
    return loss * (1 + step)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", CLASSES)
def test_steps_equal_torchs_own(name: str, decay: float) -> None:
    config = OptimizerConfig(name=name, momentum=0.9, weight_decay=decay)
    ours, theirs = leaves(), leaves()
    rates = (0.01, 0.003)
    optimizer = PromptOptimizer(list(map(Leaf, ours, rates)), config)
    options = {"momentum": 0.9} if name == "sgd" else {}
    groups = [{"params": [t], "lr": lr} for t, lr in zip(theirs, rates, strict=True)]
    reference = CLASSES[name](groups, weight_decay=decay, foreach=False, **options)
    for step in range(6):
        factor = 1 - step / 10
        optimizer.minimize(loss_of(ours, step), factor)
        for group, lr in zip(reference.param_groups, rates, strict=True):
            group["lr"] = factor * lr
        reference.zero_grad()
        loss_of(theirs, step).backward()
        reference.step()
        for mine, its in zip(ours, theirs, strict=True):
            assert torch.equal(mine, its)
    assert not torch.equal(ours[0], leaves()[0])


def test_a_tensor_without_gradient_stays() -> None:
    used, unused = leaves()
    before = unused.detach().clone()
    optimizer = PromptOptimizer([Leaf(used, 0.1), Leaf(unused, 0.1)], OptimizerConfig())
    optimizer.minimize(used.sum(), 1.0)
    assert torch.equal(unused, before)
