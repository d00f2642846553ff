"""`fedrsclip watch --once`: what is told of a run, from the files that the server leaves."""

import json
import stat
from pathlib import Path

import pytest

from fedrsclip.cli import main
from fedrsclip.run import connection
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.messages import TRAIN
from server_app.app import run
from tests.unit.server.fakes import Clock, Fakes, Handler, small_config

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda number, handler: None)


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


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    """Return the lines, with single blanks."""
    capsys.readouterr()
    assert main(["watch", "--once", *arguments]) == code
    captured = capsys.readouterr()
    return [" ".join(line.split()) for line in (captured.out + captured.err).splitlines()]


def test_a_completed_run(capsys: pytest.CaptureFixture[str]) -> None:
    go("first", {(TRAIN, 1): raise_at(3, RuntimeError)})
    lines = told(capsys)
    assert lines[0].startswith("run first: fedrsclip, 3 clients")
    assert lines[0].endswith("completed")
    assert any(line.startswith("round 3 of 3") for line in lines)
    assert "clients 3 asked, 2 valid, 1 dropped in round 3: client-1 (internal)" in lines
    assert "dropped client-1: internal x 1" in lines
    # It did answer the evaluation at the end.
    assert not any(line.startswith("silent") for line in lines)
    assert f"folder {paths.runs_dir() / 'first'}" in lines
    assert "run first: completed" in lines


def test_a_client_that_stays_away(capsys: pytest.CaptureFixture[str]) -> None:
    scripts = {
        (TRAIN, 1): raise_at(2, RuntimeError),
        (TRAIN, 2): raise_at(3, KeyboardInterrupt),
    }
    with pytest.raises(KeyboardInterrupt):
        go("first", scripts)
    lines = told(capsys, "first", code=1)
    assert "run first: failed: the run was stopped" in lines
    assert "silent client-1: last answer in round 1" in lines
    assert "dropped client-1: internal x 1" in lines


def test_a_run_that_is_running_and_one_that_was_killed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said: list[list[str]] = []

    def ask(partition, message, answer):  # type: ignore[no-untyped-def]
        if message.content["config"]["server-round"] == 2:
            said.append(told(capsys))
        return answer

    go("first", {(TRAIN, 0): ask})
    assert said[0][0].endswith("running")
    assert any(line.startswith("round 0 of 3") for line in said[0])
    (paths.runs_dir() / "first" / "results.json").unlink()
    lines = told(capsys, code=1)
    assert lines[0].endswith("interrupted")
    assert any("fedrsclip run resume=first" in line for line in lines)


def test_failed_rounds_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    go("first", {(TRAIN, p): raise_at(2, RuntimeError) for p in range(3)})
    (line,) = (line for line in told(capsys) if line.startswith("failed"))
    assert line.startswith("failed rounds 2; the last: 0 valid replies from 3 clients")


def test_the_newest_run_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    go("first")
    go("second")
    assert "run second: completed" in told(capsys)
    assert "run first: completed" in told(capsys, "first")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["never"], "there is no run in "),
        ([], "there is no run in "),
        (["no name"], "run is 'no name'"),
    ],
)
def test_what_is_not_there_is_said_at_once(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    (line,) = told(capsys, *arguments, code=1)
    assert said in line


def _flower(monkeypatch: pytest.MonkeyPatch, folder: Path, output: str) -> None:
    program = folder / "flwr"
    program.write_text(f"#!/bin/sh\ncat <<'EOF'\n{output}\nEOF\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(connection, "_LISTING", (str(program),))


def test_nodes_of_a_superlink_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go("first")
    came, went = "2026-01-01 10:00:00Z", "2026-01-01 11:00:00Z"
    nodes = [
        {"node_id": 34, "name": "", "status": "offline", "online_at": came, "offline_at": went},
        {
            "node_id": 12,
            "name": "a\x1b[2J",
            "status": "online",
            "online_at": came,
            "offline_at": "",
        },
        {"node_id": 56, "name": "b", "status": "registered", "online_at": "", "offline_at": ""},
    ]
    answer = json.dumps({"success": True, "nodes": nodes})
    _flower(monkeypatch, tmp_path, f"a warning\n{answer}")
    text = told(capsys, "--superlink", "sites")
    assert "superlink sites: 3 nodes" in text
    assert "a\\x1b[2J (node 12): online since 2026-01-01 10:00:00Z" in text
    assert "without a name (node 34): offline since 2026-01-01 11:00:00Z" in text
    assert "b (node 56): registered since never" in text


@pytest.mark.parametrize("output", ['{"success": false, "error-message": "refused"}', "refused"])
def test_a_superlink_that_does_not_answer_is_said(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    output: str,
) -> None:
    go("first")
    _flower(monkeypatch, tmp_path, output)
    lines = told(capsys, "--superlink", "sites", code=1)
    assert lines[-1].startswith("fedrsclip: Flower lists no nodes of sites: ")


def test_what_clients_said_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    forged = "\x1b[2Jround 99 | global 100.0"

    def forge(partition, message, answer):  # type: ignore[no-untyped-def]
        answer["metrics"][forged] = 1
        return answer

    go("first", {(TRAIN, 1): forge})
    folder = paths.runs_dir() / "first"
    # Whatever wrote these files: names as no server takes them.
    for file in (folder / "results.json", folder / "metrics.jsonl"):
        file.write_text(file.read_text().replace("client-1", r"\u001b[2J\u202e\nclient"))
    summary = json.loads((folder / "results.json").read_text())
    summary["refused"] = {forged: "why"}
    (folder / "results.json").write_text(json.dumps(summary))
    capsys.readouterr()
    assert main(["watch", "--once", "first"]) == 0
    captured = capsys.readouterr().out
    assert r"refused clients: \x1b[2Jround 99" in captured
    assert all(sign.isprintable() or sign == "\n" for sign in captured)
