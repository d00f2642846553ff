"""What an operator is told about a run, from the files that it leaves."""

import json
import stat
from pathlib import Path

import pytest

from fedrsclip.cli import main
from fedrsclip_core import machine
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.messages import TRAIN
from server_app.app import run
from tests.unit.server.fakes import Clock, Fakes, Handler, small_config

pytestmark = pytest.mark.unit


def go(name: str, scripts: dict[tuple[str, int], Handler] | None = None, **settings: int) -> None:
    config = small_config(num_rounds=3, **settings)
    config.run.name = name
    fakes = Fakes(config, scripts=scripts or {})
    run(Clock().exchange(fakes.grid()), config, run_id=7, echo=lambda line: None)


def raise_at(server_round: int, error: type[BaseException]) -> Handler:
    def handler(partition, message, answer):  # type: ignore[no-untyped-def]
        if message.content["config"]["server-round"] == server_round:
            raise error
        return answer

    return handler


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["status", *arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_a_completed_run(capsys: pytest.CaptureFixture[str]) -> None:
    go("first", {(TRAIN, 1): raise_at(3, RuntimeError)})
    text = told(capsys)
    assert "run first: completed" in text
    assert "round 3 of 3, complete" in text
    assert "2/3 clients" in text
    assert "client client-0: last answer in round 3\n" in text
    assert "client client-1: last answer in round 3; dropped: internal x 1" in text


def test_a_client_that_stays_away(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        scripts = {
            (TRAIN, 1): raise_at(2, RuntimeError),
            (TRAIN, 2): raise_at(3, KeyboardInterrupt),
        }
        go("first", scripts)
    text = told(capsys, "run=first")
    assert "failed: the run was stopped" in text
    assert "client client-1: last answer in round 1; dropped: internal x 1" in text


def test_a_run_that_is_going_on_and_one_that_was_killed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said: list[str] = []

    def ask(partition, message, answer):  # type: ignore[no-untyped-def]
        if message.content["config"]["server-round"] == 2:
            said.append(told(capsys))
        return answer

    go("first", {(TRAIN, 0): ask})
    assert "run first: running" in said[0]
    assert "round 0 of 3" in said[0]
    (paths.runs_dir() / "first" / "results.json").unlink()
    text = told(capsys)
    assert "run first: interrupted: no process works on it any more" in text
    assert "fedrsclip run resume=first" in text


def test_failed_rounds_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    go("first", {(TRAIN, p): raise_at(2, RuntimeError) for p in range(3)})
    assert "failed rounds: 2; the last: 0 valid replies from 3 clients" in told(capsys)


def test_the_newest_run_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    go("first")
    go("second")
    assert "run second: completed" in told(capsys)
    assert "run first: completed" in told(capsys, "run=first")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run=never"], "there is no run never in"),
        ([], "there is no run in"),
        (["first"], "takes run=NAME and superlink=NAME"),
        (["run="], "takes run=NAME and superlink=NAME"),
        (["run=../x"], "run is '../x'"),
    ],
)
def test_what_is_not_there_is_said(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in told(capsys, *arguments, code=1)


def _flower(monkeypatch: pytest.MonkeyPatch, folder: Path, output: str) -> None:
    program = folder / "flwr"
    program.write_text(f"#!/bin/sh\ncat <<'EOF'\n{output}\nEOF\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(machine, "program", lambda name: str(program))


def test_nodes_of_a_superlink_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go("first")
    nodes = [
        {"node-id": "12", "status": "online", "online-at": "2026-01-01 10:00:00Z"},
        {"node-id": "34", "status": "offline", "offline-at": "2026-01-01 11:00:00Z"},
        {"node-id": "56", "status": "registered", "offline-at": "N/A"},
    ]
    answer = json.dumps({"success": True, "nodes": nodes})
    _flower(monkeypatch, tmp_path, f"a warning\n{answer}")
    text = told(capsys, "superlink=sites")
    assert "superlink sites: 3 nodes" in text
    assert "node 12: online since 2026-01-01 10:00:00Z" in text
    assert "node 34: offline since 2026-01-01 11:00:00Z" in text


@pytest.mark.parametrize("output", ['{"success": false, "error-message": "refused"}', "refused"])
def test_a_superlink_that_does_not_answer_is_said(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    output: str,
) -> None:
    go("first")
    _flower(monkeypatch, tmp_path, output)
    assert "flwr supernode list sites: " in told(capsys, "superlink=sites", code=1)
