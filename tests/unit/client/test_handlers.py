import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from PIL import Image
from torch import Tensor

from client_app import rounds, runtime
from client_app.failures import LateError
from client_app.rounds import Deadline
from client_app.site_log import SiteLog
from fedrsclip_core.clip.text_encoder import PackedTextEncoder
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT, SharedTensors
from fedrsclip_core.data import federated
from fedrsclip_core.errors import FedRSCLIPError
from fedrsclip_core.learning.calibration import fit_factor, fit_logit_scale
from fedrsclip_core.learning.classifier import Classifier
from fedrsclip_core.learning.evaluation import shared_features
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.messages import (
    CALIBRATION_FACTORS,
    FEWEST_CALIBRATING,
    ClientFailure,
    FailureCode,
    RoundReply,
    RoundRequest,
)
from fedrsclip_core.wire.records import unpack_identity, unpack_init, unpack_round_reply
from tests.disks import fill, small_disk
from tests.unit.client.site_folder import (
    CLASSES,
    RUN,
    SHAPE,
    SHAPES,
    Client,
    make_images,
    shared_prompt,
)
from tests.unit.data.imagery.files import png

pytestmark = pytest.mark.unit


def fails(code: FailureCode, ask: Callable[[], object], *, because: str) -> None:
    """The server learns the code; the site's log has the sentence."""
    with pytest.raises(ClientFailure) as caught:
        ask()
    log = "".join(p.read_text(encoding="utf-8") for p in paths.logs_dir().glob("*.log"))
    assert caught.value.code == code, log
    assert because in log


def trained(client: Client, server_round: int, shared: SharedTensors) -> RoundReply:
    shapes = SHAPES if shared else {}
    return unpack_round_reply(client.train(server_round, shared).content, shapes)


def evaluated(message: Message) -> RoundReply:
    return unpack_round_reply(message.content, {})


def test_identity_says_who_and_what(client: Client) -> None:
    identity = unpack_identity(client.query("identity").content)
    assert (identity.client_name, identity.partition_id, identity.num_partitions) == (
        "client-0",
        0,
        2,
    )
    assert (identity.n_ctx, identity.width) == SHAPE
    assert (identity.num_train, identity.num_val, identity.num_test) == (9, 3, 3)
    assert all(len(digest) == 64 for digest in identity.digests.values())
    assert unpack_identity(client.query("prepare").content) == identity


def test_identity_encodes_nothing(client: Client) -> None:
    client.query("identity")
    assert not paths.features_dir().exists()


def test_label_counts_are_a_setting_and_wait_for_the_preparation(client: Client) -> None:
    assert unpack_identity(client.query("prepare").content).label_counts == ()
    client.overrides = ("privacy.share_label_counts=true",)
    assert unpack_identity(client.query("identity").content).label_counts == ()
    assert unpack_identity(client.query("prepare").content).label_counts == (3, 3, 3)


def test_a_server_that_runs_other_code_learns_nothing_of_images_or_model(client: Client) -> None:
    """Not even by a failure: the site's folders are not looked at."""
    client.overrides = ("privacy.share_label_counts=true",)
    for folder in (client.data, Path("/nowhere")):
        site = replace(client, data=folder, clip=folder)
        identity = unpack_identity(site.query("identity", code="0" * 64).content)
        assert identity.client_name == "client-0"
        assert {p for p, digest in identity.digests.items() if digest} == {"code"}
        sizes = (identity.width, identity.num_train, identity.num_val, identity.num_test)
        assert (sizes, identity.label_counts) == ((0, 0, 0, 0), ())


def test_the_split_of_a_site_is_its_own_business(client: Client) -> None:
    client.overrides = ("partition=site", f"data.class_names=[{','.join(CLASSES)}]")
    identity = unpack_identity(client.query("identity").content)
    assert identity.digests["split"] == ""
    assert identity.num_train == 18


def test_other_code_is_told_at_once_and_refused_later(client: Client) -> None:
    client.query("identity", code="0" * 64)
    log = (paths.logs_dir() / "client-0.log").read_text(encoding="utf-8")
    assert "will refuse this client: the server runs other code" in log
    for action in ("prepare", "init"):
        fails(
            FailureCode.CONFIGURATION,
            lambda a=action: client.query(a, code="0" * 64),
            because="install the same version",
        )


def test_a_configuration_outside_the_schema_is_refused_before_anything_is_looked_at(
    client: Client,
) -> None:
    text = client.configuration
    nowhere = replace(client, data=Path("/nowhere"), clip=Path("/nowhere"))
    for changed, because in (
        (text.replace('"n_ctx": 4', '"n_ctx": "4"'), "prompt.n_ctx must be an integer"),
        (text.replace('"n_ctx": 4', '"n_ctx": 0'), "prompt.n_ctx is 0"),
        (text.replace('"seed": 0', '"speed": 0'), "lacks seed"),
        (text.replace('"hub_id": null', '"hub_id": null, "path": "/"'), "belongs to a site"),
    ):
        assert changed != text
        for action in ("identity", "prepare", "init"):
            fails(
                FailureCode.CONFIGURATION,
                lambda a=action, c=changed: nowhere.query(a, configuration=c),
                because=because,
            )


def test_a_text_that_looks_like_an_interpolation_stays_a_text(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_VARIABLE", "harbor")
    text = json.dumps("${oc.env:SOME_VARIABLE}")
    changed = client.configuration.replace('"a photo of a"', text)
    assert changed != client.configuration
    fails(
        FailureCode.CONFIGURATION,
        lambda: client.query("init", configuration=changed),
        because="use fewer words",
    )


def test_init_is_the_words_embedding(client: Client, clip_folder: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    start = unpack_init(client.query("init").content, SHAPE)
    ids = CLIPTokenizer.from_pretrained(clip_folder)("a photo of a")["input_ids"][1:-1]
    table = CLIPModel.from_pretrained(clip_folder).text_model.embeddings.token_embedding.weight
    assert len(ids) == 4
    np.testing.assert_array_equal(start, table.detach().numpy()[ids])


def test_training_moves_both_prompts_and_stores_the_private_one(client: Client) -> None:
    shared = shared_prompt()
    reply = trained(client, 1, shared)
    assert reply.num_examples == 9 and reply.num_steps == 2
    assert reply.total == {"val": 3, "test": 3}
    modes = {"zero-shot", "global", "personalized", "personalized-own"}
    assert {mode for _, mode in reply.correct} == modes
    assert {"loss", "loss-fused", "loss-dpac", "loss-cmfac"} <= reply.losses.keys()
    assert not np.array_equal(reply.shared[SHARED_PROMPT], shared[SHARED_PROMPT])
    first = client.stored(1).private
    trained(client, 2, reply.shared)
    second = client.stored(2).private
    assert first is not None and second is not None and not np.array_equal(first, second)


def test_evaluating_what_arrived_takes_no_forward_pass_of_its_own(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(client, 1, shared_prompt())
    passes = 0
    encode = PackedTextEncoder.__call__

    def counting(encoder: PackedTextEncoder, prompts: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        return encode(encoder, prompts)

    monkeypatch.setattr(PackedTextEncoder, "__call__", counting)
    reply = trained(client, 2, shared_prompt())
    assert reply.correct and passes == reply.num_steps == 2


def test_no_message_is_near_a_private_prompt(client: Client) -> None:
    client.overrides = ("optimizer.local_epochs=3",)
    shared = shared_prompt()
    for server_round in range(1, 5):
        received = shared
        reply = trained(client, server_round, received)
        shared = reply.shared
        for number in range(1, server_round + 1):
            if number <= server_round - 3:
                continue
            private = client.stored(number).private
            for sent in (received, shared):
                assert np.abs(sent[SHARED_PROMPT] - private).max() > 1e-3


def test_two_runs_are_equal_in_bits(client: Client) -> None:
    def run(name: str) -> tuple[bytes, bytes]:
        shared = shared_prompt()
        for server_round in (1, 2):
            message = client.train(server_round, shared, run=name)
            reply = unpack_round_reply(message.content, SHAPES)
            shared = reply.shared
        private = client.stored(2, name).private
        assert private is not None
        return shared[SHARED_PROMPT].tobytes(), private.tobytes()

    assert run("run-1") == run("run-2")


def test_clients_start_from_different_private_prompts(client: Client) -> None:
    other = replace(client, node={"partition-id": 1})
    other_name = replace(client, node={"client-name": "north"})
    for one in (client, other, other_name):
        one.overrides = ("optimizer.lr=1e-9", "prompt.private_init=random")
        trained(one, 1, shared_prompt())
    starts = [
        client.stored(1).private,
        replace(client, node={"client-name": "north"}).stored(1).private,
    ]
    assert starts[0] is not None and starts[1] is not None
    assert np.abs(starts[0] - starts[1]).max() > 1e-3
    assert paths.private_dir("demo", RUN, "client-1").is_dir()


def test_a_repeated_round_starts_from_the_round_before(client: Client) -> None:
    reply = trained(client, 1, shared_prompt())
    once = trained(client, 2, reply.shared)
    stored = client.stored(2).private
    again = trained(client, 2, reply.shared)
    assert stored is not None
    np.testing.assert_equal(once.shared, again.shared)
    np.testing.assert_array_equal(stored, client.stored(2).private)


def test_evaluation_uses_the_private_prompt_of_its_round(client: Client) -> None:
    client.overrides = ("optimizer.local_epochs=5", "prompt.fusion=fixed", "prompt.beta=1.0")
    start = evaluated(client.evaluate(0, shared_prompt()))
    reply = trained(client, 1, shared_prompt())
    assert reply.correct == start.correct  # evaluated as received, before any training
    after = evaluated(client.evaluate(1, reply.shared))
    following = trained(client, 2, reply.shared)
    assert after.correct == following.correct
    assert not client.evaluate(1, reply.shared).content.array_records


@pytest.mark.parametrize(
    ("method", "shared", "modes", "stores"),
    [
        ("promptfl", True, {"zero-shot", "global", "personalized", "personalized-own"}, False),
        ("local", False, {"zero-shot", "personalized", "personalized-own"}, True),
        ("ensemble", True, {"zero-shot", "global", "personalized", "personalized-own"}, True),
        ("fedotp", True, {"zero-shot", "global", "personalized", "personalized-own"}, True),
        ("fedpgp", True, {"zero-shot", "global", "personalized", "personalized-own"}, True),
    ],
)
def test_methods_send_and_store_what_they_have(
    client: Client, method: str, shared: bool, modes: set[str], stores: bool
) -> None:
    client.overrides = (f"method={method}",)
    sent = shared_prompt() if shared else {}
    reply = trained(client, 1, sent)
    assert bool(reply.shared) == shared
    assert {mode for _, mode in reply.correct} == modes
    assert client.folder().exists() == stores


def test_zero_shot_only_evaluates(client: Client) -> None:
    client.overrides = ("method=zero_shot", "federation.num_rounds=0")
    reply = evaluated(client.evaluate(0, None, final=True))
    assert {mode for _, mode in reply.correct} == {"zero-shot"}
    fails(FailureCode.PROTOCOL, lambda: client.train(1, None), because="nothing to train")


@pytest.mark.parametrize(
    "templates",
    [
        ["a satellite photo of a {}."],
        ["a satellite photo of a {}.", "aerial view of the {}.", "{}"],
    ],
)
def test_zero_shot_weights_are_the_templates_features(
    client: Client, clip_folder: Path, templates: list[str]
) -> None:
    import torch
    from transformers import CLIPModel, CLIPTokenizer

    from client_app.runtime import open_runtime

    tokenizer, clip = (c.from_pretrained(clip_folder) for c in (CLIPTokenizer, CLIPModel))
    single = []
    for template in templates:
        texts = [template.format(name) for name in CLASSES]
        with torch.inference_mode():
            inputs = tokenizer(texts, padding=True, return_tensors="pt")
            output = clip.get_text_features(**inputs).pooler_output
        single.append(torch.nn.functional.normalize(output, dim=-1))
    mean = torch.stack(single).mean(dim=0)
    wanted = torch.nn.functional.normalize(mean, dim=-1).numpy()
    client.overrides = (f"prompt.templates={json.dumps(templates)}",)
    context = client.context
    runtime = open_runtime(context.node_config, client.configuration)
    np.testing.assert_allclose(runtime.text.zero_shot, wanted, atol=1e-5)


def test_the_fusion_weights_are_learned_and_stored(client: Client) -> None:
    client.overrides = ("prompt.fusion=class_gate",)
    trained(client, 1, shared_prompt())
    weight = client.stored(1).weight
    assert weight is not None and weight.shape == (3,) and not np.all(weight == weight[0])


def test_finetuning_happens_in_the_final_evaluation_only(client: Client) -> None:
    client.overrides = (
        "method=promptfl_ft",
        "prompt.finetune_epochs=30",
        "prompt.finetune_lr=0.01",
        "data.val_fraction=0.4",
    )
    before = evaluated(client.evaluate(1, shared_prompt()))
    final = evaluated(client.evaluate(1, shared_prompt(), final=True))
    assert before.correct["val", "personalized"] == before.correct["val", "global"]
    assert final.correct["val", "global"] == before.correct["val", "global"]
    assert final.correct["val", "personalized"] > final.correct["val", "global"]


def test_another_runs_private_prompt_is_the_start_if_asked_for(client: Client) -> None:
    client.train(1, shared_prompt(), run="earlier")
    wanted = client.stored(1, "earlier").private
    following = replace(
        client, overrides=("run.private_init_from=earlier", "optimizer.private_lr=1e-12")
    )
    trained(following, 1, shared_prompt())
    np.testing.assert_array_equal(following.stored(1).private, wanted)
    trained(following, 2, shared_prompt())
    missing = replace(client, overrides=("run.private_init_from=never",))
    fails(
        FailureCode.PRIVATE_STORE,
        lambda: missing.train(1, shared_prompt(), run="run-8"),
        because="holds no private prompt",
    )


def test_equal_starts_are_refused(client: Client) -> None:
    client.given = client.configuration.replace("aerial view of a", "a photo of a")
    fails(
        FailureCode.CONFIGURATION,
        lambda: client.train(1, shared_prompt()),
        because="sending the shared one would send the private one",
    )


def test_a_start_that_is_too_long_is_found_in_the_preparation(client: Client) -> None:
    client.overrides = ("prompt.private_init='an aerial view of many a'",)
    fails(
        FailureCode.CONFIGURATION,
        lambda: client.query("prepare"),
        because="use fewer words",
    )


def test_fedprox_pulls_towards_what_was_received(client: Client) -> None:
    client.overrides = ("method=fedprox", "optimizer.local_epochs=10")

    def distance(mu: float) -> float:
        received = shared_prompt()
        message = client.train(1, received, proximal_mu=mu)
        sent = unpack_round_reply(message.content, SHAPES).shared
        return float(np.linalg.norm(sent[SHARED_PROMPT] - received[SHARED_PROMPT]))

    assert distance(2.0) < 0.9 * distance(0.0)


def test_a_late_message_is_not_trained(client: Client) -> None:
    fails(
        FailureCode.LATE,
        lambda: client.train(1, shared_prompt(), ttl=1e-9),
        because="before training",
    )
    assert not client.folder().exists()


def test_a_result_that_is_late_is_not_written(client: Client) -> None:
    times = iter([9.0, 11.0])  # before and after training
    request = RoundRequest(1, RUN, shared_prompt())
    deadline = Deadline(10.0, now=lambda: next(times))
    with pytest.raises(LateError, match="after training"):
        rounds.train(client.runtime, request, deadline, SiteLog("client-0"))
    assert not list(client.folder().glob("*.safetensors"))


def test_what_training_spoils_is_not_written(client: Client) -> None:
    client.overrides = ("optimizer.lr=1e38",)
    fails(FailureCode.NON_FINITE, lambda: client.train(1, shared_prompt()), because="lower")
    assert not list(client.folder().glob("*.safetensors"))


def test_a_missing_device_is_said(client: Client) -> None:
    client.node = {"device": "cuda:99"}
    fails(FailureCode.DEVICE, lambda: client.query("prepare"), because="device is cuda:99 but")
    client.node = {"device": "abacus"}
    fails(FailureCode.CONFIGURATION, lambda: client.query("prepare"), because="'abacus'")


@pytest.mark.parametrize("number", [0, -1, 1_000_000])
def test_rounds_out_of_range_are_refused(client: Client, number: int) -> None:
    fails(
        FailureCode.PROTOCOL,
        lambda: client.train(number, shared_prompt()),
        because=f"server-round is {number}",
    )


def test_a_run_name_is_no_path(client: Client) -> None:
    fails(
        FailureCode.PROTOCOL,
        lambda: client.train(1, shared_prompt(), run="../../elsewhere"),
        because="run-name is '../../elsewhere'",
    )


def test_a_failure_survives_pickling(client: Client) -> None:
    """Ray may pickle what a handler raises."""
    import pickle

    with pytest.raises(ClientFailure) as caught:
        client.train(0, shared_prompt())
    assert str(pickle.loads(pickle.dumps(caught.value))) == "protocol"
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    assert not isinstance(caught.value, FedRSCLIPError)


WARM = """
import sys
from pathlib import Path
from typing import Any
from tests.unit.client.site_folder import Client, shared_prompt
client = Client(Path(sys.argv[1]), Path(sys.argv[2]), given=sys.argv[3])
client.query("identity")
early = {"torch", "transformers", "datasets", "PIL"} & sys.modules.keys()
client.train(1, shared_prompt())
client.evaluate(1, shared_prompt(), final=True)
unneeded = {"transformers", "datasets", "PIL", "torchvision", "matplotlib", "torch._dynamo"}
unneeded |= {"hydra", "omegaconf", "yaml"}
late = unneeded & sys.modules.keys()
print(sorted(early), sorted(late))
"""


def test_warm_messages_import_only_what_they_need(client: Client) -> None:
    client.query("prepare")
    assert client.data is not None and client.clip is not None
    done = subprocess.run(
        [sys.executable, "-c", WARM, str(client.data), str(client.clip), client.configuration],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
        env=dict(os.environ),
    )
    assert done.stdout.split("\n")[0] == "[] []"


def test_clients_of_a_process_share_what_they_have_in_common(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_out: list[str] = []

    def counted(module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(*arguments: Any) -> Any:
            found_out.append(name)
            return original(*arguments)

        monkeypatch.setattr(module, name, call)

    for module, name in (
        (runtime, "find_clip"),
        (runtime, "config_digest"),
        (federated, "split_source"),
        (federated, "deal"),
    ):
        counted(module, name)
    runtime._OPENED.clear()
    federated._dealt.cache_clear()
    for number in range(6):
        one = replace(
            client,
            overrides=("federation.num_clients=6",),
            node={"partition-id": number, "num-partitions": 6},
        )
        one.query("identity")
        one.query("prepare")
    # Once, however many they are: a simulation would take time in the square of its clients.
    assert sorted(found_out) == ["config_digest", "deal", "find_clip", "split_source"]


def test_a_full_disk_is_told_and_the_work_goes_on_once_there_is_room(
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        monkeypatch.setenv("FEDRSCLIP_HOME", str(disk))
        client.query("prepare")
        shared = trained(client, 1, shared_prompt()).shared
        filler = fill(disk)
        # As in a deployment, where each message is a new process that opens its files again.
        runtime._OPENED.clear()
        for server_round in (2, 3):
            with pytest.raises(ClientFailure) as caught:
                client.train(server_round, shared)
            assert caught.value.code == FailureCode.DISK
        assert "the log of client-0 cannot be written" in capsys.readouterr().err
        filler.unlink()
        runtime._OPENED.clear()
        trained(client, 4, shared)
        files = sorted(p.name for p in disk.rglob("round-*"))
        assert files == ["round-000001.safetensors", "round-000004.safetensors"]


def test_only_the_final_evaluation_leaves_details_at_home(client: Client) -> None:
    kept = paths.evaluations_dir("demo", RUN) / "client-0.json"
    client.evaluate(0, shared_prompt())
    assert not kept.exists()
    reply = evaluated(client.evaluate(0, shared_prompt(), final=True))
    assert kept.stat().st_mode & 0o777 == 0o600
    found = json.loads(kept.read_text())
    assert (found["run"], found["client"], found["round"]) == (RUN, "client-0", 0)
    assert found["class_names"] == list(CLASSES)
    assert found["logit_scale"] > 0
    for (part, mode), correct in reply.correct.items():
        tally = found["parts"][part][mode]
        assert sum(row[c] for c, row in enumerate(tally["confusion"])) == correct
        assert sum(tally["calibration"]["correct"]) == correct
        assert sum(tally["calibration"]["count"]) == reply.total[part]


def test_details_that_cannot_be_kept_do_not_cost_the_answer(client: Client) -> None:
    folder = paths.evaluations_dir("demo", RUN)
    folder.parent.mkdir(parents=True)
    folder.write_text("not a folder")
    assert evaluated(client.evaluate(0, shared_prompt(), final=True)).total["test"] == 3
    log = (paths.logs_dir() / "client-0.log").read_text(encoding="utf-8")
    assert "details of the evaluation were not kept" in log


def deep_images(folder: Path, top: int) -> Path:
    """The images of :func:`make_images` with 16 bits and their bands the other way round."""
    plain = make_images(folder / "plain")
    for file in plain.rglob("*.png"):
        pixels = np.asarray(Image.open(file), np.float64)[..., ::-1]
        target = folder / "deep" / file.relative_to(plain)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(png(np.rint(pixels * top / 255).astype(np.uint16), 2))
    return folder / "deep"


def train_features(client: Client) -> np.ndarray:
    runtime._OPENED.clear()
    client.query("prepare")
    return client.runtime.features("train", SiteLog("client-0")).features


def test_deep_images_are_read_by_the_federations_words_or_the_sites_own(
    client: Client, tmp_path: Path
) -> None:
    expected = train_features(client)
    deep = replace(client, data=deep_images(tmp_path, 3000))
    fails(FailureCode.DATA, lambda: deep.query("prepare"), because="has 3 bands of 16-bit")
    deep.overrides = ("data.bands=[3,2,1]", "data.stretch=[0,3000]")
    features = train_features(deep)
    # Of the same images; which are for training, the order of their names decides in both.
    assert np.abs(features - expected).max() < 1e-5
    log = (paths.logs_dir() / "client-0.log").read_text(encoding="utf-8")
    assert "own words" not in log
    other = replace(deep, data=deep_images(tmp_path / "other", 10000))
    other.node = {"data-stretch": "[0,10000]"}
    assert np.abs(train_features(other) - expected).max() < 1e-5
    identity = unpack_identity(deep.query("identity").content)
    assert unpack_identity(other.query("identity").content) == identity  # it tells nobody
    log = (paths.logs_dir() / "client-0.log").read_text(encoding="utf-8")
    assert "own words (data.bands=[3,2,1] data.stretch=[0,10000]; the federation's: " in log


def test_features_of_one_reading_are_not_taken_for_those_of_another(
    client: Client, tmp_path: Path
) -> None:
    deep = replace(client, data=deep_images(tmp_path, 3000))
    found = []
    for stretch in ("[0,3000]", "minmax", "[0,3000]"):
        deep.overrides = (f"data.stretch={stretch}",)
        found.append(train_features(deep))
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert np.array_equal(found[0], found[2])


def test_a_site_that_cannot_be_read_as_it_says_is_told(client: Client) -> None:
    client.node = {"data-bands": "1,2"}
    because = "data.bands has 2 bands"
    fails(FailureCode.CONFIGURATION, lambda: client.query("identity"), because=because)


def test_the_last_evaluation_sums_what_calibrates_the_shared_prompt(
    client: Client, tmp_path: Path
) -> None:
    here = replace(client, data=make_images(tmp_path / "images", per_class=40))
    shared = shared_prompt()
    told = evaluated(here.evaluate(2, shared, final=True)).cross_entropies
    data = here.runtime.features("val", SiteLog("client-0"))
    encoder, given = here.runtime.text.encoder, here.runtime.given(SiteLog("client-0"))
    classifier = Classifier(shared_features(encoder, shared, given))
    scores = classifier.similarities(data.features)
    pooled = fit_logit_scale(scores, data.labels, encoder.logit_scale)
    factor = fit_factor(np.array(told), CALIBRATION_FACTORS)
    assert factor * encoder.logit_scale == pytest.approx(pooled, rel=0.01)
    assert evaluated(here.evaluate(2, shared)).cross_entropies == ()


def test_of_few_images_or_nothing_shared_no_sums_are_told(client: Client, tmp_path: Path) -> None:
    few = evaluated(client.evaluate(2, shared_prompt(), final=True))
    assert few.total["val"] < FEWEST_CALIBRATING and few.cross_entropies == ()
    many = make_images(tmp_path / "images", per_class=40)
    alone = replace(client, data=many, overrides=("method=local",))
    assert evaluated(alone.evaluate(2, {}, final=True)).cross_entropies == ()
