"""Flower's SuperExec with processes that start warm; whole runs are in tests/integration."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import active_children
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import NoReturn

import pytest

from fedrsclip.site import superexec
from fedrsclip.site.flower_internals import (
    ExecutionSpec,
    LaunchResult,
    TaskType,
)
from fedrsclip.site.superexec import LIBRARIES, WarmExecutor

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


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_is_imported_before_a_message_is_there(name: str) -> None:
    assert importlib.util.find_spec(name) is not None


PRELOADED = """
import json, os, sys, threading, torch
before = len(os.listdir("/proc/self/task"))
import fedrsclip.site.preload as preload
from fedrsclip.site.submitted import installed_app
from fedrsclip_core.wire import digests
print(json.dumps({
    "missing": [name for name in preload.modules() if name not in sys.modules],
    "loaded": list(sys.modules),
    "gpu": torch.cuda.is_initialized(),
    "threads": len(os.listdir("/proc/self/task")) - before,
    "kept": [f.cache_info().currsize for f in (installed_app, digests.code_digest)],
}))
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="counts threads in /proc")
def test_before_a_message_the_whole_client_is_there_and_nothing_has_been_touched() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELOADED], capture_output=True, text=True, timeout=120, check=True
    )
    found = json.loads(done.stdout)
    assert found["missing"] == [] and found["kept"] == [1, 1]
    assert {"client_app.app", "fedrsclip_core.learning.training"} <= set(found["loaded"])
    # What takes seconds to import waits until a message needs it; so does what reads an image.
    assert not {"transformers", "datasets", "PIL", "hydra"} & set(found["loaded"])
    assert (found["gpu"], found["threads"]) == (False, 0)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks the process up in /proc")
def test_the_program_is_flowers_with_a_fork_server() -> None:
    command = "from fedrsclip.site.superexec import main; main()"
    options = ["--insecure", "--runtime-api-address", "127.0.0.1:1"]
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    program = subprocess.Popen([sys.executable, "-c", command, *options], env=os.environ | quiet)
    try:
        while not any("forkserver" in line for line in children(program.pid).values()):
            assert program.poll() is None
            time.sleep(0.05)
    finally:
        program.terminate()
        program.wait(timeout=60)


def children(pid: int) -> dict[int, str]:
    """Return the command lines of a process's children."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in found}


def test_a_client_app_is_forked_and_ends_with_its_executor() -> None:
    executor = WarmExecutor()
    assert executor.launch(spec(TaskType.CLIENT_APP)) == LaunchResult.accepted()
    (process,) = active_children()
    executor.close()
    process.join(timeout=60)
    executor.reconcile()
    assert process.exitcode is not None and not active_children()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks the process up in /proc")
def test_a_fork_server_that_was_killed_is_replaced() -> None:
    executor = WarmExecutor()
    (server,) = (pid for pid, line in children(os.getpid()).items() if "forkserver" in line)
    os.kill(server, signal.SIGKILL)
    while Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert executor.launch(spec(TaskType.CLIENT_APP)) == LaunchResult.accepted()
    assert len(active_children()) == 1
    executor.close()
    for process in active_children():
        process.join(timeout=60)


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's programs would run what was submitted."""

    def started(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("kind", [kind for kind in TaskType if kind != TaskType.CLIENT_APP])
def test_a_site_is_given_nothing_but_client_apps(kind: TaskType) -> None:
    """A submitter who calls the run an AgentApp's makes Flower start a program that runs it."""
    executor = WarmExecutor()
    result = executor.launch(spec(kind))
    assert result == LaunchResult.failed(result.message) and kind in (result.message or "")
    assert not active_children()
    capacity = executor.get_eligible_capacity(set(TaskType), insecure=True)
    assert capacity == ({TaskType.CLIENT_APP}, set())


class Refusing(ForkServerContext):
    """Its fork server is killed again and again; counts the tries."""

    tries = 0

    def Process(self, *_: object, **__: object) -> NoReturn:  # type: ignore[override]  # noqa: N802
        self.tries += 1
        raise ConnectionRefusedError


@pytest.mark.usefixtures("no_program")
def test_without_a_fork_server_nothing_starts() -> None:
    context = Refusing()
    result = WarmExecutor(context).launch(spec(TaskType.CLIENT_APP))
    assert result == LaunchResult.failed("the fork server was killed again and again")
    assert context.tries > 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks the process up in /proc")
def test_a_client_app_that_dies_is_reported_once_and_one_that_ends_well_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reported: list[tuple[str, str]] = []
    monkeypatch.setattr(
        superexec, "report_end", lambda spec, details: reported.append((spec.token, details))
    )
    executor = WarmExecutor()
    for program in (end_well, wait_to_be_killed):
        monkeypatch.setattr(superexec, "run_client_app", program)
        assert executor.launch(spec(TaskType.CLIENT_APP)) == LaunchResult.accepted()
    deadline = time.monotonic() + 60
    while len(living := [one for one in active_children() if one.is_alive()]) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(living[0].pid or 0, signal.SIGKILL)
    while not reported:
        assert time.monotonic() < deadline
        executor.reconcile()
        time.sleep(0.02)
    executor.reconcile()
    assert reported == [("token", "its process ended with exit code -9")]
    assert "task 1: its process ended with exit code -9" in capsys.readouterr().err


def end_well(_: ExecutionSpec) -> None:
    """End as a ClientApp that has handed its reply over."""


def wait_to_be_killed(_: ExecutionSpec) -> None:
    time.sleep(600)
