"""The transport plan against its constraints, other solvers and brute force."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from fedrsclip_core.clip.text_encoder import unit
from fedrsclip_core.learning.optimal_transport import Transport, transport_logits, transport_plan

pytestmark = pytest.mark.unit

MASSES = (0.5, 0.8, 0.97, 1.0)


def cosines(images: int = 3, prompts: int = 2, classes: int = 4, patches: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (images, prompts, classes, patches)
    return 0.6 * torch.rand(shape, generator=generator, dtype=torch.float64) - 0.2


@pytest.mark.parametrize("mass", MASSES)
@pytest.mark.parametrize("prompts", [1, 2, 3])
def test_marginals(mass: float, prompts: int) -> None:
    plan = transport_plan(cosines(prompts=prompts), Transport(mass, 0.1))
    assert plan.min() >= 0
    taken = plan.sum(dim=-1)  # (N, K, n_cls)
    assert torch.allclose(taken, torch.full_like(taken, mass / prompts), atol=1e-14)
    given = plan.sum(dim=1)  # (N, n_cls, V)
    assert given.max() <= (1 + 1e-5) / 12
    total = plan.sum(dim=(1, 3))
    assert torch.allclose(total, torch.full_like(total, mass), atol=1e-14)
    if mass == 1:
        assert torch.allclose(given, torch.full_like(given, 1 / 12), rtol=1e-5)
    else:
        assert given.min() < 0.8 / 12, "some patches stay out"


def sinkhorn(similarity: np.ndarray, eps: float) -> np.ndarray:
    """Balanced transport of one image and class (K, V), as in every textbook."""
    kernel = np.exp(similarity / eps)
    rows, columns = np.ones(len(kernel)), np.ones(kernel.shape[1])
    for _ in range(2000):
        rows = 1 / len(kernel) / (kernel @ columns)
        columns = 1 / kernel.shape[1] / (kernel.T @ rows)
    return rows[:, None] * kernel * columns


def test_mass_one_is_balanced_transport() -> None:
    similarity = cosines()
    plan = transport_plan(similarity, Transport(1.0, 0.1))
    for image, label in product(range(3), range(4)):
        expected = sinkhorn(similarity[image, :, label].numpy(), 0.1)
        assert np.abs(plan[image, :, label].numpy() - expected).max() < 1e-8


@pytest.mark.parametrize("mass", MASSES)
@pytest.mark.parametrize("eps", [0.1, 0.3])
def test_optimality_conditions(mass: float, eps: float) -> None:
    """T / exp(S / eps) factors into u for patches and w for prompts; u is below 1 at the bound."""
    similarity = cosines()
    plan = transport_plan(similarity, Transport(mass, eps, iterations=400))
    dual = plan.log() - similarity / eps  # log u + log w, (N, K, n_cls, V)
    between = dual[:, 0] - dual[:, 1]  # (N, n_cls, V): the patch cancels
    assert (between - between[..., :1]).abs().max() < 1e-7
    of_patch = dual[:, 0] - dual[:, 0].amax(dim=-1, keepdim=True)  # log u up to a constant
    bound = plan.sum(dim=1) > (1 - 1e-9) / 12
    if mass < 1:
        assert of_patch[~bound].abs().max() < 1e-7
    assert of_patch.max() == 0


def test_the_usual_iterations_have_converged() -> None:
    similarity = cosines(patches=64)
    for mass in MASSES:
        usual = transport_plan(similarity.float(), Transport(mass, 0.1))
        exact = transport_plan(similarity, Transport(mass, 0.1, iterations=1000))
        assert (usual - exact).abs().max() < 1e-5 / 64


def brute_force(similarity: np.ndarray, moved: int) -> float:
    """Best similarity when each of the K prompts gets ``moved`` whole patches."""
    num_prompts, num_patches = similarity.shape
    best = -np.inf
    for choice in product(range(num_prompts + 1), repeat=num_patches):  # the last: stays out
        if all(choice.count(k) == moved for k in range(num_prompts)):
            gained = sum(similarity[k, v] for v, k in enumerate(choice) if k < num_prompts)
            best = max(best, gained / num_patches)
    return best


@pytest.mark.parametrize("moved", [1, 2, 3])
def test_without_entropy_it_is_the_best_assignment(moved: int) -> None:
    """With equal masses, the linear programme's vertices move whole patches."""
    similarity = cosines(images=2, patches=6)
    plan = transport_plan(similarity, Transport(moved / 3, 0.004, iterations=4000))
    reached = (plan * similarity).sum(dim=(1, 3))  # (N, n_cls)
    for image, label in product(range(2), range(4)):
        best = brute_force(similarity[image, :, label].numpy(), moved)
        assert float(reached[image, label]) == pytest.approx(best, abs=2e-3)


def test_much_entropy_spreads_evenly() -> None:
    plan = transport_plan(cosines(), Transport(0.8, 1e4))
    assert torch.allclose(plan, torch.full_like(plan, 0.8 / 2 / 12), rtol=1e-3)


def test_the_order_of_images_prompts_classes_and_patches_means_nothing() -> None:
    similarity, settings = cosines(), Transport(0.8, 0.1)
    plan = transport_plan(similarity, settings)
    for dim, order in (
        (0, [2, 0, 1]),
        (1, [1, 0]),
        (2, [3, 1, 0, 2]),
        (3, [*range(6, 12), *range(6)]),
    ):
        index = torch.tensor(order)
        moved = transport_plan(similarity.index_select(dim, index), settings)
        assert torch.allclose(moved, plan.index_select(dim, index), atol=1e-12)


def test_an_image_alone_has_the_plan_that_it_has_in_a_batch() -> None:
    similarity, settings = cosines().float(), Transport(0.9, 0.1)
    plan = transport_plan(similarity, settings)
    for image in range(3):
        alone = transport_plan(similarity[image : image + 1], settings)
        assert torch.equal(alone[0], plan[image])


def patches_and_prompts() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    patches = torch.randn(5, 9, 6, generator=generator, dtype=torch.float64)
    prompts = torch.randn(2, 3, 6, generator=generator, dtype=torch.float64)
    return unit(patches), unit(prompts)


def test_logits_are_gamma_minus_the_cost_over_the_temperature() -> None:
    patches, prompts = patches_and_prompts()
    settings = Transport(0.8, 0.1)
    scores = transport_logits(patches, prompts, 10.0, settings)
    for image, label in product(range(5), range(3)):
        similarity = prompts[:, label] @ patches[image].T  # (K, V)
        plan = transport_plan(similarity[None, :, None], settings)[0, :, 0]  # (K, V)
        cost = float((plan * (1 - similarity)).sum())
        assert float(scores[image, label]) == pytest.approx(10 * (0.8 - cost), abs=1e-10)


def test_equal_prompts_and_equal_patches_are_the_pooled_classifier() -> None:
    patches, prompts = patches_and_prompts()
    patches = patches[:, :1].expand(-1, 9, -1)
    prompts = prompts[:1].expand(2, -1, -1)
    scores = transport_logits(patches, prompts, 10.0, Transport(1.0, 0.1))
    assert torch.allclose(scores, 10 * patches[:, 0] @ prompts[0].T, atol=1e-10)


def test_the_gradient_reaches_every_prompt_but_not_the_plan() -> None:
    patches, prompts = patches_and_prompts()
    prompts.requires_grad_()
    settings = Transport(0.8, 0.1)
    (gradient,) = torch.autograd.grad(
        transport_logits(patches, prompts, 1.0, settings).sum(), prompts
    )
    assert gradient.abs().amax(dim=-1).min() > 1e-3  # (K, n_cls)
    similarity = torch.einsum("nvd,kcd->nkcv", patches, prompts)
    plan = transport_plan(similarity, settings)
    assert not plan.requires_grad
    # With the plan as a constant, d <T, S> / d prompt is the patches that it was given.
    assert torch.allclose(gradient, torch.einsum("nkcv,nvd->kcd", plan, patches), atol=1e-10)
