"""Local training: what moves, what does not, and what it is a function of."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.clip.text_encoder import PackedTextEncoder
from fedrsclip_core.config.schema import Config, LossConfig, OptimizerConfig, PromptConfig
from fedrsclip_core.config.shared_tensors import SHARED_OFFSETS, SHARED_PROMPT
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.learning.class_statistics import ClassStatistics
from fedrsclip_core.learning.dual_prompt import Given
from fedrsclip_core.learning.evaluation import by_mode, classifiers, count_correct
from fedrsclip_core.learning.prompts import ClientState, initial_offset, initial_weight
from fedrsclip_core.learning.training import TrainOutcome, cosine, finetune, train_round
from tests.unit.core.helpers import (
    N_CTX,
    WORDS,
    given,
    prompt,
    quiet_config,
    separable,
    sharing,
    tiny_encoder,
    tiny_files,
)

pytestmark = pytest.mark.unit

Prompt = NDArray[np.float32]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ClipFiles:
    torch.set_num_threads(1)
    return tiny_files(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def encoder(files: ClipFiles) -> PackedTextEncoder:
    return tiny_encoder(files)


@pytest.fixture(scope="module")
def data(files: ClipFiles) -> FeatureSet:
    return separable(files.dim)


@pytest.fixture(scope="module")
def shared(files: ClipFiles) -> Prompt:
    return prompt(files, seed=1)


@pytest.fixture(scope="module")
def private(files: ClipFiles) -> Prompt:
    return prompt(files, seed=2)


def train(
    encoder: PackedTextEncoder,
    shared: Prompt | None,
    state: ClientState,
    data: FeatureSet,
    config: Config,
    *,
    server_round: int = 1,
    client_name: str = "client-0",
    proximal_mu: float = 0.0,
) -> TrainOutcome:
    return train_round(
        encoder,
        sharing(shared),
        state,
        ClassStatistics(data, encoder.n_cls),
        config,
        server_round=server_round,
        client_name=client_name,
        given=given(encoder),
        proximal_mu=proximal_mu,
    )


def sent(outcome: TrainOutcome) -> Prompt | None:
    return outcome.shared.get(SHARED_PROMPT)


def moved(after: Prompt | None, before: Prompt) -> float:
    assert after is not None
    return float(np.abs(after - before).max())


def same_bits(one: TrainOutcome, other: TrainOutcome) -> bool:
    def values(outcome: TrainOutcome) -> list[bytes]:
        arrays = (sent(outcome), outcome.state.private, outcome.state.weight)
        return [b"" if array is None else array.tobytes() for array in arrays]

    return values(one) == values(other) and one.losses == other.losses


def test_loss_falls(
    encoder: PackedTextEncoder, shared: Prompt, private: Prompt, data: FeatureSet
) -> None:
    config = Config()
    config.optimizer.lr = 0.03
    config.optimizer.batch_size = 16
    config.optimizer.schedule = "constant"
    state, losses = ClientState(private), []
    for server_round in range(1, 9):
        outcome = train(encoder, shared, state, data, config, server_round=server_round)
        assert sent(outcome) is not None
        shared, state = sent(outcome), outcome.state
        losses.append(outcome.losses["loss"])
    assert losses[-1] < 0.7 * losses[0]
    terms = {"loss", "loss-fused", "loss-shared", "loss-dpac", "loss-cmfac"}
    assert outcome.losses.keys() == terms
    assert outcome.num_steps == 3  # 40 images in batches of 16


@pytest.mark.parametrize("fusion", ["fixed", "gate", "class_gate", "class_weight"])
@pytest.mark.parametrize("present", ["both", "shared", "private"])
def test_the_first_step_gives_what_the_evaluation_of_the_received_needs(
    encoder: PackedTextEncoder,
    shared: Prompt,
    private: Prompt,
    data: FeatureSet,
    fusion: str,
    present: str,
) -> None:
    config = Config()
    config.prompt = PromptConfig(fusion=fusion)
    config.optimizer.local_epochs = 2
    both = present == "both"
    weight = initial_weight(fusion, 0.3, encoder.n_cls) if both else None
    received = None if present == "private" else shared
    state = ClientState(None if present == "shared" else private, weight)
    expected = classifiers(encoder, sharing(received), state, config.prompt, given(encoder))
    outcome = train(encoder, received, state, data, config)
    assert outcome.num_steps > 1
    found = by_mode(outcome.received, given(encoder).template, encoder.logit_scale)
    assert found.keys() == expected.keys() and "personalized" in found
    for mode, classifier in found.items():
        assert classifier.text.tobytes() == expected[mode].text.tobytes()
    assert not outcome.received.fused.requires_grad


def test_without_an_image_there_is_nothing_to_train(
    encoder: PackedTextEncoder, shared: Prompt, data: FeatureSet
) -> None:
    none = FeatureSet(data.features[:0], data.labels[:0])
    with pytest.raises(ValueError, match="no image to train on"):
        train(encoder, shared, ClientState(None), none, Config())


def test_the_loss_is_the_weighted_sum_of_its_terms(
    encoder: PackedTextEncoder, shared: Prompt, private: Prompt, data: FeatureSet
) -> None:
    config = Config()
    losses = train(encoder, shared, ClientState(private), data, config).losses
    expected = (
        losses["loss-fused"]
        + config.loss.lambda_shared * losses["loss-shared"]
        + config.loss.lambda_dpac * losses["loss-dpac"]
        + config.loss.lambda_cmfac * losses["loss-cmfac"]
    )
    assert losses["loss"] == pytest.approx(expected, rel=1e-5)


def test_equal_starts_stay_equal(
    encoder: PackedTextEncoder, shared: Prompt, data: FeatureSet
) -> None:
    """The degeneracy for which the private prompt has a start of its own."""
    outcome = train(encoder, shared, ClientState(shared), data, quiet_config())
    assert moved(sent(outcome), shared) > 1e-3
    assert outcome.state.private is not None
    assert moved(sent(outcome), outcome.state.private) < 1e-5


def test_independent_starts_stay_apart(
    encoder: PackedTextEncoder, shared: Prompt, private: Prompt, data: FeatureSet
) -> None:
    outcome = train(encoder, shared, ClientState(private), data, quiet_config())
    assert moved(sent(outcome), shared) > 1e-3
    assert moved(outcome.state.private, private) > 1e-3
    assert outcome.state.private is not None
    assert moved(sent(outcome), outcome.state.private) > 1e-2


def test_bits_are_a_function_of_seed_client_and_round(
    encoder: PackedTextEncoder, shared: Prompt, private: Prompt, data: FeatureSet
) -> None:
    config, state = quiet_config(), ClientState(private)
    first = train(encoder, shared, state, data, config)
    assert same_bits(first, train(encoder, shared, state, data, config))
    assert not same_bits(first, train(encoder, shared, state, data, config, server_round=2))
    assert not same_bits(first, train(encoder, shared, state, data, config, client_name="client-1"))
    other_seed = deepcopy(config)
    other_seed.seed = 1
    assert not same_bits(first, train(encoder, shared, state, data, other_seed))


def test_the_received_arrays_are_left_alone(
    encoder: PackedTextEncoder, shared: Prompt, private: Prompt, data: FeatureSet
) -> None:
    before = shared.copy(), private.copy()
    train(encoder, shared, ClientState(private), data, quiet_config())
    assert (shared == before[0]).all()
    assert (private == before[1]).all()


def test_fedprox_pulls_towards_the_received_prompt(
    encoder: PackedTextEncoder, shared: Prompt, data: FeatureSet
) -> None:
    config = quiet_config()
    config.optimizer.local_epochs = 4
    free, near = (
        train(encoder, shared, ClientState(None), data, config, proximal_mu=mu) for mu in (0.0, 20)
    )
    assert sent(free) is not None
    assert sent(near) is not None
    assert np.linalg.norm(sent(near) - shared) < 0.7 * np.linalg.norm(sent(free) - shared)


def test_promptfl_moves_the_shared_prompt_alone(
    encoder: PackedTextEncoder, shared: Prompt, data: FeatureSet
) -> None:
    outcome = train(encoder, shared, ClientState(None), data, promptfl())
    assert moved(sent(outcome), shared) > 1e-3
    assert outcome.state == ClientState(None)
    assert outcome.losses.keys() == {"loss", "loss-shared"}


def test_ensemble_is_promptfl_and_local_side_by_side(
    encoder: PackedTextEncoder, shared: Prompt, private: Prompt, data: FeatureSet
) -> None:
    ensemble = promptfl()
    ensemble.loss.lambda_private = 1.0
    ensemble.optimizer.private_lr = 0.005
    local = deepcopy(ensemble)
    local.loss.lambda_shared = 0.0
    together = train(encoder, shared, ClientState(private), data, ensemble)
    alone_shared = train(encoder, shared, ClientState(None), data, promptfl())
    alone_private = train(encoder, None, ClientState(private), data, local)
    assert sent(alone_private) is None
    assert together.state.private is not None
    assert sent(alone_shared) is not None
    assert moved(sent(together), sent(alone_shared)) < 1e-6
    assert moved(alone_private.state.private, together.state.private) < 1e-6
    assert moved(together.state.private, private) > 1e-3


def test_own_learning_rate_of_the_private_prompt(
    encoder: PackedTextEncoder, shared: Prompt, private: Prompt, data: FeatureSet
) -> None:
    config = quiet_config()
    config.optimizer.private_lr = 0.0
    outcome = train(encoder, shared, ClientState(private), data, config)
    assert moved(sent(outcome), shared) > 1e-3
    assert moved(outcome.state.private, private) == 0


def test_schedule_is_a_function_of_the_round(
    encoder: PackedTextEncoder, shared: Prompt, data: FeatureSet
) -> None:
    config = promptfl()
    config.optimizer.batch_size = 64  # one step, so that it is proportional to the learning rate
    config.federation.num_rounds = 4
    config.optimizer.momentum = 0.0
    constant = [step(encoder, shared, data, config, r) for r in (1, 4)]
    config.optimizer.schedule = "cosine"
    decayed = [step(encoder, shared, data, config, r) for r in (1, 4)]
    assert constant[0] == pytest.approx(constant[1], rel=1e-3)
    assert decayed[0] == pytest.approx(constant[0], rel=1e-3)
    assert decayed[1] == pytest.approx(cosine(4, 4) * constant[1], rel=1e-2)
    assert [round(cosine(r, 4), 4) for r in range(1, 6)] == [1, 0.8536, 0.5, 0.1464, 0]


@pytest.mark.parametrize("fusion", ["gate", "class_gate", "class_weight"])
def test_fusion_weights_train_and_stay_private(
    encoder: PackedTextEncoder, shared: Prompt, private: Prompt, data: FeatureSet, fusion: str
) -> None:
    weight = initial_weight(fusion, 0.7, encoder.n_cls)
    assert weight is not None
    assert weight.shape == ((1,) if fusion == "gate" else (encoder.n_cls,))
    config = quiet_config()
    config.prompt.fusion = fusion
    outcome = train(encoder, shared, ClientState(private, weight), data, config)
    assert outcome.state.weight is not None
    assert outcome.state.weight.shape == weight.shape
    assert (outcome.state.weight != weight).all()
    assert sent(outcome) is not None
    assert sent(outcome).shape == shared.shape


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimizers(
    encoder: PackedTextEncoder, shared: Prompt, data: FeatureSet, name: str
) -> None:
    config = promptfl()
    config.optimizer.name = name
    config.optimizer.lr = 0.01 if name == "sgd" else 0.003
    config.optimizer.local_epochs = 10
    outcome = train(encoder, shared, ClientState(None), data, config)
    config.optimizer.local_epochs = 1
    before = train(encoder, shared, ClientState(None), data, config)
    after = train(encoder, sent(outcome), ClientState(None), data, config)
    assert after.losses["loss"] < 0.9 * before.losses["loss"]


@pytest.mark.parametrize("rank", [None, 2])
def test_weight_decay_is_for_prompts_not_for_fusion_weights(
    files: ClipFiles, shared: Prompt, private: Prompt, rank: int | None
) -> None:
    """With one class no loss has a slope: 25 steps of AdamW then do nothing but decay."""
    encoder, data = tiny_encoder(files, words=WORDS[:1]), separable(files.dim, classes=1)
    weight = initial_weight("class_weight", 0.8, encoder.n_cls)
    state = ClientState(private, weight)
    if rank is not None:
        u, v = initial_offset(N_CTX, files.width, rank, "test")
        state = ClientState(None, weight, u, v + 0.1)
    config = quiet_config()
    config.prompt.fusion = "class_weight"
    config.optimizer = OptimizerConfig("adamw", 0.1, 0.6, weight_decay=0.01, schedule="constant")
    config.optimizer.local_epochs, config.optimizer.batch_size = 25, len(data)
    outcome = train(encoder, shared, state, data, config)
    assert outcome.num_steps == 25
    assert outcome.state.weight is not None
    np.testing.assert_array_equal(outcome.state.weight, weight)
    np.testing.assert_allclose(sent(outcome), shared * (1 - 0.1 * 0.01) ** 25, rtol=1e-4)
    for name in ("private", "offset_u", "offset_v"):
        before, after = getattr(state, name), getattr(outcome.state, name)
        assert (before is None) == (after is None)
        if before is not None:
            np.testing.assert_allclose(after, before * (1 - 0.6 * 0.01) ** 25, rtol=1e-4)


def test_finetune_improves_training_accuracy(
    encoder: PackedTextEncoder, shared: Prompt, data: FeatureSet
) -> None:
    config = promptfl()
    config.prompt.finetune_epochs = 30
    config.prompt.finetune_lr = 0.03
    tuned, bias = finetune(encoder, shared, data, config, client_name="client-0")
    again, _ = finetune(encoder, shared, data, config, client_name="client-0")
    assert tuned.tobytes() == again.tobytes()
    assert not bias.any()
    assert accuracy(encoder, tuned, data) > accuracy(encoder, shared, data) + 0.2


def promptfl() -> Config:
    config = quiet_config()
    config.method = "promptfl"
    config.loss.lambda_fused = 0.0
    config.loss.lambda_shared = 1.0
    return config


def step(
    encoder: PackedTextEncoder, shared: Prompt, data: FeatureSet, config: Config, server_round: int
) -> float:
    """How far one round of training goes."""
    outcome = train(encoder, shared, ClientState(None), data, config, server_round=server_round)
    assert sent(outcome) is not None
    return float(np.linalg.norm(sent(outcome) - shared))


def accuracy(encoder: PackedTextEncoder, private: Prompt, data: FeatureSet) -> float:
    found = classifiers(encoder, {}, ClientState(private), PromptConfig(), given(encoder))
    counts = count_correct(found, {"train": data}, np.ones(encoder.n_cls, dtype=bool))
    return counts.correct["train", "personalized"] / len(data)


def offsets_config(**loss: object) -> Config:
    """Shared and private class offsets without prompts."""
    config = quiet_config()
    config.prompt = PromptConfig(
        shared=False, private=False, shared_offsets="full", private_offsets=True
    )
    config.prompt.fusion, config.prompt.beta = "fixed", 1.0
    config.loss = LossConfig(
        **{"lambda_dpac": 0.0, "lambda_cmfac": 0.0, "shared_gradient": "decoupled"} | loss
    )
    config.optimizer.lr, config.optimizer.private_lr = 0.1, 0.1
    config.optimizer.local_epochs = 10
    return config


def train_offsets(
    encoder: PackedTextEncoder, data: FeatureSet, config: Config, private: float = 0.0
) -> TrainOutcome:
    zeros = np.zeros((encoder.n_cls, encoder.dim), dtype=np.float32)
    tensors = {SHARED_OFFSETS: zeros}
    statistics = ClassStatistics(data, encoder.n_cls)
    return train_round(
        encoder,
        tensors,
        ClientState(None, class_offsets=zeros + np.float32(private)),
        statistics,
        config,
        server_round=1,
        client_name="client-0",
        given=Given(given(encoder).template, statistics.log_prior),
    )


def right(encoder: PackedTextEncoder, outcome: TrainOutcome, data: FeatureSet) -> float:
    found = classifiers(
        encoder, outcome.shared, outcome.state, offsets_config().prompt, given(encoder)
    )
    counts = count_correct(found, {"train": data}, np.ones(encoder.n_cls, dtype=bool))
    return counts.correct["train", "global"] / len(data)


def test_class_offsets_learn_without_the_text_tower(
    encoder: PackedTextEncoder, data: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*_: object) -> None:
        raise AssertionError("the text tower was asked")

    before = train_offsets(encoder, data, replace(offsets_config(), seed=0))
    monkeypatch.setattr(PackedTextEncoder, "__call__", encode)
    outcome = train_offsets(encoder, data, offsets_config())
    assert outcome.shared[SHARED_OFFSETS].tobytes() == before.shared[SHARED_OFFSETS].tobytes()
    assert outcome.state.class_offsets is not None and outcome.state.class_offsets.any()
    assert right(encoder, outcome, data) > 0.95


def test_decoupled_nothing_of_the_private_side_reaches_what_is_sent(
    encoder: PackedTextEncoder, data: FeatureSet
) -> None:
    loss = {"lambda_dpac": 3.0, "lambda_cmfac": 2.0, "cmfac_form": "whitened", "dpac_form": "own"}
    sent_with = [
        train_offsets(encoder, data, offsets_config(**loss), private).shared[SHARED_OFFSETS]
        for private in (0.0, 0.7)
    ]
    assert sent_with[0].tobytes() == sent_with[1].tobytes()
    coupled = [
        train_offsets(encoder, data, offsets_config(**loss, shared_gradient="coupled"), private)
        for private in (0.0, 0.7)
    ]
    assert (
        coupled[0].shared[SHARED_OFFSETS].tobytes() != coupled[1].shared[SHARED_OFFSETS].tobytes()
    )


def test_dpac_holds_private_offsets_to_the_shared_side(
    encoder: PackedTextEncoder, data: FeatureSet
) -> None:
    def length(weight: float, form: str) -> float:
        config = offsets_config(lambda_dpac=weight, dpac_form=form)
        found = train_offsets(encoder, data, config).state.class_offsets
        assert found is not None
        return float(np.linalg.norm(found))

    free = length(0.0, "own")
    assert length(5.0, "own") < 0.8 * free
    # Ten images of each class are many: the scarce form pulls a sixth as much.
    assert length(5.0, "own") < length(5.0, "scarce") < free


def test_each_side_has_its_own_learning_rates(encoder: PackedTextEncoder, data: FeatureSet) -> None:
    config = offsets_config()
    config.optimizer.offsets_lr, config.optimizer.private_offsets_lr = 0.0, 0.2
    outcome = train_offsets(encoder, data, config)
    assert not outcome.shared[SHARED_OFFSETS].any()
    assert outcome.state.class_offsets is not None and outcome.state.class_offsets.any()


def test_fine_tuning_may_learn_a_bias_of_each_class(
    encoder: PackedTextEncoder, shared: Prompt, data: FeatureSet
) -> None:
    config = promptfl()
    config.prompt.finetune_epochs, config.prompt.finetune_bias = 5, True
    config.prompt.finetune_lr = 0.1
    present = FeatureSet(data.features[data.labels < 2], data.labels[data.labels < 2])
    _, bias = finetune(encoder, shared, present, config, client_name="client-0")
    assert bias.shape == (encoder.n_cls,)
    # Classes without an image lose, by as much as the others win together.
    assert max(bias[2:]) < min(bias[:2])
    assert bias.sum() == pytest.approx(0.0, abs=1e-4)
