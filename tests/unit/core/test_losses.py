"""Each loss term against numbers worked out by hand, and where its gradient goes."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedrsclip_core.clip.text_encoder import unit
from fedrsclip_core.config.schema import LossConfig, PromptConfig
from fedrsclip_core.learning.dual_prompt import TextFeatures, combine, fuse, private_share
from fedrsclip_core.learning.losses import (
    Batch,
    ClassTargets,
    PromptLoss,
    contrast,
    cross_modal_alignment,
    dual_prompt_alignment,
    own_alignment,
    scarce_alignment,
    whitened_alignment,
)

pytestmark = pytest.mark.unit

SCALE = 2.0
FEATURES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 0])
SHARED = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]], dtype=torch.float64)
PRIVATE = torch.tensor([[0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
TEMPLATE = torch.tensor([[0.0, 1.0], [0.8, 0.6], [0.0, 1.0]], dtype=torch.float64)
NONE = {
    "lambda_fused": 0.0,
    "lambda_shared": 0.0,
    "lambda_private": 0.0,
    "lambda_dpac": 0.0,
    "lambda_cmfac": 0.0,
    "lambda_contrast": 0.0,
}
EVERY = dict.fromkeys(NONE, 1.0)


def only(**weights: Any) -> LossConfig:
    return LossConfig(**(NONE | weights))


def terms_of(text: TextFeatures, config: LossConfig) -> dict[str, Tensor]:
    loss = PromptLoss(config, SCALE, template=TEMPLATE)
    return loss.terms(Batch(FEATURES, LABELS), text)


def mixed(shared: Tensor | None, private: Tensor | None, beta: float) -> TextFeatures:
    return combine(shared, private, None, PromptConfig(fusion="fixed", beta=beta))


def both() -> TextFeatures:
    return mixed(SHARED, PRIVATE, 0.5)


def cross_entropy_by_hand(cosines: list[list[float]], labels: list[int]) -> float:
    losses = []
    for row, label in zip(cosines, labels, strict=True):
        powers = [math.exp(SCALE * value) for value in row]
        losses.append(-math.log(powers[label] / sum(powers)))
    return sum(losses) / len(losses)


def test_shared_cross_entropy() -> None:
    expected = cross_entropy_by_hand([[1, 0.6, 0], [0, 0.8, -1], [0.6, 1, -0.8]], [0, 1, 0])
    terms = terms_of(both(), only(lambda_shared=1.0))
    assert terms.keys() == {"loss-shared"}
    assert float(terms["loss-shared"]) == pytest.approx(expected, abs=1e-12)


def test_private_cross_entropy() -> None:
    expected = cross_entropy_by_hand([[0.8, 0, -1], [0.6, 1, 0], [0.96, 0.8, -0.6]], [0, 1, 0])
    terms = terms_of(both(), only(lambda_private=1.0))
    assert float(terms["loss-private"]) == pytest.approx(expected, abs=1e-12)


def test_fused_cross_entropy() -> None:
    # (1 - 0.25) * T_s + 0.25 * T_k = (0.95, 0.15), (0.45, 0.85), (-0.25, -0.75), made unit.
    rows = [(0.95, 0.15), (0.45, 0.85), (-0.25, -0.75)]
    fused = [(x / math.hypot(x, y), y / math.hypot(x, y)) for x, y in rows]
    images = [(1.0, 0.0), (0.0, 1.0), (0.6, 0.8)]
    cosines = [[i * x + j * y for x, y in fused] for i, j in images]
    terms = terms_of(mixed(SHARED, PRIVATE, 0.25), only(lambda_fused=1.0))
    expected = cross_entropy_by_hand(cosines, [0, 1, 0])
    assert float(terms["loss-fused"]) == pytest.approx(expected, abs=1e-12)


def test_dual_prompt_alignment() -> None:
    # Cosines of the classes' two texts: 0.8, 0.8, 0.
    terms = terms_of(both(), only(lambda_dpac=1.0))
    assert float(terms["loss-dpac"]) == pytest.approx(1 - 1.6 / 3, abs=1e-12)


def test_cross_modal_alignment() -> None:
    # One prompt: cosines of the images with their class's text are 1, 0.8, 0.6.
    terms = terms_of(mixed(SHARED, None, 0.5), only(lambda_cmfac=1.0))
    assert float(terms["loss-cmfac"]) == pytest.approx(1 - 2.4 / 3, abs=1e-12)


def test_contrast_of_two_classes() -> None:
    # Cosines of the shared text with the template's: 0, 0.96; with the private one's: 0.8, 0.8.
    two = [tensor[:2] for tensor in (SHARED, PRIVATE, TEMPLATE)]
    classes = [(0.0, 0.8), (0.96, 0.8)]
    each = [
        -math.log(math.exp(p / 0.5) / (math.exp(p / 0.5) + math.exp(n / 0.5))) for p, n in classes
    ]
    assert float(contrast(*two, 0.5)) == pytest.approx(sum(each) / 2, abs=1e-12)
    # Colder, the better class costs less and the worse one more.
    assert float(contrast(two[0][1:], two[1][1:], two[2][1:], 0.1)) < each[1]
    assert float(contrast(two[0][:1], two[1][:1], two[2][:1], 0.1)) > each[0]


def test_contrast_pulls_to_the_template_and_away_from_the_private_prompt() -> None:
    shared, private = SHARED.clone().requires_grad_(), PRIVATE.clone().requires_grad_()
    terms = terms_of(mixed(shared, private, 1.0), only(lambda_contrast=1.0))
    assert terms.keys() == {"loss-contrast"}
    of_shared, of_private = torch.autograd.grad(terms["loss-contrast"], (shared, private))
    # One number per class and sign: d/dT_s is along T_k - T_0, d/dT_k along T_s, both uphill.
    difference = PRIVATE - TEMPLATE
    share = (of_shared * difference).sum(dim=1) / difference.square().sum(dim=1)
    assert share.min() > 0
    assert torch.allclose(of_shared, share[:, None] * difference, atol=1e-12)
    assert torch.allclose(of_private, share[:, None] * SHARED, atol=1e-12)


def test_prompts_that_are_kept_apart_are_classified_by_patches() -> None:
    transport = PromptConfig(fusion="transport", transport_mass=1.0, transport_eps=0.1)
    apart = combine(SHARED, PRIVATE, None, transport)
    assert apart.fused.shape == (2, 3, 2)
    patches = FEATURES[:, None].expand(-1, 5, -1)
    loss = PromptLoss(only(lambda_fused=1.0), SCALE)
    terms = loss.terms(Batch(FEATURES, LABELS, patches), apart)
    # Equal patches leave no choice: half of each goes to either prompt.
    mean = (SHARED + PRIVATE) / 2
    expected = cross_entropy_by_hand((FEATURES @ mean.T).tolist(), LABELS.tolist())
    assert float(terms["loss-fused"]) == pytest.approx(expected, abs=1e-10)
    with pytest.raises(ValueError, match="patch features"):
        loss.terms(Batch(FEATURES, LABELS), apart)


def test_weights_multiply_and_add() -> None:
    config = LossConfig(
        lambda_fused=0.5,
        lambda_shared=2.0,
        lambda_private=3.0,
        lambda_dpac=5.0,
        lambda_cmfac=7.0,
        lambda_contrast=11.0,
    )
    terms = terms_of(both(), config)
    expected = (
        0.5 * terms["loss-fused"]
        + 2 * terms["loss-shared"]
        + 3 * terms["loss-private"]
        + 5 * terms["loss-dpac"]
        + 7 * terms["loss-cmfac"]
        + 11 * terms["loss-contrast"]
    )
    assert float(PromptLoss(config, SCALE).total(terms)) == pytest.approx(
        float(expected), abs=1e-12
    )


@pytest.mark.parametrize(
    ("weight", "term"),
    [
        ("lambda_fused", "loss-fused"),
        ("lambda_shared", "loss-shared"),
        ("lambda_private", "loss-private"),
        ("lambda_dpac", "loss-dpac"),
        ("lambda_cmfac", "loss-cmfac"),
        ("lambda_contrast", "loss-contrast"),
    ],
)
def test_weight_zero_leaves_the_term_out(weight: str, term: str) -> None:
    every = terms_of(both(), LossConfig(**EVERY)).keys()
    without = terms_of(both(), LossConfig(**(EVERY | {weight: 0.0}))).keys()
    assert every - without == {term}


def test_one_prompt_has_no_term_of_the_other() -> None:
    config = LossConfig(**EVERY)
    alone = terms_of(mixed(SHARED, None, 0.5), config).keys()
    assert alone == {"loss-fused", "loss-shared", "loss-cmfac"}
    alone = terms_of(mixed(None, PRIVATE, 0.5), config).keys()
    assert alone == {"loss-fused", "loss-private", "loss-cmfac"}


def test_no_prompt_at_all() -> None:
    with pytest.raises(ValueError, match="no prompt"):
        mixed(None, None, 0.5)


def test_a_free_weight_goes_beyond_both_prompts() -> None:
    weight = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64)
    config = PromptConfig(fusion="class_weight", beta=0.9)
    fused = fuse(SHARED, PRIVATE, private_share(weight, config))
    assert torch.allclose(fused[0], unit(SHARED[0] + PRIVATE[0]), atol=1e-12)
    assert torch.allclose(fused[1], unit(2 * PRIVATE[1] - SHARED[1]), atol=1e-12)
    assert torch.allclose(fused[2], unit(2 * SHARED[2] - PRIVATE[2]), atol=1e-12)


def test_gate_weighs_every_class_for_itself() -> None:
    gate = torch.tensor([0.0, 30.0, -30.0], dtype=torch.float64)
    config = PromptConfig(fusion="class_gate", beta=0.9)
    fused = fuse(SHARED, PRIVATE, private_share(gate, config))
    assert torch.allclose(fused[0], unit(SHARED[0] + PRIVATE[0]), atol=1e-12)
    assert torch.allclose(fused[1], PRIVATE[1], atol=1e-12)
    assert torch.allclose(fused[2], SHARED[2], atol=1e-12)
    assert private_share(None, PromptConfig(fusion="fixed", beta=0.9)) == 0.9


def test_alignment_of_own_classes_leaves_the_others_free() -> None:
    private = PRIVATE.clone().requires_grad_()
    counts = torch.tensor([3, 0, 1])
    cosines = (SHARED * PRIVATE).sum(dim=1)
    loss = own_alignment(SHARED, private, counts)
    assert float(loss) == pytest.approx(1 - float(cosines[0] + cosines[2]) / 2, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, private)
    assert gradient[0].any() and gradient[2].any() and not gradient[1].any()


def test_scarce_alignment_weighs_by_images() -> None:
    counts = torch.tensor([2, 0, 6])
    apart = 1 - (SHARED * PRIVATE).sum(dim=1)
    # 2 / (2 + 2) and 2 / (6 + 2)
    expected = (0.5 * apart[0] + 0.25 * apart[2]) / 2
    assert float(scarce_alignment(SHARED, PRIVATE, counts)) == pytest.approx(
        float(expected), abs=1e-12
    )


def test_whitened_alignment_turns_own_classes_to_their_directions() -> None:
    text = SHARED.clone().requires_grad_()
    directions = torch.stack([PRIVATE[1], torch.zeros(2), PRIVATE[0]]).double()
    cosines = (SHARED * directions).sum(dim=1)
    loss = whitened_alignment(text, directions, torch.tensor([1, 0, 5]), 0.5)
    expected = 0.5 * (1 - float(cosines[0] + cosines[2]) / 2)
    assert float(loss) == pytest.approx(expected, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, text)
    assert not gradient[1].any()


@pytest.mark.parametrize(
    ("form", "counts", "expected"),
    [
        ("all", [1, 1, 1], dual_prompt_alignment(SHARED, PRIVATE)),
        ("own", [0, 4, 1], own_alignment(SHARED, PRIVATE, torch.tensor([0, 4, 1]))),
        ("scarce", [0, 4, 1], scarce_alignment(SHARED, PRIVATE, torch.tensor([0, 4, 1]))),
    ],
)
def test_the_form_of_dpac_is_what_the_configuration_says(
    form: str, counts: list[int], expected: Tensor
) -> None:
    classes = ClassTargets(torch.tensor(counts), torch.zeros_like(SHARED), 1.0)
    loss = PromptLoss(only(lambda_dpac=1.0, dpac_form=form), SCALE, classes)
    terms = loss.terms(Batch(FEATURES, LABELS), both())
    assert float(terms["loss-dpac"]) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("form", ["pull", "whitened"])
def test_the_form_of_cmfac_is_what_the_configuration_says(form: str) -> None:
    classes = ClassTargets(torch.tensor([1, 2, 0]), PRIVATE, 0.25)
    loss = PromptLoss(only(lambda_cmfac=1.0, cmfac_form=form), SCALE, classes)
    text = both()
    found = float(loss.terms(Batch(FEATURES, LABELS), text)["loss-cmfac"])
    if form == "pull":
        expected = cross_modal_alignment(FEATURES, LABELS, text.fused)
    else:
        expected = whitened_alignment(text.fused, PRIVATE, classes.counts, 0.25)
    assert found == pytest.approx(float(expected), abs=1e-12)


def test_a_prior_is_added_to_the_logits_of_the_fusion_alone() -> None:
    prior = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    text = replace(both(), log_prior=prior)
    plain = both().fused_logits(FEATURES, None, SCALE)
    assert torch.allclose(text.fused_logits(FEATURES, None, SCALE), plain + prior)
    with_prior = terms_of(text, only(lambda_fused=1.0, lambda_shared=1.0))
    without = terms_of(both(), only(lambda_fused=1.0, lambda_shared=1.0))
    assert with_prior["loss-fused"] != without["loss-fused"]
    assert with_prior["loss-shared"] == without["loss-shared"]
