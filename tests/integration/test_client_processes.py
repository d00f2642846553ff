"""The processes of the local engine: killed, interrupted, and in a folder where anything lies."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedrsclip.run.processes import process_table
from tests.integration.launched import PATIENCE, SMALL, Launch, Launched

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc"),
]

LONG = [*SMALL, "federation.num_rounds=40", "run.name=first"]


def fork_server_and_clients(run: Launched) -> tuple[int, list[int]]:
    """Return the pid of what forks clients, and theirs."""
    table, own = process_table(), run.left_behind()
    clients = [pid for pid in own if pid in table and table[pid][0] in own]
    (server,) = {table[pid][0] for pid in clients}
    return server, clients


def test_a_client_process_that_is_killed_costs_no_round(launch: Launch) -> None:
    run = launch("run", "run", *LONG)
    run.wait_for("round   1 |")
    _, clients = fork_server_and_clients(run)
    assert len(clients) in (1, 2)
    for pid in clients:
        os.kill(pid, signal.SIGKILL)
    assert run.wait() == 0, run.output
    assert run.output.count("a client process was ended by SIGKILL") in range(1, len(clients) + 1)
    assert "is asked again" in run.output
    assert run.results["last"]["round"] == 40
    assert run.output.count("| 2/2 clients |") == 40
    assert list(run.home.glob("logs/*.local.log")) == []


def test_a_fork_server_that_is_killed_is_started_again(launch: Launch) -> None:
    run = launch("run", "run", *LONG)
    run.wait_for("round   1 |")
    server, clients = fork_server_and_clients(run)
    for pid in (server, *clients):
        os.kill(pid, signal.SIGKILL)
    assert run.wait() == 0, run.output
    assert run.output.count("| 2/2 clients |") == 40
    run.wait_until_alone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_as_a_ctrl_c_does(launch: Launch, number: signal.Signals) -> None:
    run = launch("run", "run", *SMALL, "federation.num_rounds=10000")
    run.wait_for("round   1 |")
    run.process.send_signal(number)
    assert run.wait() == 130, run.output
    assert "resume it: fedrsclip run resume=" in run.output
    run.wait_until_alone()


def test_a_command_that_nobody_reads_any_more_is_stopped(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fedrsclip.cli", "run", *SMALL, "federation.num_rounds=10000"],
        env=os.environ | {"FEDRSCLIP_HOME": str(tmp_path / "home")},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith("run ")
    process.stdout.close()
    assert process.wait(timeout=PATIENCE) == 130
    assert process.stderr.readline() == "fedrsclip: interrupted, everything was stopped\n"


def test_nothing_of_the_current_folder_is_imported(tmp_path: Path) -> None:
    for name in ("client_app", "random"):
        package = tmp_path / "here" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("print('IMPORTED')\nraise ValueError\n")
    program = Path(sys.executable).parent / "fedrsclip"
    done = subprocess.run(
        [program, "run", *SMALL],
        env=os.environ | {"FEDRSCLIP_HOME": str(tmp_path / "home")},
        cwd=tmp_path / "here",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "IMPORTED" not in done.stdout + done.stderr


def test_a_script_that_runs_where_it_is_imported_is_told_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"from fedrsclip.run.launch import run\nraise SystemExit(run({SMALL!r}))\n")
    done = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"FEDRSCLIP_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "put what it does below if __name__ == '__main__':" in done.stderr
