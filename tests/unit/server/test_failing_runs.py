"""Clients that go away, stops and full disks: what a run survives, and how it ends."""

import gc
import json
from collections.abc import Iterable
from itertools import count

import numpy as np
import pytest
from flwr.app import Message
from flwr.supercore.exit import exit_handler
from safetensors import safe_open

from fedrsclip.simulation.in_process import InProcessGrid
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.lines import final_table
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.wire.messages import TRAIN, ClientFailure, FailureCode
from server_app.app import RunOutcome
from server_app.checkpoint import newest_checkpoint
from server_app.results import RunState
from tests.disks import full_disk
from tests.unit.server.fake_runs import failed, federate, go, raise_failure, records, start_prompt
from tests.unit.server.fakes import Fakes, small_config

pytestmark = pytest.mark.unit


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
    np.testing.assert_allclose(
        outcome.shared[SHARED_PROMPT], start_prompt(config) + 14 / 6, atol=1e-5
    )


def test_nobody_connects() -> None:
    results = failed(Fakes(small_config(connect_timeout=0.3), num_clients=0), "no simulated")
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
    def alive() -> int:
        gc.collect()
        return sum(isinstance(one, RunState) for one in gc.get_objects())

    before = alive()
    go(Fakes(small_config()))
    handlers = len(exit_handler.registered_exit_handlers)
    for name in ("second", "third"):
        config = small_config()
        config.run.name = name
        go(Fakes(config))
    assert len(exit_handler.registered_exit_handlers) == handlers
    assert alive() <= before


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
