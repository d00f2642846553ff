"""Whole runs with scripted clients: what is sent, dropped, aggregated and written."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.exit import exit_handler
from safetensors import safe_open

from fedrsclip.bench.inprocess import InProcessGrid
from fedrsclip_core import machine
from fedrsclip_core.config.compose import OVERRIDES_KEY
from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import FedRSCLIPError, RunError
from fedrsclip_core.learning.prompts import random_prompt
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.lines import final_table, round_line
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.wire.messages import (
    EVALUATE,
    PROTOCOL_VERSION,
    QUERY_IDENTITY,
    QUERY_INIT,
    QUERY_PREPARE,
    TRAIN,
    ClientFailure,
    FailureCode,
)
from fedrsclip_core.wire.records import ARRAYS, METRICS, NUM_EXAMPLES, SHARED_PROMPT, pack_init
from server_app import app as server
from server_app.app import RunOutcome, exchange_of, run
from server_app.checkpoint import newest_checkpoint
from server_app.results import RunState
from tests.disks import full_disk
from tests.unit.server.fakes import WIDTH, Clock, Fakes, Handler, small_config

pytestmark = pytest.mark.unit

SHAPE = (4, WIDTH)


def go(fakes: Fakes, lines: list[str] | None = None, *, deployed: bool = False) -> RunOutcome:
    return federate(fakes.grid(deployed=deployed), fakes.config, lines)


def federate(grid: Grid, config: Config, lines: list[str] | None = None) -> RunOutcome:
    """Carry out a run in which no time is lost with waiting."""
    echo = (lines if lines is not None else []).append
    return run(Clock().exchange(grid), config, run_id=7, echo=echo)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def start_prompt(config: Config) -> np.ndarray:
    return random_prompt(*SHAPE, config.prompt.init_std, "shared", config.seed)


def failed(fakes: Fakes, match: str, lines: list[str] | None = None) -> dict[str, Any]:
    """Run, expect a RunError and return the results that were written all the same."""
    with pytest.raises(RunError, match=match) as caught:
        go(fakes, lines)
    results = json.loads((paths.runs_dir() / "test-run" / "results.json").read_text())
    assert results["status"] == "failed"
    assert results["reason"] == str(caught.value)
    return results


# --- a run that goes well ---------------------------------------------------------------------


def test_a_run_averages_by_examples_and_evaluates_each_round_once() -> None:
    fakes = Fakes(small_config())
    outcome = go(fakes)
    # Clients add 1, 2, 3 with weights 10, 20, 30: 14/6 per round.
    assert outcome.shared is not None
    np.testing.assert_allclose(
        outcome.shared, start_prompt(fakes.config) + 2 * 14 / 6, rtol=0, atol=1e-5
    )
    assert [(kind, r) for kind, p, r, _ in fakes.seen if p == 0] == [
        (EVALUATE, 0),
        (TRAIN, 1),
        (TRAIN, 2),
        (EVALUATE, 2),
    ]
    assert fakes.finals == [False] * 3 + [True] * 3


def test_sites_are_sent_to_at_once_and_simulated_clients_some_at_a_time() -> None:
    at_once = max(16, 4 * machine.available_cpus())
    shared = []
    for deployed, largest in ((False, at_once), (True, at_once + 4)):
        config = small_config(num_clients=at_once + 4)
        config.run.name = f"deployed-{deployed}"
        fakes = Fakes(config, num_clients=at_once + 4)
        exchange = exchange_of(fakes.grid(deployed=deployed))
        shared.append(run(exchange, config, run_id=7, echo=lambda line: None).shared)
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
    assert json.loads((outcome.folder / "digests.json").read_text())["split"] == "split-a"
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
        np.testing.assert_array_equal(file.get_tensor(SHARED_PROMPT), outcome.shared)
        metadata = file.metadata()
    assert json.loads(metadata["class_names"]) == ["forest", "harbor", "river"]
    assert json.loads(metadata["words"]) == ["forest", "harbor", "river"]
    assert metadata["clip"] == "clip-a"
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
    np.testing.assert_array_equal(newest.progress.shared, outcome.shared)


def test_two_runs_are_equal_in_bits_whatever_the_order_of_the_nodes() -> None:
    config = small_config(fraction_train=0.7, num_rounds=3)
    first = Fakes(config)
    second = Fakes(replace_run(config, "other"), node_offset=1)
    shared, again = go(first).shared, go(second).shared
    assert shared is not None
    assert again is not None
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
    np.testing.assert_array_equal(outcome.shared, np.full(SHAPE, 0.5, np.float32))


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
    assert outcome.shared is None
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
    test = records(go(Fakes(small_config(), scripts=scripts)).folder)[1]
    assert test["clients_without_images"] == {"val": 0, "test": 1}
    assert test["test"]["images"] == 20
    assert test["test"]["personalized"]["mean"] == pytest.approx((0.2 + 0.3) / 2)


def test_counts_that_clients_do_not_tell_are_not_in_the_results() -> None:
    fakes = Fakes(small_config(num_rounds=1))
    fakes.identities = {p: {"label_counts": ()} for p in range(3)}
    assert go(fakes).results["clients"][0]["label_counts"] is None


# --- replies outside the contract -------------------------------------------------------------


def counts(changes: dict[str, int]) -> Handler:
    def handler(partition, message, answer):  # type: ignore[no-untyped-def]
        for key, value in changes.items():
            answer[METRICS][key] = value
        return answer

    return handler


def arrays(change: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Handler:
    def handler(partition, message, answer):  # type: ignore[no-untyped-def]
        value = answer[ARRAYS][SHARED_PROMPT].numpy()
        answer[ARRAYS] = ArrayRecord({k: Array(v) for k, v in change(value).items()})
        return answer

    return handler


def extra_record(partition, message, answer):  # type: ignore[no-untyped-def]
    answer["pixels"] = MetricRecord({"x": 1})
    return answer


def no_records(partition, message, answer):  # type: ignore[no-untyped-def]
    return RecordDict()


def raise_failure(partition, message, answer):  # type: ignore[no-untyped-def]
    raise ClientFailure(FailureCode.PRIVATE_STORE)


def raise_secret(partition, message, answer):  # type: ignore[no-untyped-def]
    raise ValueError("/home/secret")


BAD = {
    "keys": (arrays(lambda v: {"private_prompt": v}), "bad-reply: arrays are {private_prompt}"),
    "extra tensor": (
        arrays(lambda v: {SHARED_PROMPT: v, "gate": v}),
        "bad-reply: arrays are {gate",
    ),
    "shape": (arrays(lambda v: {SHARED_PROMPT: v[:2].copy()}), "bad-reply: the shared prompt"),
    "dtype": (arrays(lambda v: {SHARED_PROMPT: v.astype(np.float64)}), "bad-reply: the shared"),
    "nan": (arrays(lambda v: {SHARED_PROMPT: v * np.float32("nan")}), "bad-reply: the shared"),
    "infinity": (arrays(lambda v: {SHARED_PROMPT: v + np.float32("inf")}), "bad-reply: the shared"),
    "huge norm": (
        arrays(lambda v: {SHARED_PROMPT: v + np.float32(1e30)}),
        "bad-reply: the shared prompt's norm is 5.66e+30, federation.max_prompt_norm is 1000",
    ),
    "larger": (
        arrays(lambda v: {SHARED_PROMPT: np.zeros((100, 500), np.float32)}),
        "bad-reply: the shared prompt is not declared",
    ),
    "huge": (
        arrays(lambda v: {SHARED_PROMPT: np.zeros((2000, 500), np.float32)}),
        "bad-reply: it has 4000128 bytes of arrays",
    ),
    "record": (extra_record, "bad-reply: records are {arrays, metrics, pixels}"),
    "empty": (no_records, "bad-reply: records are {}"),
    "metric": (counts({"free-text": 1}), "bad-reply: unknown metric 'free-text'"),
    "no examples": (counts({NUM_EXAMPLES: 0}), "bad-reply: num-examples is 0"),
    "too many examples": (counts({NUM_EXAMPLES: 10**6}), "bad-reply: num-examples is 1000000"),
    "failure": (raise_failure, "private-store"),
    "exception": (raise_secret, "internal"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_reply_is_dropped_named_and_not_aggregated(case: str) -> None:
    script, reason = BAD[case]
    fakes = Fakes(small_config(num_rounds=1), scripts={(TRAIN, 1): script})
    lines: list[str] = []
    outcome = go(fakes, lines)
    assert outcome.shared is not None
    np.testing.assert_allclose(
        outcome.shared, start_prompt(fakes.config) + (1 * 10 + 3 * 30) / 40, atol=1e-5
    )
    record = records(outcome.folder)[1]
    assert record["clients"]["asked"] == 3
    assert record["clients"]["valid"] == 2
    assert record["clients"]["dropped"].keys() == {"client-1"}
    assert record["clients"]["dropped"]["client-1"].startswith(reason)
    code = reason.split(":")[0]
    assert outcome.results["dropped"] == {"total": 1, "clients": {"client-1": {code: 1}}}
    assert any("dropped client client-1" in line for line in lines)
    assert "secret" not in "".join(lines) + (outcome.folder / "results.json").read_text()


def test_a_missing_reply_is_a_timeout() -> None:
    fakes = Fakes(small_config(num_rounds=1), silent={(TRAIN, 2)})
    record = records(go(fakes).folder)[1]
    assert record["clients"]["dropped"] == {"client-2": "timeout"}
    assert record["seconds"] == pytest.approx(0.3)


# --- runs that cannot go on -------------------------------------------------------------------


class Restarting(InProcessGrid):
    """Node 1001 goes away before round 2's train message and is back as 2001 before round 4's."""

    rounds = 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        if messages and messages[0].metadata.message_type == TRAIN:
            self.rounds += 1
        if self.rounds == 1 and 1001 in self.contexts:
            ids = list(super().push_messages(messages))
            self._gone = self.contexts.pop(1001)
            return ids
        if self.rounds == 3 and 2001 not in self.contexts:
            self.contexts[2001] = self._gone
            self.contexts[3001] = self.contexts[1000]  # a stranger who uses another's name
        return super().push_messages(messages)


def test_a_client_that_restarts_takes_part_again() -> None:
    fakes = Fakes(small_config(num_rounds=5))
    nodes = [{"partition-id": p, "num-partitions": 3} for p in range(3)]
    grid = Restarting(fakes.app(), nodes)
    outcome = federate(grid, fakes.config)
    asked = [record["clients"]["asked"] for record in records(outcome.folder)]
    assert asked == [0, 3, 2, 2, 3, 3]
    assert outcome.results["dropped"]["total"] == 0


class Outage(InProcessGrid):
    """All nodes go away after round 1's train messages; looked for often enough, they return."""

    looks: int | None = None
    looks_needed = 4

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        ids = list(super().push_messages(messages))
        train = any(message.metadata.message_type == TRAIN for message in messages)
        if train and self.looks is None:
            self.looks, self._gone, self.contexts = 0, self.contexts, {}
        return ids

    def get_node_ids(self) -> Iterable[int]:
        if self.looks is not None:
            self.looks += 1
            if self.looks == self.looks_needed:
                self.contexts = {node_id + 1000: c for node_id, c in self._gone.items()}
        return super().get_node_ids()


def outage(config: Config, looks_needed: int, lines: list[str]) -> RunOutcome:
    fakes = Fakes(config)
    nodes = [{"partition-id": p, "num-partitions": 3} for p in range(3)]
    grid = Outage(fakes.app(), nodes)
    grid.looks_needed = looks_needed
    return federate(grid, config, lines)


def test_the_run_waits_for_clients_that_are_all_gone() -> None:
    lines: list[str] = []
    outcome = outage(small_config(num_rounds=3, round_timeout=60.0), 100, lines)
    waiting = "waiting for clients: 0 of 3 can be asked, at least 1 needed"
    assert any(waiting in line for line in lines)
    assert outcome.results["failed_rounds"] == []
    assert [r["clients"]["valid"] for r in records(outcome.folder)] == [0, 3, 3, 3]


def test_a_run_whose_clients_stay_away_ends_at_its_limit_with_a_checkpoint() -> None:
    config = small_config(num_rounds=9, max_failed_rounds=2, round_timeout=0.2)
    with pytest.raises(RunError, match="2 rounds in a row failed"):
        outage(config, 10**9, [])
    newest = newest_checkpoint(RunFolder.named("test-run"), print)
    assert newest is not None and newest.progress.server_round == 3


def test_too_few_replies_for_several_rounds_end_the_run_with_a_checkpoint() -> None:
    config = small_config(num_rounds=9, min_replies=2, max_failed_rounds=2)
    scripts = {(TRAIN, p): raise_failure for p in (0, 1)}
    results = failed(Fakes(config, scripts=scripts), "2 rounds in a row failed.*private-store")
    assert results["failed_rounds"] == [1, 2]
    assert results["rounds"] == 2
    folder = paths.runs_dir() / "test-run"
    newest = newest_checkpoint(RunFolder(folder), print)
    assert newest is not None and newest.progress.server_round == 2
    assert newest.progress.failed_rounds == 2
    with safe_open(folder / "shared_prompt.safetensors", framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor(SHARED_PROMPT), start_prompt(config))
    assert "FAILED" in final_table(results)


def test_a_failed_round_keeps_the_prompt_and_the_run_goes_on() -> None:
    def once(partition, message, answer):  # type: ignore[no-untyped-def]
        if message.content["config"]["server-round"] == 1:
            raise ClientFailure(FailureCode.DISK)
        return answer

    config = small_config(min_replies=3)
    outcome = go(Fakes(config, scripts={(TRAIN, 0): once}))
    assert outcome.results["failed_rounds"] == [1]
    assert outcome.shared is not None
    np.testing.assert_allclose(outcome.shared, start_prompt(config) + 14 / 6, atol=1e-5)


def test_nobody_connects() -> None:
    results = failed(Fakes(small_config(connect_timeout=0.3), num_clients=0), "0 of at least 1")
    assert results["clients"] == []


def test_an_interrupt_is_recorded_and_passed_on() -> None:
    def interrupt(partition, message, answer):  # type: ignore[no-untyped-def]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(Fakes(small_config(), scripts={(TRAIN, 0): interrupt}))
    results = json.loads((paths.runs_dir() / "test-run" / "results.json").read_text())
    assert results["reason"] == "the run was stopped"
    assert results["initial"]["round"] == 0


def test_a_stop_that_reaches_another_thread_is_recorded_at_once() -> None:
    file = paths.runs_dir() / "test-run" / "results.json"

    def stop(partition, message, answer):  # type: ignore[no-untyped-def]
        if not file.exists():
            exit_handler.trigger_exit_handlers(run_before_force_exit=True)
        assert json.loads(file.read_text())["reason"] == "the run was stopped"
        return answer

    go(Fakes(small_config(), scripts={(TRAIN, 0): stop}))
    assert json.loads(file.read_text())["status"] == "failed"


def test_a_process_keeps_nothing_of_a_run_that_has_ended() -> None:
    go(Fakes(small_config()))
    handlers = len(exit_handler.registered_exit_handlers)
    for name in ("second", "third"):
        config = small_config()
        config.run.name = name
        go(Fakes(config))
    assert len(exit_handler.registered_exit_handlers) == handlers
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, RunState)]


def test_a_full_disk_in_the_middle_is_a_sentence_and_loses_no_round() -> None:
    lines = count()
    with full_disk(lambda name: name == "metrics.jsonl" and next(lines) == 1):
        results = failed(Fakes(small_config()), "cannot be written.*free some space")
    assert results["initial"]["round"] == 0
    folder = paths.runs_dir() / "test-run"
    assert [record["round"] for record in records(folder)] == [0]
    newest = newest_checkpoint(RunFolder(folder), print)
    assert newest is not None and newest.progress.server_round == 1


def test_a_deployment_waits_for_room_on_a_full_disk() -> None:
    said: list[str] = []
    checkpoints = count()
    with full_disk(lambda name: name.startswith(".round-") and next(checkpoints) == 0):
        go(Fakes(small_config(connect_timeout=30.0)), said, deployed=True)
    assert any("is full (No space left on device): waiting for room" in line for line in said)
    assert any(line.startswith("there is room again") for line in said)
    assert [record["round"] for record in records(paths.runs_dir() / "test-run")] == [0, 1, 2]


def test_results_that_cannot_be_written_do_not_hide_the_reason() -> None:
    lines: list[str] = []
    with (
        full_disk(lambda name: name.startswith(".results.json")),
        pytest.raises(RunError, match="cannot be written"),
    ):
        go(Fakes(small_config()), lines)
    assert any("were not written" in line for line in lines)


def test_a_full_disk_before_the_start_is_a_sentence() -> None:
    with full_disk(), pytest.raises(RunError, match="cannot be written"):
        go(Fakes(small_config()))


def following(**run: object) -> Config:
    """Return the configuration of a run that starts from ``test-run``'s shared prompt."""
    config = small_config()
    config.run.name, config.run.shared_init_from = "second", "test-run"
    for name, value in run.items():
        setattr(config.run, name, value)
    return config


def test_a_run_starts_from_another_ones_shared_prompt() -> None:
    first = go(Fakes(small_config())).shared
    second = go(Fakes(following())).shared
    assert first is not None and second is not None
    np.testing.assert_allclose(second, first + 2 * 14 / 6, rtol=0, atol=1e-5)


def test_a_run_to_start_from_must_be_there_whole_and_of_the_same_clip() -> None:
    def refused(match: str, config: Config, **fakes: Any) -> None:
        with pytest.raises(RunError, match=match):
            go(Fakes(config, **fakes))

    refused("is not there", following())
    folder = go(Fakes(small_config())).folder
    longer = following(name="third")
    longer.prompt.n_ctx = 5
    refused(r"holds float32 \(4, 8\), expected float32 \(5, 8\)", longer)
    config = following(name="fourth")
    digests = {"code": server.digests.code_digest(), "classes": "c", "split": "s", "clip": "other"}
    digests["config"] = server.digests.config_digest(config)
    others = {p: {"digests": digests} for p in range(3)}
    refused("another CLIP", config, identities=others)
    (folder / "shared_prompt.safetensors").write_bytes(b"x")
    refused("is damaged", following(name="fifth"))


def test_another_start_of_the_shared_prompt_names_the_odd_client() -> None:
    config = small_config()
    config.prompt.shared_init = "a photo of a"

    def other(partition, message, answer):  # type: ignore[no-untyped-def]
        return pack_init(np.full(SHAPE, np.nextafter(np.float32(0.5), 1), np.float32))

    failed(Fakes(config, scripts={(QUERY_INIT, 1): other}), "client-1 found another start")


# --- who may take part ------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["clip", "classes", "split"])
def test_a_client_with_another_digest_is_refused_by_part(part: str) -> None:
    fakes = Fakes(small_config(num_rounds=1))
    honest = fakes.config
    fakes.identities[0] = {"digests": digests_of(honest) | {part: "odd"}}
    lines: list[str] = []
    outcome = go(fakes, lines, deployed=True)
    assert outcome.results["refused"].keys() == {"client-0"}
    assert f"its {part} differs" in outcome.results["refused"]["client-0"]
    assert len(outcome.results["clients"]) == 2
    assert any(f"client client-0 is refused: its {part}" in line for line in lines)


def test_a_site_without_a_split_digest_is_welcome() -> None:
    fakes = Fakes(small_config(num_rounds=1))
    fakes.identities[0] = {"digests": digests_of(fakes.config) | {"split": ""}}
    assert go(fakes).results["refused"] == {}


@pytest.mark.parametrize(("part", "word"), [("code", "code"), ("config", "configuration")])
def test_stale_code_in_a_simulation_names_the_daemon(part: str, word: str) -> None:
    fakes = Fakes(small_config())
    fakes.identities[2] = {"digests": digests_of(fakes.config) | {part: "stale"}}
    failed(fakes, f"another {word} than the server.*flower-superlink")


def test_other_code_in_a_deployment_refuses_that_client() -> None:
    fakes = Fakes(small_config(num_rounds=1))
    fakes.identities[2] = {"digests": digests_of(fakes.config) | {"code": "old"}}
    outcome = go(fakes, deployed=True)
    assert "its code differs from the server's" in outcome.results["refused"]["client-2"]


def test_another_protocol_and_another_width_are_refused() -> None:
    fakes = Fakes(small_config(num_rounds=1), num_clients=4)
    fakes.identities[0] = {"protocol": PROTOCOL_VERSION + 1}
    fakes.identities[1] = {"width": WIDTH + 1}
    refused = go(fakes, deployed=True).results["refused"]
    assert f"protocol {PROTOCOL_VERSION + 1}" in refused["client-0"]
    assert f"text width is {WIDTH + 1}" in refused["client-1"]


def test_double_names_and_partitions_are_refused() -> None:
    fakes = Fakes(small_config(num_rounds=1), num_clients=5)
    fakes.identities[1] = {"client_name": "client-0"}
    fakes.identities[3] = {"partition_id": 2}
    outcome = go(fakes, deployed=True)
    refused = outcome.results["refused"]
    assert {"client-0", "client-2", "client-3"} <= refused.keys()
    assert "2 clients have this name" in refused["client-0"]
    assert "partition-id 2" in refused["client-2"]
    assert [client["name"] for client in outcome.results["clients"]] == ["client-4"]


def test_an_unusable_client_name_is_refused() -> None:
    fakes = Fakes(small_config(num_rounds=1))
    fakes.identities[0] = {"client_name": "../x"}
    assert "client-name" in go(fakes, deployed=True).results["refused"]["../x"]


def test_too_few_clients_end_the_run_with_their_reasons() -> None:
    fakes = Fakes(
        small_config(min_clients=3),
        scripts={(QUERY_PREPARE, 1): raise_failure, (QUERY_IDENTITY, 2): raise_secret},
    )
    lines: list[str] = []
    results = failed(fakes, r"2 clients can take part, the run needs 3", lines)
    assert "internal" in results["reason"]
    assert "secret" not in json.dumps(results)


def test_a_client_that_cannot_prepare_is_left_out() -> None:
    fakes = Fakes(small_config(num_rounds=1), scripts={(QUERY_PREPARE, 1): raise_failure})
    outcome = go(fakes, deployed=True)
    assert "query.prepare failed there (private-store)" in outcome.results["refused"]["client-1"]
    assert {p for _, p, _, _ in fakes.seen} == {0, 2}


def test_a_simulation_does_not_go_on_without_one_of_its_clients() -> None:
    fakes = Fakes(
        small_config(min_clients=1), num_clients=2, scripts={(QUERY_PREPARE, 1): raise_failure}
    )
    results = failed(fakes, r"1 clients can take part, the run needs 2 .client-1: .*private-store")
    assert results["initial"] is None
    assert TRAIN not in {kind for kind, *_ in fakes.seen}


def test_another_number_of_nodes_than_configured_is_said() -> None:
    lines: list[str] = []
    go(Fakes(small_config(num_rounds=1), num_clients=2), lines)
    assert any("num_clients is 3, but 2 clients are there" in line for line in lines)


def digests_of(config: Config) -> dict[str, str]:
    from tests.unit.server.fakes import identity

    return dict(identity(0, config).digests)


def replace_run(config: Config, name: str) -> Config:
    return replace(config, run=replace(config.run, name=name))


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
