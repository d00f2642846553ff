"""Flower's SuperExec with processes that start warm; whole runs are in tests/integration."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from multiprocessing import active_children, forkserver
from pathlib import Path
from types import ModuleType

import pytest

from client_app import superexec
from client_app.flower_internals import (
    ExecutionSpec,
    LaunchResult,
    SubprocessExecutor,
    TaskType,
)
from client_app.superexec import LIBRARIES, WarmExecutor, forget_project

pytestmark = [pytest.mark.unit, pytest.mark.flower]


def spec(task_type: TaskType) -> ExecutionSpec:
    return ExecutionSpec(
        task_type=task_type,
        runtime_api_address="127.0.0.1:1",
        token="token",
        insecure=True,
        root_certificates_path=None,
        runtime_dependency_install=False,
        parent_pid=os.getpid(),
        suppress_output=False,
        task_id=1,
    )


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> list[TaskType]:
    """What Flower's own executor was asked to start."""
    started: list[TaskType] = []

    def launch(self: SubprocessExecutor, spec: ExecutionSpec) -> LaunchResult:
        started.append(spec.task_type)
        return LaunchResult.accepted()

    monkeypatch.setattr(SubprocessExecutor, "launch", launch)
    return started


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_is_imported_before_a_message_is_there_and_not_of_this_project(name: str) -> None:
    assert importlib.util.find_spec(name) is not None
    assert name.partition(".")[0] not in superexec._PROJECT


def test_the_projects_modules_are_forgotten_and_no_others() -> None:
    names = [
        "client_app",
        "client_app.app",
        "fedrsclip_core.runs.paths",
        "server_app",
        "client_apps",
        "os",
    ]
    modules = {name: ModuleType(name) for name in names}
    forget_project(modules)
    assert list(modules) == ["client_apps", "os"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks the process up in /proc")
def test_the_program_is_flowers_with_a_fork_server() -> None:
    command = "from client_app.superexec import main; main()"
    options = ["--insecure", "--runtime-api-address", "127.0.0.1:1"]
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    program = subprocess.Popen([sys.executable, "-c", command, *options], env=os.environ | quiet)
    try:
        while not any("forkserver" in line for line in children(program.pid)):
            assert program.poll() is None
            time.sleep(0.05)
    finally:
        program.terminate()
        program.wait(timeout=60)


def children(pid: int) -> list[str]:
    """Return the command lines of a process's children."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/cmdline").read_text() for child in found]


def test_a_client_app_is_forked_and_ends_with_its_executor(cold: list[TaskType]) -> None:
    executor = WarmExecutor()
    assert executor.launch(spec(TaskType.CLIENT_APP)) == LaunchResult.accepted()
    (process,) = active_children()
    executor.close()
    process.join(timeout=60)
    executor.reconcile()
    assert process.exitcode is not None and not active_children() and cold == []


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks the process up in /proc")
def test_a_fork_server_that_was_killed_is_replaced(cold: list[TaskType]) -> None:
    executor = WarmExecutor()
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGKILL)
    while Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert executor.launch(spec(TaskType.CLIENT_APP)) == LaunchResult.accepted()
    assert len(active_children()) == 1 and cold == []
    executor.close()
    for process in active_children():
        process.join(timeout=60)


def test_other_tasks_are_flowers(cold: list[TaskType]) -> None:
    assert WarmExecutor().launch(spec(TaskType.SERVER_APP)) == LaunchResult.accepted()
    assert cold == [TaskType.SERVER_APP] and not active_children()


def test_without_a_fork_server_the_client_app_starts_cold(
    cold: list[TaskType], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = WarmExecutor()

    def refused(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(executor._context, "Process", refused)
    assert executor.launch(spec(TaskType.CLIENT_APP)) == LaunchResult.accepted()
    assert cold == [TaskType.CLIENT_APP]
