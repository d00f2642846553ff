"""The folder of a run: what is written is read again, and damage is named file by file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.records import RoundRecord, UnreadableError
from fedrsclip_core.runs.run_folder import RunFolder, State
from fedrsclip_core.runs.shared_prompt import read_shared_prompt
from fedrsclip_core.wire.messages import TRAIN
from server_app.app import run
from tests.unit.server.fakes import Clock, Fakes, small_config

pytestmark = pytest.mark.unit

LARGEST_ID = 2**64 - 1
"""Flower draws a run's id from all numbers of 64 bits."""


def ran(name: str = "first") -> RunFolder:
    """Let a server run with scripted clients, one of which fails in a round."""
    config = small_config(num_rounds=3)
    config.run.name = name
    config.privacy.share_label_counts = True

    def fail(partition, message, answer):  # type: ignore[no-untyped-def]
        if message.content["config"]["server-round"] == 2:
            raise RuntimeError
        return answer

    exchange = Clock().exchange(Fakes(config, scripts={(TRAIN, 1): fail}).grid())
    return RunFolder(run(exchange, config, run_id=LARGEST_ID, echo=lambda line: None).folder)


def test_what_a_server_writes_is_what_the_types_say() -> None:
    folder = ran()
    description, results, digests = folder.description(), folder.results(), folder.digests()
    assert description is not None and results is not None and digests is not None
    assert description["flower_run_ids"] == [LARGEST_ID]
    assert digests == results["digests"] | {"clip-of": "values"}
    log = folder.rounds()
    assert [record["round"] for record in log.read()] == [0, 1, 2, 3]
    assert (log.damaged, log.cut, log.size) == ([], False, folder.rounds_size())
    assert log.records[-1] == results["last"]
    assert folder.state() == State("completed")
    prompt = read_shared_prompt(folder.shared_prompt)
    assert (prompt.run, prompt.server_round) == ("first", 3)
    assert folder.can_be_resumed()
    assert folder.split() is None


FILES: dict[str, Callable[[RunFolder], object]] = {
    "run.json": RunFolder.description,
    "results.json": RunFolder.results,
    "digests.json": RunFolder.digests,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"7", b"\xff\xfe", b'{"run": 1}'])
def test_damage_is_named_and_costs_no_other_file(name: str, damage: bytes) -> None:
    folder = ran()
    (folder.path / name).write_bytes(damage)
    for other, read in FILES.items():
        if other == name:
            with pytest.raises(UnreadableError, match=f"^{name} is damaged: "):
                read(folder)
        else:
            assert read(folder) is not None


@pytest.mark.parametrize("name", FILES)
def test_any_key_that_is_missing_or_something_else_is_named(name: str) -> None:
    folder = ran()
    path = folder.path / name
    whole = json.loads(path.read_text())
    for key, value in whole.items():
        changes: list[dict[str, Any]] = [whole | {key: [[value]]}]
        if name != "digests.json" and key != "calibrated_factor":  # earlier runs have none
            changes.append({k: v for k, v in whole.items() if k != key})
        for changed in changes:
            path.write_text(json.dumps(changed))
            with pytest.raises(UnreadableError, match=key if name != "digests.json" else "value"):
                FILES[name](folder)
    path.write_text(json.dumps(whole | {"later": 1 if name != "digests.json" else None}))
    assert FILES[name](folder) is not None


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    (tmp_path / "metrics.jsonl").mkdir()
    folder = RunFolder(tmp_path)
    with pytest.raises(UnreadableError, match=r"run\.json cannot be read: Is a directory"):
        folder.description()
    with pytest.raises(UnreadableError, match=r"metrics\.jsonl cannot be read: Is a directory"):
        folder.rounds().read()


def test_the_state_of_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert not folder.has_begun()
    state = folder.state()
    assert state.word == "interrupted" and f"resume={tmp_path.name}" in state.reason
    with folder.hold():
        assert folder.state() == State("running")
    results = tmp_path / "results.json"
    for text, expected in (
        ('{"status": "completed"}', State("completed")),
        ('{"status": "failed", "reason": "no client"}', State("failed", "no client")),
        ('{"reason": 1}', State("failed", "results.json is damaged: status")),
        ("[]", State("failed", "results.json is damaged: it holds no JSON object")),
    ):
        results.write_text(text)
        state = folder.state()
        assert state.word == expected.word and state.reason.startswith(expected.reason)
    assert folder.has_begun()


def test_a_name_that_is_no_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="run is"):
        RunFolder.named("../other")
    with pytest.raises(ConfigError, match="there is no run in"):
        RunFolder.newest()
    assert RunFolder.named("first").path == paths.runs_dir() / "first"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RoundRecord:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDRSCLIP_HOME", str(tmp_path_factory.mktemp("home")))
        return ran().rounds().read()[2]


def line(record: RoundRecord, number: int) -> bytes:
    return json.dumps({**record, "round": number}).encode() + b"\n"


def numbers(records: list[RoundRecord]) -> list[int]:
    return [one["round"] for one in records]


def test_rounds_are_read_while_they_are_written(tmp_path: Path, record: RoundRecord) -> None:
    folder = RunFolder(tmp_path)
    log, later = folder.rounds(), folder.rounds(from_now=True)
    assert log.read() == []
    with (tmp_path / "metrics.jsonl").open("ab", buffering=0) as file:
        file.write(line(record, 0) + line(record, 1)[:50])
        assert numbers(log.read()) == [0] and log.cut
        assert numbers(folder.rounds(from_now=True).read()) == []
        file.write(line(record, 1)[50:])
        assert numbers(log.read()) == [1] and not log.cut
        file.write(b'{"round": 2}\n[]\nnonsense\n\xff\n' + line(record, 3))
        assert numbers(log.read()) == [3]
    assert log.damaged == [3, 4, 5, 6]
    assert numbers(log.records) == [0, 1, 3]
    assert numbers(later.read()) == [0, 1, 3]


def test_a_resumed_run_repeats_its_rounds(tmp_path: Path, record: RoundRecord) -> None:
    folder = RunFolder(tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    kept = line(record, 0) + line(record, 1)
    metrics.write_bytes(kept + line(record, 2) + line(record, 3))
    log, later = folder.rounds(), folder.rounds(from_now=True)
    assert numbers(log.read()) == [0, 1, 2, 3] and later.read() == []
    folder.cut_rounds(len(kept))
    assert metrics.read_bytes() == kept
    assert log.read() == [] and numbers(log.records) == [0, 1] and later.read() == []
    with metrics.open("ab") as file:
        file.write(line(record, 2))
    assert numbers(log.read()) == [2] and numbers(later.read()) == [2]
    folder.cut_rounds(10**6)
    assert folder.rounds_size() == len(kept + line(record, 2))
