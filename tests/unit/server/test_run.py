"""Whole runs with scripted clients: what is sent, aggregated and written."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from fedrsclip_core import machine
from fedrsclip_core.config.compose import OVERRIDES_KEY
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import (
    SHARED_OFFSETS,
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
)
from fedrsclip_core.errors import FedRSCLIPError, RunError
from fedrsclip_core.runs.fileio import sha256_of
from fedrsclip_core.runs.lines import final_table, round_line
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.runs.shared_prompt import read_shared_prompt
from fedrsclip_core.wire.messages import (
    CALIBRATION_FACTORS,
    EVALUATE,
    QUERY_INIT,
    TRAIN,
    ClientFailure,
    FailureCode,
)
from fedrsclip_core.wire.records import CONFIG, METRICS, pack_init
from server_app import app as server
from server_app.app import exchange_of, run
from server_app.checkpoint import newest_checkpoint
from tests.unit.server.fake_runs import SHAPE, counts, failed, go, records, start_prompt
from tests.unit.server.fakes import DIM, WIDTH, Clock, Fakes, Handler, identity, small_config

pytestmark = pytest.mark.unit


# --- a run that goes well ---------------------------------------------------------------------


def test_a_run_averages_by_examples_and_evaluates_each_round_once() -> None:
    fakes = Fakes(small_config())
    outcome = go(fakes)
    # Clients add 1, 2, 3 with weights 10, 20, 30: 14/6 per round.
    np.testing.assert_allclose(
        outcome.shared[SHARED_PROMPT], start_prompt(fakes.config) + 2 * 14 / 6, rtol=0, atol=1e-5
    )
    assert [(kind, r) for kind, p, r, _ in fakes.seen if p == 0] == [
        (EVALUATE, 0),
        (TRAIN, 1),
        (TRAIN, 2),
        (EVALUATE, 2),
    ]
    assert fakes.finals == [False] * 3 + [True] * 3


def telling(value: float) -> Handler:
    """Tell, in the last evaluation, of confidences that fit at ``value`` times CLIP's scale."""

    def handler(partition, message, answer):  # type: ignore[no-untyped-def]
        if message.content[CONFIG]["final"]:
            log = np.log(np.array(CALIBRATION_FACTORS) / value)
            answer[METRICS]["val-global-cross-entropies"] = [float(x) for x in 50 + 20 * log**2]
        return answer

    return handler


def test_the_last_evaluation_calibrates_the_shared_prompt() -> None:
    config = small_config(num_rounds=1)
    many = {partition: {"num_val": 10, "num_test": 10} for partition in range(3)}
    scripts = {(EVALUATE, p): telling(v) for p, v in ((0, 0.5), (2, 2.0))}
    with_ten = {key: then(counts({"val-total": 10}), script) for key, script in scripts.items()}
    with_ten[EVALUATE, 1] = counts({"val-total": 10})
    with_ten |= {(TRAIN, p): counts({"val-total": 10}) for p in range(3)}
    outcome = go(Fakes(config, scripts=with_ten, identities=many))
    saved = read_shared_prompt(outcome.folder / "shared_prompt.safetensors")
    # One client's sums ask for half, another's for double, a third has told none.
    assert saved.calibrated_factor == pytest.approx(1.0)
    assert outcome.results["calibrated_factor"] == saved.calibrated_factor
    assert not outcome.results["dropped"]["total"]


def then(first: Handler, second: Handler) -> Handler:
    return lambda partition, message, answer: second(
        partition, message, first(partition, message, answer)
    )


def test_without_such_sums_nothing_is_calibrated() -> None:
    outcome = go(Fakes(small_config(num_rounds=1)))
    saved = read_shared_prompt(outcome.folder / "shared_prompt.safetensors")
    assert saved.calibrated_factor is None and outcome.results["calibrated_factor"] is None


def test_sites_are_sent_to_at_once_and_simulated_clients_some_at_a_time() -> None:
    at_once = max(16, 4 * machine.available_cpus())
    shared = []
    for deployed, largest in ((False, at_once), (True, at_once + 4)):
        config = small_config(num_clients=at_once + 4)
        config.run.name = f"deployed-{deployed}"
        fakes = Fakes(config, num_clients=at_once + 4)
        exchange = exchange_of(fakes.grid(deployed=deployed))
        shared.append(run(exchange, config, run_id=7, echo=lambda line: None).shared[SHARED_PROMPT])
        assert max(fakes.sent) == largest
    np.testing.assert_array_equal(*shared)


def test_a_record_holds_the_figures_of_its_round() -> None:
    folder = go(Fakes(small_config())).folder
    first, second, last = records(folder)
    assert [r["round"] for r in (first, second, last)] == [0, 1, 2]
    assert first["test"]["zero_shot"] == 0.1
    assert second["test"]["zero_shot"] is None
    assert second["clients"] == {"asked": 3, "valid": 3, "dropped": {}}
    assert second["num_examples"] == 60
    assert second["loss"]["loss"] == pytest.approx((10 * 1 + 20 * 2 + 30 * 3) / 60)
    assert second["sampled"] is False
    personal = second["test"]["personalized"]
    assert personal["mean"] == pytest.approx(0.2)
    assert personal["pooled"] == pytest.approx(0.2)
    assert (personal["worst"], personal["best"]) == (0.1, 0.3)
    assert personal["std"] == pytest.approx(np.std([0.1, 0.2, 0.3]))
    assert second["test"]["global"] == pytest.approx(0.2)
    assert second["test"]["personalized_own"]["mean"] == pytest.approx(0.4)
    assert second["bytes"]["down"]["payload"] == 3 * 4 * WIDTH * 4
    assert second["bytes"]["up"]["payload"] == 3 * 4 * WIDTH * 4
    assert second["bytes"]["up"]["message"] > second["bytes"]["up"]["payload"]
    assert second["bytes"]["clients"].keys() == {"client-0", "client-1", "client-2"}
    assert last["final"] is True


def test_a_run_leaves_its_folder() -> None:
    config = small_config()
    config.model.path = "/somewhere/of/this/site"
    outcome = go(Fakes(config))
    assert {path.name for path in outcome.folder.iterdir()} == {
        ".lock",
        "run.json",
        "config.yaml",
        "digests.json",
        "metrics.jsonl",
        "results.json",
        "shared_prompt.safetensors",
        "checkpoint",
    }
    for name in ("config.yaml", "run.json"):
        assert "/somewhere" not in (outcome.folder / name).read_text()
    assert json.loads((outcome.folder / "digests.json").read_text())["split"] == sha256_of("split")
    results = json.loads((outcome.folder / "results.json").read_text())
    assert results == outcome.results
    assert results["status"] == "completed"
    assert results["zero_shot"] == {"val": 0.2, "test": 0.1}
    assert results["last"]["round"] == 2
    assert [client["name"] for client in results["clients"]] == [f"client-{p}" for p in range(3)]
    assert results["clients"][1]["last"]["test"]["personalized"] == 0.2
    assert results["dropped"]["total"] == 0
    assert results["versions"]["flwr"]


def test_the_shared_prompt_file_is_enough_to_predict_with() -> None:
    outcome = go(Fakes(small_config()))
    with safe_open(outcome.folder / "shared_prompt.safetensors", framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor(SHARED_PROMPT), outcome.shared[SHARED_PROMPT])
        metadata = file.metadata()
    assert json.loads(metadata["class_names"]) == ["forest", "harbor", "river"]
    assert json.loads(metadata["words"]) == ["forest", "harbor", "river"]
    assert metadata["clip"] == sha256_of("clip")
    assert metadata["round"] == "2"
    assert json.loads(metadata["templates"]) == ["a satellite photo of a {}."]


def test_the_last_three_checkpoints_are_kept() -> None:
    config = small_config(num_rounds=4)
    outcome = go(Fakes(config))
    folder = outcome.folder / "checkpoint"
    names = [f"round-00000{number}.safetensors" for number in (2, 3, 4)]
    assert sorted(path.name for path in folder.iterdir()) == names
    newest = newest_checkpoint(RunFolder(outcome.folder), print)
    assert newest is not None and newest.progress.server_round == 4
    np.testing.assert_equal(newest.progress.shared, outcome.shared)


def test_two_runs_are_equal_in_bits_whatever_the_order_of_the_nodes() -> None:
    config = small_config(fraction_train=0.7, num_rounds=3)
    first = Fakes(config)
    second = Fakes(replace_run(config, "other"), node_offset=1)
    shared, again = (go(fakes).shared[SHARED_PROMPT] for fakes in (first, second))
    assert shared.tobytes() == again.tobytes()
    assert first.seen == second.seen


def test_messages_go_out_in_partition_order() -> None:
    fakes = Fakes(small_config(), node_offset=2)
    go(fakes)
    assert [p for kind, p, r, _ in fakes.seen if kind == TRAIN and r == 1] == [0, 1, 2]


def test_a_second_run_of_the_same_name_is_refused_and_changes_nothing() -> None:
    outcome = go(Fakes(small_config()))
    before = (outcome.folder / "results.json").read_bytes()
    with pytest.raises(RunError, match=r"choose another run\.name"):
        run(Clock().exchange(Fakes(small_config()).grid()), small_config(), run_id=8)
    assert (outcome.folder / "results.json").read_bytes() == before


def test_words_are_asked_from_the_clients() -> None:
    config = small_config(num_rounds=0)
    config.prompt.shared_init = "a photo of a"
    outcome = go(Fakes(config))
    np.testing.assert_array_equal(outcome.shared[SHARED_PROMPT], np.full(SHAPE, 0.5, np.float32))


def test_class_offsets_start_at_the_server_from_zero() -> None:
    config = small_config(num_rounds=0)
    config.prompt.shared_offsets = "full"
    start = go(Fakes(config)).shared
    np.testing.assert_array_equal(start[SHARED_OFFSETS], np.zeros((3, DIM), np.float32))
    np.testing.assert_array_equal(start[SHARED_PROMPT], start_prompt(config))


def test_class_offsets_of_a_rank_start_as_a_product_that_is_zero() -> None:
    starts = []
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        config = small_config(num_rounds=0)
        config.prompt.shared, config.prompt.shared_offsets = False, "rank:2"
        config.run.name, config.seed = name, seed
        starts.append(go(Fakes(config)).shared)
    assert list(starts[0]) == [SHARED_OFFSETS_U, SHARED_OFFSETS_V]
    u, again, other = (start[SHARED_OFFSETS_U] for start in starts)
    assert u.shape == (3, 2) and u.any() and u.dtype == np.float32
    assert not starts[0][SHARED_OFFSETS_V].any() and starts[0][SHARED_OFFSETS_V].shape == (2, DIM)
    assert u.tobytes() == again.tobytes() != other.tobytes()


def test_all_that_is_shared_is_averaged_kept_and_counted() -> None:
    config = small_config()
    config.prompt.shared_offsets = "full"
    outcome = go(Fakes(config))
    np.testing.assert_allclose(outcome.shared[SHARED_OFFSETS], 2 * 14 / 6, atol=1e-5)
    newest = newest_checkpoint(RunFolder(outcome.folder), print)
    assert newest is not None
    np.testing.assert_equal(newest.progress.shared, outcome.shared)
    left = read_shared_prompt(RunFolder(outcome.folder).shared_prompt)
    np.testing.assert_equal(left.shared, outcome.shared)
    traffic = records(outcome.folder)[1]["bytes"]
    assert traffic["up"]["payload"] == traffic["down"]["payload"] == 3 * 4 * (4 * WIDTH + 3 * DIM)


@pytest.mark.parametrize(("dtype", "bytes_"), [("float16", 36), ("int8", 30)])
def test_class_offsets_travel_in_the_precision_of_the_run(dtype: str, bytes_: int) -> None:
    config = small_config()
    config.prompt.shared_offsets, config.prompt.shared_offsets_dtype = "full", dtype
    lines: list[str] = []
    outcome = go(Fakes(config), lines)
    # What the server averages and keeps is float32: 14/6 is no number of float16.
    np.testing.assert_allclose(outcome.shared[SHARED_OFFSETS], 2 * 14 / 6, rtol=1e-3)
    assert outcome.shared[SHARED_OFFSETS].dtype == np.float32
    traffic = records(outcome.folder)[1]["bytes"]
    assert traffic["up"]["payload"] == traffic["down"]["payload"] == 3 * (4 * 4 * WIDTH + bytes_)
    said = f"shared_offsets 3 x {DIM} as {dtype} = 50 numbers, {128 + bytes_} B"
    assert any(said in line for line in lines)


def test_fedprox_weight_reaches_the_clients() -> None:
    config = small_config()
    config.strategy.name, config.strategy.proximal_mu = "fedprox", 0.125
    fakes = Fakes(config)
    go(fakes)
    assert {mu for kind, _, _, mu in fakes.seen if kind == TRAIN} == {0.125}
    assert {mu for kind, _, _, mu in fakes.seen if kind == EVALUATE} == {0.0}


# --- methods without a shared prompt ----------------------------------------------------------


def test_local_sends_and_aggregates_nothing() -> None:
    config = small_config()
    config.prompt.shared = False
    fakes = Fakes(config)
    outcome = go(fakes)
    assert not outcome.shared
    assert not (outcome.folder / "shared_prompt.safetensors").exists()
    last = records(outcome.folder)[-1]
    assert last["bytes"]["up"]["payload"] == last["bytes"]["down"]["payload"] == 0
    assert last["test"]["global"] is None
    assert last["test"]["personalized"]["mean"] == pytest.approx(0.2)
    assert [kind for kind, p, _, _ in fakes.seen if p == 0] == [EVALUATE, TRAIN, TRAIN, EVALUATE]


def test_zero_shot_is_one_final_evaluation() -> None:
    config = small_config(num_rounds=0)
    config.prompt.shared = config.prompt.private = False
    fakes = Fakes(config)
    outcome = go(fakes)
    assert [(kind, r) for kind, p, r, _ in fakes.seen if p == 0] == [(EVALUATE, 0)]
    assert fakes.finals == [True] * 3
    assert outcome.results["zero_shot"]["test"] == 0.1


# --- partial participation --------------------------------------------------------------------


def test_sampled_rounds_are_marked_and_all_evaluate_every_few_rounds() -> None:
    fakes = Fakes(small_config(fraction_train=0.5, num_rounds=5, eval_every=2))
    outcome = go(fakes)
    assert [r["sampled"] for r in records(outcome.folder)] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]
    assert {r for kind, _, r, _ in fakes.seen if kind == EVALUATE} == {0, 2, 4, 5}
    assert outcome.results["val_best"]["sampled"] is False


def test_the_best_round_is_chosen_on_validation_images_only() -> None:
    better_val: Handler = counts({"val-personalized-correct": 5, "test-personalized-correct": 0})
    better_test: Handler = counts({"val-personalized-correct": 0, "test-personalized-correct": 9})

    def at_round(wanted: int, special: Handler, otherwise: Handler) -> Handler:
        def handler(partition, message, answer):  # type: ignore[no-untyped-def]
            server_round = message.content["config"]["server-round"]
            chosen = special if server_round == wanted else otherwise
            return chosen(partition, message, answer)

        return handler

    # The train message of round 3 evaluates what round 2 left.
    scripts = {(TRAIN, p): at_round(3, better_val, better_test) for p in range(3)}
    outcome = go(Fakes(small_config(num_rounds=4), scripts=scripts))
    assert outcome.results["val_best"]["round"] == 2
    assert outcome.results["val_best"]["test"]["personalized"]["mean"] == 0.0


def test_only_the_final_evaluation_of_a_finetuned_run_can_be_its_best() -> None:
    config = small_config(num_rounds=3)
    config.prompt.finetune_epochs = 2
    better_val = counts({"val-personalized-correct": 5})
    outcome = go(Fakes(config, scripts={(TRAIN, p): better_val for p in range(3)}))
    assert outcome.results["val_best"] == outcome.results["last"]
    assert outcome.results["val_best"]["final"] is True


def test_clients_without_test_images_are_left_out_and_counted() -> None:
    scripts = {
        (kind, 0): counts(
            {"test-total": 0}
            | {
                f"test-{mode}-correct": 0
                for mode in ("global", "personalized", "personalized-own", "zero-shot")
            }
        )
        for kind in (TRAIN, EVALUATE)
    }
    fakes = Fakes(small_config(), scripts=scripts)
    fakes.identities[0] = {"num_test": 0}
    test = records(go(fakes).folder)[1]
    assert test["clients_without_images"] == {"val": 0, "test": 1}
    assert test["test"]["images"] == 20
    assert test["test"]["personalized"]["mean"] == pytest.approx((0.2 + 0.3) / 2)


def test_counts_that_clients_do_not_tell_are_not_in_the_results() -> None:
    fakes = Fakes(small_config(num_rounds=1))
    fakes.identities = {p: {"label_counts": ()} for p in range(3)}
    assert go(fakes).results["clients"][0]["label_counts"] is None


def replace_run(config: Config, name: str) -> Config:
    return replace(config, run=replace(config.run, name=name))


# --- runs that start from another one's shared prompt -------------------------------------------


def following(**run: object) -> Config:
    """Return the configuration of a run that starts from ``test-run``'s shared prompt."""
    config = small_config()
    config.run.name, config.run.shared_init_from = "second", "test-run"
    for name, value in run.items():
        setattr(config.run, name, value)
    return config


def test_a_run_starts_from_another_ones_shared_prompt() -> None:
    first = go(Fakes(small_config())).shared[SHARED_PROMPT]
    second = go(Fakes(following())).shared[SHARED_PROMPT]
    np.testing.assert_allclose(second, first + 2 * 14 / 6, rtol=0, atol=1e-5)


def test_a_run_takes_all_tensors_of_another_one() -> None:
    first, second = small_config(), following()
    for config in (first, second):
        config.prompt.shared_offsets = "rank:2"
    start, end = go(Fakes(first)).shared, go(Fakes(second)).shared
    for name, tensor in start.items():
        np.testing.assert_allclose(end[name], tensor + 2 * 14 / 6, rtol=0, atol=1e-5)


def test_a_run_to_start_from_must_be_there_whole_and_of_the_same_clip() -> None:
    def refused(match: str, config: Config, **fakes: Any) -> None:
        with pytest.raises(RunError, match=match):
            go(Fakes(config, **fakes))

    refused("is not there", following())
    folder = go(Fakes(small_config())).folder
    longer = following(name="third")
    longer.prompt.n_ctx = 5
    refused(r"holds shared_prompt \(4, 8\), expected shared_prompt \(5, 8\)", longer)
    more = following(name="more")
    more.prompt.shared_offsets = "rank:2"
    refused(r"holds shared_prompt \(4, 8\), expected shared_prompt \(4, 8\), shared_off", more)
    config = following(name="fourth")
    digests = dict(identity(0, config).digests) | {"clip": sha256_of("other")}
    others = {p: {"digests": digests} for p in range(3)}
    refused("another CLIP", config, identities=others)
    (folder / "shared_prompt.safetensors").write_bytes(b"x")
    refused("is damaged", following(name="fifth"))


def test_another_start_of_the_shared_prompt_names_the_odd_client() -> None:
    config = small_config()
    config.prompt.shared_init = "a photo of a"

    def other(partition, message, answer):  # type: ignore[no-untyped-def]
        return pack_init(np.full(SHAPE, np.nextafter(np.float32(0.5), 1), np.float32))

    failed(Fakes(config, scripts={(QUERY_INIT, 1): other}), "client-1: it found another start")


@pytest.mark.parametrize("how", ["other", "failed", "silent"])
def test_no_single_site_decides_or_prevents_the_start_of_a_deployed_run(how: str) -> None:
    config = small_config(prepare_timeout=3600.0, num_rounds=1)
    config.prompt.shared_init = "a photo of a"

    def odd(partition, message, answer):  # type: ignore[no-untyped-def]
        if how == "failed":
            raise ClientFailure(FailureCode.MODEL)
        return pack_init(np.full(SHAPE, np.nextafter(np.float32(0.5), 1), np.float32))

    fakes = Fakes(config, scripts={(QUERY_INIT, 1): odd})
    if how == "silent":
        fakes = Fakes(config, silent={(QUERY_INIT, 1)})
    lines: list[str] = []
    outcome = go(fakes, lines, deployed=True)
    names = [client["name"] for client in outcome.results["clients"]]
    # One that was merely not heard of can train.
    assert ("client-1" in names, len(names)) == ((True, 3) if how == "silent" else (False, 2))
    assert outcome.results["refused"].keys() == (set() if how == "silent" else {"client-1"})
    assert outcome.results["status"] == "completed"


def test_a_start_that_no_majority_found_is_refused() -> None:
    config = small_config(num_clients=2)
    config.prompt.shared_init = "a photo of a"

    def other(partition, message, answer):  # type: ignore[no-untyped-def]
        return pack_init(np.full(SHAPE, np.nextafter(np.float32(0.5), 1), np.float32))

    fakes = Fakes(config, num_clients=2, scripts={(QUERY_INIT, 1): other})
    with pytest.raises(RunError, match="clients client-0, client-1 found different ones"):
        go(fakes, deployed=True)


# --- the app and its reports ------------------------------------------------------------------


def test_lines_and_table_show_the_figures() -> None:
    lines: list[str] = []
    outcome = go(Fakes(small_config()), lines)
    second = round_line(records(outcome.folder)[1])
    assert second in lines
    assert "3/3 clients" in second
    assert "personalized 20.0 (worst 10.0)" in second
    table = final_table(outcome.results)
    assert table in lines
    assert "20.0 ± 8.2" in table


def test_the_server_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from tests.unit.server.fakes import Fakes, small_config\n"
        "from server_app.app import app, exchange_of, run\n"
        "fakes = Fakes(small_config(num_rounds=1))\n"
        "run(exchange_of(fakes.grid()), fakes.config, run_id=1)\n"
        "heavy = {'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_main_prints_one_sentence_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    grid = Fakes(small_config()).grid()
    context = next(iter(grid.contexts.values()))
    context.run_config = {OVERRIDES_KEY: "prompt.nctx=4"}
    with pytest.raises(FedRSCLIPError, match=r"prompt\.nctx") as caught:
        server.app(grid, context)
    assert caught.value.__suppress_context__
    assert capsys.readouterr().out == f"error: {caught.value}\n"
