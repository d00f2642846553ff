"""FedOTP and FedPGP as configurations: what moves, what starts where, what classifies."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.clip.text_encoder import PackedTextEncoder
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.learning.class_statistics import ClassStatistics
from fedrsclip_core.learning.dual_prompt import Given
from fedrsclip_core.learning.evaluation import Classifiers, by_mode, classifiers, count_correct
from fedrsclip_core.learning.optimal_transport import Transport, transport_plan
from fedrsclip_core.learning.prompts import ClientState, initial_offset
from fedrsclip_core.learning.training import TrainOutcome, train_round
from tests.unit.core.helpers import (
    N_CTX,
    WORDS,
    given,
    prompt,
    separable,
    sharing,
    tiny_encoder,
    tiny_files,
)

pytestmark = pytest.mark.unit

Prompt = NDArray[np.float32]
PATCHES = 6


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ClipFiles:
    torch.set_num_threads(1)
    return tiny_files(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def encoder(files: ClipFiles) -> PackedTextEncoder:
    return tiny_encoder(files)


@pytest.fixture(scope="module")
def shared(files: ClipFiles) -> Prompt:
    return prompt(files, seed=1)


@pytest.fixture(scope="module")
def template(encoder: PackedTextEncoder, files: ClipFiles) -> Prompt:
    """Text features that a prompt can reach."""
    other = ClientState(prompt(files, seed=7))
    return classifiers(encoder, {}, other, Config().prompt, given(encoder))["personalized"].text


@pytest.fixture(scope="module")
def data(files: ClipFiles) -> FeatureSet:
    """Half of an image's patches show its class, the others show anything."""
    return patched(separable(files.dim), seed=0)


def patched(data: FeatureSet, seed: int) -> FeatureSet:
    generator = np.random.default_rng(seed)
    shape = (len(data), PATCHES, data.features.shape[1])
    patches = 0.1 * generator.standard_normal(shape)
    patches[:, : PATCHES // 2] += data.features[:, None]
    patches[:, PATCHES // 2 :] *= 3
    patches /= np.linalg.norm(patches, axis=2, keepdims=True)
    return FeatureSet(data.features, data.labels, patches.astype(np.float16))


def configured(method: str) -> Config:
    config = compose([f"method={method}"])
    config.optimizer.schedule = "constant"
    config.optimizer.batch_size = 16
    config.optimizer.lr = config.optimizer.private_lr = 0.03
    return config


def offset(files: ClipFiles, rank: int = 2) -> ClientState:
    return ClientState(None, None, *initial_offset(N_CTX, files.width, rank, "private"))


def train(
    encoder: PackedTextEncoder,
    shared: Prompt,
    state: ClientState,
    data: FeatureSet,
    config: Config,
    template: Prompt | None = None,
) -> TrainOutcome:
    return train_round(
        encoder,
        sharing(shared),
        state,
        ClassStatistics(data, encoder.n_cls),
        config,
        server_round=1,
        client_name="client-0",
        given=given(encoder) if template is None else Given(template),
    )


def sent(outcome: TrainOutcome) -> Prompt:
    return outcome.shared[SHARED_PROMPT]


def texts_of(found: Classifiers) -> dict[str, Prompt]:
    return {mode: classifier.text for mode, classifier in found.items()}


def modes_of(
    encoder: PackedTextEncoder,
    shared: Prompt,
    state: ClientState,
    config: Config,
    template: Prompt | None = None,
) -> dict[str, Prompt]:
    fixed = given(encoder) if template is None else Given(template)
    return texts_of(classifiers(encoder, sharing(shared), state, config.prompt, fixed))


def moved(after: Prompt | None, before: Prompt | None) -> float:
    assert after is not None and before is not None
    return float(np.abs(after - before).max())


def test_fedpgp_starts_as_its_shared_prompt(
    files: ClipFiles, encoder: PackedTextEncoder, shared: Prompt
) -> None:
    texts = modes_of(encoder, shared, offset(files), configured("fedpgp"))
    assert texts.keys() == {"zero-shot", "global", "personalized"}
    assert np.abs(texts["personalized"] - texts["global"]).max() < 1e-6


def test_fedpgp_trains_the_shared_prompt_and_both_factors(
    files: ClipFiles,
    encoder: PackedTextEncoder,
    shared: Prompt,
    template: Prompt,
    data: FeatureSet,
) -> None:
    config, state = configured("fedpgp"), offset(files)
    config.optimizer.local_epochs = 20
    outcome = train(encoder, shared, state, data, config, template)
    assert outcome.losses.keys() == {"loss", "loss-private", "loss-contrast"}
    assert outcome.state.private is None and outcome.state.weight is None
    after_u, after_v = outcome.state.offset_u, outcome.state.offset_v
    assert after_u is not None and after_u.shape == (N_CTX, 2)
    assert after_v is not None and after_v.shape == (2, files.width)
    assert moved(sent(outcome), shared) > 1e-3
    assert moved(after_u, state.offset_u) > 1e-4
    assert moved(after_v, state.offset_v) > 1e-3
    config.optimizer.local_epochs = 1
    after = train(encoder, sent(outcome), outcome.state, data, config, template)
    before = train(encoder, shared, state, data, config, template)
    assert after.losses["loss-private"] < 0.9 * before.losses["loss-private"]


def test_the_first_step_moves_v_alone_and_by_the_chain_rule(
    files: ClipFiles, encoder: PackedTextEncoder, shared: Prompt, data: FeatureSet
) -> None:
    """dL/dV = U^T dL/dP and dL/dU = dL/dP V^T = 0: what makes an offset start like LoRA's."""
    config, state = configured("fedpgp"), offset(files)
    config.loss.lambda_contrast = 0.0
    config.optimizer.batch_size = len(data)
    outcome = train(encoder, shared, state, data, config)
    assert outcome.state.offset_u is not None and outcome.state.offset_v is not None
    assert sent(outcome) is not None and state.offset_u is not None
    assert (outcome.state.offset_u == state.offset_u).all()
    expected = state.offset_u.T @ (sent(outcome) - shared)
    assert np.abs(outcome.state.offset_v - expected).max() < 1e-6
    assert moved(outcome.state.offset_v, state.offset_v) > 1e-3


def test_contrast_holds_the_shared_prompt_by_the_template(
    files: ClipFiles,
    encoder: PackedTextEncoder,
    shared: Prompt,
    template: Prompt,
    data: FeatureSet,
) -> None:
    def near(weight: float) -> tuple[float, float]:
        config, state = configured("fedpgp"), offset(files)
        config.loss.lambda_contrast = weight
        config.optimizer.local_epochs = 20
        outcome = train(encoder, shared, state, data, config, template)
        texts = modes_of(encoder, sent(outcome), outcome.state, config)
        to_template = (texts["global"] * template).sum(axis=1).mean()
        to_private = (texts["global"] * texts["personalized"]).sum(axis=1).mean()
        return float(to_template), float(to_private)

    (template_with, private_with), (template_without, private_without) = near(1.0), near(0.0)
    assert private_with < private_without - 0.01
    assert template_with - private_with > template_without - private_without + 0.01


def test_fedotp_trains_both_prompts(
    files: ClipFiles, encoder: PackedTextEncoder, shared: Prompt, data: FeatureSet
) -> None:
    config, private = configured("fedotp"), prompt(files, seed=2)
    config.optimizer.local_epochs = 10
    outcome = train(encoder, shared, ClientState(private), data, config)
    assert outcome.losses.keys() == {"loss", "loss-fused"}
    assert moved(sent(outcome), shared) > 1e-3
    assert moved(outcome.state.private, private) > 1e-3
    assert moved(sent(outcome), outcome.state.private) > 1e-2
    config.optimizer.local_epochs = 1
    after = train(encoder, sent(outcome), outcome.state, data, config)
    before = train(encoder, shared, ClientState(private), data, config)
    assert after.losses["loss"] < 0.9 * before.losses["loss"]


def test_fedotp_with_equal_starts_sends_its_private_prompt(
    encoder: PackedTextEncoder, shared: Prompt, data: FeatureSet
) -> None:
    """Why equal starts are refused here as well: the plan cannot tell the prompts apart."""
    outcome = train(encoder, shared, ClientState(shared), data, configured("fedotp"))
    assert moved(sent(outcome), shared) > 1e-3
    assert moved(sent(outcome), outcome.state.private) < 1e-5


@pytest.mark.parametrize("method", ["fedotp", "fedpgp"])
def test_bits_are_reproduced_and_what_was_received_is_left_alone(
    files: ClipFiles,
    encoder: PackedTextEncoder,
    shared: Prompt,
    template: Prompt,
    data: FeatureSet,
    method: str,
) -> None:
    state = offset(files) if method == "fedpgp" else ClientState(prompt(files, seed=2))
    before = deepcopy((shared, state))
    config = configured(method)
    one, other = (train(encoder, shared, state, data, config, template) for _ in range(2))
    assert sent(one) is not None and sent(other) is not None
    assert sent(one).tobytes() == sent(other).tobytes()
    for name, array in vars(one.state).items():
        again = getattr(other.state, name)
        assert (array is None) == (again is None)
        assert array is None or array.tobytes() == again.tobytes()
    assert (shared == before[0]).all()
    for name, array in vars(before[1]).items():
        assert array is None or (getattr(state, name) == array).all()


@pytest.mark.parametrize("method", ["fedotp", "fedpgp"])
def test_the_first_step_gives_what_the_evaluation_of_the_received_needs(
    files: ClipFiles,
    encoder: PackedTextEncoder,
    shared: Prompt,
    data: FeatureSet,
    template: Prompt,
    method: str,
) -> None:
    config = configured(method)
    state = ClientState(prompt(files, 2))
    if method == "fedpgp":
        state = train(encoder, shared, offset(files), data, config, template).state
    expected = modes_of(encoder, shared, state, config, template)
    texts = texts_of(
        by_mode(
            train(encoder, shared, state, data, config, template).received,
            template,
            encoder.logit_scale,
        )
    )
    assert texts.keys() == expected.keys() == {"zero-shot", "global", "personalized"}
    assert moved(texts["global"], texts["personalized"]) > 1e-3
    for mode, text in texts.items():
        np.testing.assert_allclose(text, expected[mode], rtol=0, atol=1e-6)


def test_fedotp_counts_equal_classifying_image_by_image(
    files: ClipFiles, encoder: PackedTextEncoder
) -> None:
    config = configured("fedotp")
    shared, state = prompt(files, 1, std=1.0), ClientState(prompt(files, 2, std=1.0))
    found = classifiers(encoder, sharing(shared), state, config.prompt, given(encoder))
    both, settings = found["personalized"].text, found["personalized"].transport
    assert both.shape == (2, len(WORDS), files.dim)
    assert (both[0] == found["global"].text).all()
    assert settings is not None and settings == Transport.of(config.prompt)
    parts = {"val": patched(separable(files.dim, 20, seed=1), seed=1)}  # more than one chunk
    own = np.array([True, False, True, True])
    counts = count_correct(found, parts, own)
    assert parts["val"].patches is not None
    scores = np.zeros((80, len(WORDS)))
    for image, label in np.ndindex(*scores.shape):
        patches = torch.from_numpy(parts["val"].patches[image]).double()
        cosines = torch.from_numpy(both[:, label]).double() @ patches.T  # (K, V)
        plan = transport_plan(cosines[None, :, None], settings)[0, :, 0]
        scores[image, label] = float((plan * cosines).sum())
    labels = parts["val"].labels
    assert counts.correct["val", "personalized"] == (scores.argmax(axis=1) == labels).sum()
    masked = np.where(own, scores, -np.inf)
    assert counts.correct["val", "personalized-own"] == (masked.argmax(axis=1) == labels).sum()
    pooled = parts["val"].features @ found["global"].text.T
    assert counts.correct["val", "global"] == (pooled.argmax(axis=1) == labels).sum()


def test_fedotp_without_images_counts_nothing(
    files: ClipFiles, encoder: PackedTextEncoder, shared: Prompt
) -> None:
    config = configured("fedotp")
    found = classifiers(
        encoder, sharing(shared), ClientState(prompt(files, 2)), config.prompt, given(encoder)
    )
    empty = FeatureSet(
        np.empty((0, files.dim), np.float32),
        np.empty(0, np.int64),
        np.empty((0, PATCHES, files.dim), np.float16),
    )
    own = np.ones(len(WORDS), dtype=bool)
    counts = count_correct(found, {"val": empty}, own)
    assert set(counts.correct.values()) == {0}
