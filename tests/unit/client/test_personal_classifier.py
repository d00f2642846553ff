"""What a client keeps is loaded again as the classifier that its last evaluation has counted."""

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app import rounds
from client_app.private_store import CLASSIFIER
from client_app.site_log import SiteLog
from fedrsclip.classifier.personal import load_personal_classifier
from fedrsclip.classifier.scene_classifier import SceneClassifier
from fedrsclip_core.config import compose
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.errors import ConfigError, ModelError, PrivateStoreError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.sealed import read_sealed, write_sealed
from fedrsclip_core.wire.messages import EVAL_PARTS, RoundReply
from fedrsclip_core.wire.records import unpack_round_reply
from tests import disks
from tests.unit.client.site_folder import CLASSES, RUN, Client

pytestmark = pytest.mark.unit

METHODS = [
    path.stem
    for path in sorted((Path(compose.__file__).parents[2] / "conf/method").glob("*.yaml"))
    if not path.stem.startswith("zero_shot")
]


def shared_start(client: Client) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    shapes = client.runtime.shared_shapes
    return {n: generator.normal(0, 0.05, s).astype(np.float32) for n, s in shapes.items()}


def trained(client: Client, rounds: int = 2, run: str = RUN) -> dict[str, np.ndarray]:
    shared = shared_start(client)
    for number in range(1, rounds + 1):
        content = client.train(number, shared, run=run).content
        reply = unpack_round_reply(content, client.runtime.shared_shapes)
        # Between the rounds the server averages with others.
        shared = {n: np.float32(0.9) * t for n, t in reply.shared.items()}
    return shared


def evaluated(client: Client, server_round: int, shared: Any) -> RoundReply:
    return unpack_round_reply(client.evaluate(server_round, shared, final=True).content, {})


def loaded(site: Client, source: str = RUN, **options: Any) -> SceneClassifier:
    return load_personal_classifier(source, model_path=site.clip, **options)


def counts(client: Client, classifier: SceneClassifier) -> dict[str, int]:
    """Answer as the classifier does, from the client's own features."""
    found = {}
    for part in EVAL_PARTS:
        data = client.runtime.features(part, SiteLog("client-0"))
        scores = classifier.classifier.similarities(data.features, data.patches)
        found[part] = int((scores.argmax(axis=1) == data.labels).sum())
    return found


@pytest.mark.parametrize("method", METHODS)
def test_it_is_what_the_last_evaluation_counted(
    client: Client, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    count = rounds._counted

    def counted(runtime: Any, classifiers: Any, *rest: Any) -> RoundReply:
        seen.append(classifiers["personalized"])
        return count(runtime, classifiers, *rest)

    monkeypatch.setattr(rounds, "_counted", counted)
    client.overrides = (f"method={method}", "optimizer.local_epochs=3")
    shared = trained(client)
    reply = evaluated(client, 2, shared)
    classifier = loaded(client)
    found, there = classifier.classifier, seen[-1]
    assert found.text.tobytes() == there.text.tobytes()
    assert (found.bias is None) == (there.bias is None)
    assert found.bias is None or found.bias.tobytes() == there.bias.tobytes()
    assert found.transport == there.transport
    told = {part: reply.correct[part, "personalized"] for part in EVAL_PARTS}
    assert counts(client, classifier) == told
    kept = json.loads((paths.evaluations_dir("demo", RUN) / "client-0.json").read_text())
    for part in EVAL_PARTS:
        confusion = np.array(kept["parts"][part]["personalized"]["confusion"])
        assert np.trace(confusion) == told[part]
    assert classifier.class_names == list(CLASSES)
    assert classifier.describe() == (
        f"{RUN}, round 2, personalized of client-0, 3 classes, demo_clip"
    )


@pytest.mark.parametrize("method", ["fedrsclip", "fedotp"])
def test_images_are_classified_as_their_features_were(client: Client, method: str) -> None:
    client.overrides = (f"method={method}",)
    evaluated(client, 2, trained(client))
    classifier, data = loaded(client), client.runtime.data
    features = client.runtime.features("test", SiteLog("client-0"))
    images = [data.source.image(int(index)) for index in sorted(data.split.test)]
    similarities = classifier.classifier.similarities(features.features, features.patches)
    assert (classifier.scores(images).argmax(axis=1) == similarities.argmax(axis=1)).all()
    assert client.runtime.files.digest


def test_the_calibrated_probabilities_have_the_fitted_temperature(client: Client) -> None:
    evaluated(client, 2, trained(client))
    kept = json.loads((paths.evaluations_dir("demo", RUN) / "client-0.json").read_text())
    classifier = loaded(client, calibrated=True)
    assert classifier.logit_scale == pytest.approx(kept["logit_scale"], rel=1e-12)
    assert classifier.logit_scale != loaded(client).logit_scale
    assert "calibrated" in classifier.describe()


def test_an_interrupted_run_leaves_what_its_last_round_has_trained_with(client: Client) -> None:
    shared = shared_start(client)
    reply = unpack_round_reply(client.train(1, shared).content, client.runtime.shared_shapes)
    client.train(2, reply.shared)
    _, tensors = read_sealed(client.folder() / "round-000002.safetensors")
    # What had arrived, not what was made of it here.
    assert (tensors[SHARED_PROMPT] == reply.shared[SHARED_PROMPT]).all()
    classifier = loaded(client)
    assert classifier.origin.server_round == 2
    state = client.stored(2)
    assert state.private is not None
    assert (tensors["private_prompt"] == state.private).all()
    with pytest.raises(ModelError, match="fitted no temperature"):
        loaded(client, calibrated=True)


def test_who_was_not_asked_in_the_last_round_is_evaluated_with_an_older_state(
    client: Client,
) -> None:
    shared = trained(client, rounds=1)
    reply = evaluated(client, 3, shared)
    classifier = loaded(client)
    assert classifier.origin.server_round == 3
    told = {part: reply.correct[part, "personalized"] for part in EVAL_PARTS}
    assert counts(client, classifier) == told


def test_a_run_that_goes_back_forgets_its_last_evaluation(client: Client) -> None:
    shared = trained(client)
    evaluated(client, 2, shared)
    assert (client.folder() / CLASSIFIER).exists()
    client.train(2, shared)
    assert not (client.folder() / CLASSIFIER).exists()
    assert loaded(client).origin.server_round == 2


def test_only_the_owner_can_read(client: Client) -> None:
    evaluated(client, 2, trained(client))
    for path in client.folder().glob("*.safetensors"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_costs_the_file_and_not_the_answer(
    client: Client,
) -> None:
    shared = trained(client)
    whole = evaluated(client, 2, shared)
    (client.folder() / CLASSIFIER).unlink()
    with disks.full_disk():
        reply = evaluated(client, 2, shared)
    assert reply.correct == whole.correct
    assert not (client.folder() / CLASSIFIER).exists()
    log = "".join(path.read_text() for path in paths.logs_dir().glob("*.log"))
    assert f"{CLASSIFIER} of run {RUN} was not kept: No space left on device" in log


def test_anothers_file_in_its_place_is_left_alone(client: Client) -> None:
    shared = trained(client)
    evaluated(client, 2, shared)
    path = client.folder() / CLASSIFIER
    metadata, tensors = read_sealed(path)
    other = {n: v.replace("client-0", "client-9") for n, v in metadata.items()}
    write_sealed(path, tensors, other)
    before = path.read_bytes()
    evaluated(client, 2, shared)
    client.train(2, shared)
    assert path.read_bytes() == before
    log = "".join(path.read_text() for path in paths.logs_dir().glob("*.log"))
    assert "it is of client client-9 in run run-7" in log


def test_a_file_of_an_earlier_version_trains_on_and_says_what_is_missing(client: Client) -> None:
    trained(client, rounds=1)
    path = client.folder() / "round-000001.safetensors"
    metadata, tensors = read_sealed(path)
    whole = client.stored(1)
    del metadata["classifier"]
    write_sealed(
        path, {"private_prompt": tensors["private_prompt"], "gate": tensors["gate"]}, metadata
    )
    state = client.stored(1)
    assert whole.private is not None and state.private is not None
    assert state.private.tobytes() == whole.private.tobytes()
    with pytest.raises(PrivateStoreError, match=r"did not keep the shared prompt.*one more round"):
        loaded(client)
    client.train(2, shared_start(client))
    assert loaded(client).origin.server_round == 2


def test_several_clients_are_listed(image_folder: Path, clip_folder: Path) -> None:
    one, two = (
        Client(image_folder, clip_folder, node={"client-name": n, "partition-id": k})
        for k, n in enumerate(("north", "south"))
    )
    for client in (one, two):
        trained(client, rounds=1)
    with pytest.raises(PrivateStoreError, match=r"choose by --client north \| south"):
        loaded(one)
    assert loaded(one, client="south").origin.client == "south"
    with pytest.raises(PrivateStoreError, match="of client east here: there are those of north, s"):
        loaded(one, client="east")
    with pytest.raises(PrivateStoreError, match="no client of this machine has private files"):
        loaded(one, "run-8")


def test_some_of_the_classes_answer_as_among_all(client: Client) -> None:
    evaluated(client, 2, trained(client))
    data = client.runtime.features("test", SiteLog("client-0"))
    whole, some = loaded(client), loaded(client, classes="river,forest")
    assert some.class_names == ["river", "forest"]
    all_scores, scores = (c.classifier.similarities(data.features) for c in (whole, some))
    np.testing.assert_allclose(scores, all_scores[:, [2, 0]], atol=1e-6)


def test_words_that_nobody_trained_need_a_method_without_anything_by_class(
    client: Client,
) -> None:
    evaluated(client, 2, trained(client))
    with pytest.raises(ConfigError, match=r"'lagoon' is none of them: choose among forest, harbor"):
        loaded(client, classes="lagoon,river")
    client.overrides = ("method=fedrsclip", "prompt.fusion=gate", "prompt.class_prior=false")
    trained(client, run="run-8")
    classifier = loaded(client, "run-8", classes="lagoon,river")
    assert classifier.class_names == ["lagoon", "river"]
    assert classifier.describe().endswith("nobody trained: lagoon")


def test_another_clip_is_refused(client: Client, tmp_path: Path) -> None:
    from tests.tiny_clip import make_tiny_clip

    evaluated(client, 2, trained(client))
    other = make_tiny_clip(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match="trained for another CLIP"):
        load_personal_classifier(RUN, model_path=other)


def test_the_clip_is_found_where_the_site_has_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(client, rounds=1)
    monkeypatch.setenv("FEDRSCLIP_MODEL_PATH", str(client.clip))
    assert load_personal_classifier(RUN).origin.client == "client-0"


def test_tensors_that_do_not_fit_are_a_sentence(client: Client) -> None:
    evaluated(client, 2, trained(client))
    path = client.folder() / CLASSIFIER
    metadata, tensors = read_sealed(path)
    for name, tensor in tensors.items():
        if name == SHARED_PROMPT:
            continue
        write_sealed(path, tensors | {name: np.concatenate([tensor, tensor])}, metadata)
        with pytest.raises(ModelError, match=f"{name} of the personalized classifier is|vectors"):
            loaded(client)


@pytest.mark.parametrize("content", [b"", b"no file of ours", b"\x00" * 64])
def test_a_damaged_file_is_a_sentence(client: Client, content: bytes) -> None:
    evaluated(client, 2, trained(client))
    (client.folder() / CLASSIFIER).write_bytes(content)
    with pytest.raises(PrivateStoreError, match=rf"{CLASSIFIER} is damaged"):
        loaded(client)
