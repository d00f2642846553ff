"""Interrupted runs go on where they were, and end as if nothing had happened."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrsclip_core.config.schema import Config, StrategyConfig
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import lock, paths
from fedrsclip_core.runs.fileio import sha256_of
from fedrsclip_core.wire.messages import EVALUATE, QUERY_PREPARE, TRAIN
from server_app.aggregation import AGGREGATORS
from server_app.app import RunOutcome, run
from tests.unit.server.fakes import Clock, Fakes, Handler, identity, small_config

pytestmark = pytest.mark.unit

ROUNDS = 5


class Interrupted(KeyboardInterrupt):
    """Stands for whatever ends a ServerApp."""


def named(name: str, **federation: object) -> Config:
    config = small_config(num_rounds=ROUNDS, **federation)
    config.run.name = name
    return config


def folder(name: str) -> Path:
    return paths.runs_dir() / name


def interrupting(kind: str, server_round: int) -> dict[tuple[str, int], Handler]:
    """Return a script in which the last client is never heard of in one message."""

    def handler(partition, message, answer):  # type: ignore[no-untyped-def]
        if kind == QUERY_PREPARE or message.content["config"]["server-round"] == server_round:
            raise Interrupted
        return answer

    return {(kind, 2): handler}


def go(
    config: Config,
    *,
    run_id: int = 7,
    scripts: dict[tuple[str, int], Handler] | None = None,
    lines: list[str] | None = None,
    changed: dict[int, Any] | None = None,
    clock: Clock | None = None,
    deployed: bool = False,
) -> tuple[RunOutcome, Fakes]:
    fakes = Fakes(config, scripts=scripts or {}, identities=changed or {})
    echo = (lines if lines is not None else []).append
    exchange = (clock or Clock()).exchange(fakes.grid(deployed=deployed))
    return run(exchange, config, run_id=run_id, overrides="seed=0", echo=echo), fakes


def interrupt(config: Config, kind: str = TRAIN, server_round: int = 3, run_id: int = 7) -> None:
    with pytest.raises(Interrupted):
        go(config, scripts=interrupting(kind, server_round), run_id=run_id)


def records(name: str) -> list[dict[str, Any]]:
    lines = (folder(name) / "metrics.jsonl").read_text().splitlines()
    return [comparable(json.loads(line)) for line in lines]


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """Leave out times, and sizes of messages: these hold the run's name, compressed."""
    kept = {key: value for key, value in record.items() if "seconds" not in key}
    return kept | {"bytes": {way: record["bytes"][way]["payload"] for way in ("down", "up")}}


def shared_bits(name: str) -> dict[str, bytes]:
    from safetensors.numpy import load_file

    tensors = load_file(folder(name) / "shared_prompt.safetensors")
    return {tensor: value.tobytes() for tensor, value in tensors.items()}


def assert_equal_runs(one: str, other: str) -> None:
    assert shared_bits(one) == shared_bits(other)
    assert records(one) == records(other)
    texts = [(folder(name) / "results.json").read_text() for name in (one, other)]
    summaries = [comparable(json.loads(text)) for text in texts]
    for part in ("status", "rounds", "clients", "bytes", "failed_rounds", "dropped", "digests"):
        if part == "digests":
            summaries = [s | {"digests": s["digests"] | {"config": ""}} for s in summaries]
        assert summaries[0][part] == summaries[1][part]


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_aggregator_ends_with_equal_bits(name: str) -> None:
    options = {"fedavgm": {"server_momentum": 0.9}, "fedadam": {"beta_1": 0.9, "beta_2": 0.99}}
    for run_name in ("whole", "parts"):
        config = named(run_name)
        config.strategy = StrategyConfig(name=name, **options.get(name, {}))
        config.prompt.shared_offsets = "rank:2"
        if run_name == "parts":
            interrupt(config, TRAIN, 2)
            interrupt(config, TRAIN, 4)
        outcome, fakes = go(config)
    assert outcome.results["rounds"] == ROUNDS
    assert [r for kind, p, r, _ in fakes.seen if (kind, p) == (TRAIN, 0)] == [4, 5]
    assert_equal_runs("whole", "parts")


@pytest.mark.parametrize(
    ("kind", "server_round"),
    [(QUERY_PREPARE, 0), (EVALUATE, 0), (TRAIN, 1), (TRAIN, 3), (TRAIN, 5), (EVALUATE, 5)],
)
def test_it_goes_on_from_any_message(kind: str, server_round: int) -> None:
    go(named("whole"))
    interrupt(named("parts"), kind, server_round)
    lines: list[str] = []
    _, fakes = go(named("parts"), lines=lines)
    assert_equal_runs("whole", "parts")
    begun = kind != QUERY_PREPARE and (kind, server_round) != (EVALUATE, 0)
    said = f"is resumed after round {max(0, server_round - (kind == TRAIN))}"
    assert any((said if begun else "starts from the beginning") in line for line in lines)
    trained = [r for kind, p, r, _ in fakes.seen if (kind, p) == (TRAIN, 0)]
    first = server_round if kind == TRAIN else server_round + 1
    assert trained == list(range(max(1, first), ROUNDS + 1))


@pytest.mark.parametrize("server_round", [2, 3, 4])
def test_sampling_goes_on_as_if_nothing_had_happened(server_round: int) -> None:
    part = {"fraction_train": 0.67, "eval_every": 2}
    _, whole = go(named("whole", **part))
    scripts: dict[tuple[str, int], Handler] = {}
    for partition in range(3):
        script = interrupting(TRAIN, server_round)[TRAIN, 2]
        scripts[TRAIN, partition] = script
    with pytest.raises(Interrupted):
        go(named("parts", **part), scripts=scripts)
    _, fakes = go(named("parts", **part))
    assert_equal_runs("whole", "parts")
    late = [x for x in whole.seen if x[0] == TRAIN and x[2] >= server_round]
    assert [x for x in fakes.seen if x[0] == TRAIN] == late


def test_another_submission_goes_on_only_if_asked_to() -> None:
    interrupt(named("parts"))
    with pytest.raises(RunError, match=r"exists already.*run\.resume=true"):
        go(named("parts"), run_id=8)
    asked = named("parts")
    asked.run.resume = True
    go(named("whole"))
    go(asked, run_id=8)
    assert_equal_runs("whole", "parts")
    about = json.loads((folder("parts") / "run.json").read_text())
    assert about["flower_run_ids"] == [7, 8]
    assert about["overrides"] == "seed=0"


def test_there_must_be_something_to_resume() -> None:
    config = named("never")
    config.run.resume = True
    with pytest.raises(RunError, match="there is no run never to resume"):
        go(config)
    assert not folder("never").exists()


def test_a_completed_run_is_not_run_again() -> None:
    go(named("whole"))
    before = shared_bits("whole")
    outcome, fakes = go(named("whole"))
    assert (outcome.results["status"], fakes.seen) == ("completed", [])
    config = named("whole")
    config.run.resume = True
    with pytest.raises(RunError, match="completed: there is nothing to resume"):
        go(config, run_id=8)
    assert shared_bits("whole") == before


@pytest.mark.parametrize("how", ["cut", "flipped", "foreign"])
def test_a_damaged_checkpoint_is_passed_over(how: str) -> None:
    go(named("whole"))
    interrupt(named("parts"), TRAIN, 4)
    newest = folder("parts") / "checkpoint" / "round-000003.safetensors"
    data = bytearray(newest.read_bytes())
    if how == "cut":
        newest.write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        data[-5] ^= 1
        newest.write_bytes(data)
    else:
        other = folder("whole") / "checkpoint" / "round-000005.safetensors"
        newest.write_bytes(other.read_bytes())
    lines: list[str] = []
    go(named("parts"), lines=lines)
    assert any("round-000003.safetensors is passed over" in line for line in lines)
    assert any("is resumed after round 2" in line for line in lines)
    assert_equal_runs("whole", "parts")


def test_without_any_usable_checkpoint_nothing_is_done_again() -> None:
    interrupt(named("parts"), TRAIN, 4)
    files = sorted((folder("parts") / "checkpoint").iterdir())
    assert len(files) == 3
    for path in files:
        path.write_bytes(b"damaged")
    with pytest.raises(RunError, match="none of the 3 checkpoints"):
        go(named("parts"))
    assert [path.read_bytes() for path in files] == [b"damaged"] * 3


def test_another_configuration_is_refused_by_key() -> None:
    interrupt(named("parts"))
    config = named("parts", round_timeout=0.5)
    config.optimizer.lr = 0.7
    with pytest.raises(RunError, match=r"started with optimizer\.lr=0\.1, now it is 0\.7"):
        go(config)
    go(named("parts", round_timeout=0.5, max_failed_rounds=9))


def test_another_default_of_a_key_that_the_run_does_not_read_is_none() -> None:
    interrupt(named("parts"))
    file = folder("parts") / "run.json"
    begun = json.loads(file.read_text())
    begun["config"] |= {"data.image_column": "image"}  # of a data set of the hub
    file.write_text(json.dumps(begun))
    outcome, _ = go(named("parts"))
    assert outcome.results["status"] == "completed"


@pytest.mark.parametrize("part", ["clip", "classes", "split"])
def test_other_clients_are_refused_by_part(part: str) -> None:
    config = named("parts")
    interrupt(config)
    digests = dict(identity(0, config).digests) | {part: sha256_of("another")}
    changed = {partition: {"digests": digests} for partition in range(3)}
    with pytest.raises(RunError, match=f"its {part} differs from that at the run's start"):
        go(config, changed=changed)
    go(config)


@pytest.mark.parametrize("part", ["clip", "classes", "split"])
def test_clients_that_differ_from_the_start_cannot_block_a_resume(part: str) -> None:
    """Not even most of them: what the run began with is no matter of a vote."""
    config = named("parts", min_clients=1)
    interrupt(config)
    digests = dict(identity(0, config).digests) | {part: sha256_of("another")}
    changed = {partition: {"digests": digests} for partition in (1, 2)}
    outcome, _ = go(config, changed=changed, deployed=True)
    assert outcome.results["status"] == "completed"
    assert outcome.results["refused"].keys() == {"client-1", "client-2"}
    assert json.loads((outcome.folder / "digests.json").read_text())[part] == sha256_of(part)


def test_a_run_of_a_version_that_named_clips_by_their_files_is_resumed() -> None:
    config = named("parts")
    interrupt(config)
    file = folder("parts") / "digests.json"
    begun = json.loads(file.read_text())
    del begun["clip-of"]
    file.write_text(json.dumps(begun | {"clip": sha256_of("the clip's files")}))
    digests = dict(identity(0, config).digests) | {"clip": sha256_of("another")}
    outcome, _ = go(config, changed={1: {"digests": digests}}, deployed=True)
    assert outcome.results["status"] == "completed"
    assert outcome.results["refused"].keys() == {"client-1"}, "they still agree with each other"
    assert json.loads(file.read_text())["clip"] == sha256_of("clip")


def test_two_processes_do_not_share_a_run() -> None:
    interrupt(named("parts"))
    with lock.hold(folder("parts")), pytest.raises(RunError, match="running in another process"):
        go(named("parts"))
    go(named("parts"))


def test_a_run_that_failed_is_resumed_when_its_clients_are_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raise_failure(partition, message, answer):  # type: ignore[no-untyped-def]
        if message.content["config"]["server-round"] >= 3:
            raise RuntimeError
        return answer

    config = named("parts", max_failed_rounds=1)
    gone: dict[tuple[str, int], Handler] = {(TRAIN, p): raise_failure for p in range(3)}
    with pytest.raises(RunError, match="1 rounds in a row failed"):
        go(config, scripts=gone)
    outcome, _ = go(config)
    assert outcome.results["failed_rounds"] == [3]
    assert [record["round"] for record in records("parts")] == list(range(ROUNDS + 1))


def test_lost_lines_of_metrics_are_said(tmp_path: Path) -> None:
    interrupt(named("parts"))
    metrics = folder("parts") / "metrics.jsonl"
    first, *_ = metrics.read_text().splitlines()
    metrics.write_text(first + "\n{broken\n")
    lines: list[str] = []
    outcome, _ = go(named("parts"), lines=lines)
    assert any("shorter than the checkpoint says" in line for line in lines)
    assert any("line 2 of metrics.jsonl is damaged" in line for line in lines)
    assert outcome.results["rounds"] == ROUNDS


def test_time_of_earlier_attempts_counts() -> None:
    clock = Clock()

    def slow(partition, message, answer):  # type: ignore[no-untyped-def]
        clock.now += 1.0
        if message.content["config"]["server-round"] == 3 and clock.now < 1000:
            raise Interrupted
        return answer

    with pytest.raises(Interrupted):
        go(named("parts"), scripts={(TRAIN, 0): slow}, clock=clock)
    clock.now += 5000.0
    outcome, _ = go(named("parts"), scripts={(TRAIN, 0): slow}, clock=clock)
    assert outcome.results["seconds"] == pytest.approx(ROUNDS, abs=0.5)
    assert np.isfinite(outcome.results["seconds"])
