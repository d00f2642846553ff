"""What a site assumes of Flower's inside, each against Flower's own code."""

import importlib.util
import inspect
import io
import logging
import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from flwr.proto.fleet_pb2 import (
    ActivateNodeResponse,
    DeactivateNodeRequest,
    DeactivateNodeResponse,
    PullMessagesResponse,
    RegisterNodeFleetResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatResponse
from flwr.proto.runtime_pb2 import PushTaskOutputRequest, PushTaskOutputResponse
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.primitives.asymmetric import generate_key_pairs
from flwr.supercore.run import Run
from flwr.supernode.runtime import run_clientapp

from fedrsclip.site import flower_internals
from fedrsclip.site.answer import Site
from fedrsclip.site.flower_internals import (
    _STEPS,
    MODULES,
    Connection,
    ExecutionSpec,
    TaskType,
    become_client_app,
    bounded_config,
    report_end,
)

pytestmark = [pytest.mark.unit, pytest.mark.flower]

TOKEN = "the-token-of-this-task"
SPEC = """
import os, sys
class Nobody: pass
from fedrsclip.site.flower_internals import ExecutionSpec, LaunchResult, TaskType
from fedrsclip.site.flower_internals import become_client_app
become_client_app(ExecutionSpec(
    task_type=TaskType.CLIENT_APP, runtime_api_address=sys.argv[1], token=sys.argv[2],
    insecure=True, root_certificates_path=None, runtime_dependency_install=False,
    parent_pid=os.getppid(), suppress_output=False, task_id=1,
), Nobody())
"""
SUPEREXEC = """
from fedrsclip.site.flower_internals import SubprocessExecutor, become_superexec

class Own(SubprocessExecutor):
    def __init__(self):
        print("asked for", flush=True)
        raise SystemExit(7)

become_superexec(Own)
"""


def python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | quiet,
    )


Answer = Callable[[str, int], tuple[int, bytes]]
"""Takes a path and how often it was asked before; returns the status and the body."""


@contextmanager
def superlink(answer: Answer) -> Iterator[tuple[str, list[tuple[str, bytes, str]]]]:
    """A server: its address, and path, body and headers of each call."""
    calls: list[tuple[str, bytes, str]] = []

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.rpartition("/")[2]
            before = sum(path == other for other, _, _ in calls)
            calls.append((path, body, str(self.headers)))
            status, content = answer(path, before)
            self.send_response(status)
            self.send_header("Content-Type", "application/protobuf")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answering)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", calls
    finally:
        server.shutdown()
        server.server_close()


def failing(path: str, before: int) -> tuple[int, bytes]:
    """A SuperLink that refuses a node twice, and then has no message but a fault."""
    if path == "activate-node" and before < 2:
        return 412, b"{}"
    answers = {
        "register-node": RegisterNodeFleetResponse(node_id=5),
        "activate-node": ActivateNodeResponse(node_id=5),
        "send-node-heartbeat": SendNodeHeartbeatResponse(success=True),
    }
    return (200, answers[path].SerializeToString()) if path in answers else (500, b"")


@contextmanager
def started(code: str, home: Path, address: str) -> Iterator["subprocess.Popen[str]"]:
    """A SuperNode, as a process."""
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--insecure", "--superlink", address, "--isolation", "process", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | quiet | {"FLWR_HOME": str(home)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_supernode_tries_again_and_ends_when_its_loop_has_ended(tmp_path: Path) -> None:
    code = (
        "from fedrsclip.site import supernode\nsupernode._BETWEEN_TRIES = 0.1\nsupernode.main()\n"
    )
    with superlink(failing) as (address, calls), started(code, tmp_path, address) as process:
        _, said = process.communicate(timeout=120)
    paths = [path for path, _, _ in calls]
    assert process.returncode == 1
    assert "waiting to be registered: the server does not know this site's key" in said
    assert "SuperNode ID: 5" in said
    assert paths.count("activate-node") == 3 and "pull-messages" in paths
    assert (tmp_path / "connected.json").is_file()
    assert not [line for line in said.splitlines() if line.endswith("INFO :      ")]


def test_flowers_supernode_lives_on_when_its_loop_has_ended(tmp_path: Path) -> None:
    code = "from flwr.supernode.cli import flower_supernode; flower_supernode()"
    accepting: Answer = lambda path, before: failing(path, before + 2)  # noqa: E731
    with superlink(accepting) as (address, calls), started(code, tmp_path, address) as process:
        deadline = time.monotonic() + 120
        while not any(path == "deactivate-node" for path, _, _ in calls):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        assert process.poll() is None


def test_a_supernode_whose_heartbeats_have_stopped_ends_itself(tmp_path: Path) -> None:
    def answer(path: str, before: int) -> tuple[int, bytes]:
        if path == "pull-messages":
            return 200, PullMessagesResponse().SerializeToString()
        return (429, b"") if path == "send-node-heartbeat" else failing(path, 2)

    code = (
        "from fedrsclip.site import supernode\n"
        "supernode._TURN_SECONDS, supernode._HEARTBEAT_SECONDS = 0.2, 2.0\n"
        "supernode.main()\n"
    )
    with superlink(answer) as (address, calls), started(code, tmp_path, address) as process:
        _, said = process.communicate(timeout=120)
    paths = [path for path, _, _ in calls]
    assert paths.count("send-node-heartbeat") == 1, "Flower has tried again"
    assert "ends itself to be started again: no heartbeat was sent to the SuperLink for 2 s" in said
    assert paths[-2:] == ["deactivate-node", "unregister-node"] and process.returncode == 0


def test_a_supernode_can_be_reported_as_gone_by_its_key() -> None:
    def answer(path: str, before: int) -> tuple[int, bytes]:
        return (412, b"{}") if before else (200, DeactivateNodeResponse().SerializeToString())

    keys = generate_key_pairs()
    with superlink(answer) as (address, calls):
        connection = Connection(address, True, None, keys)
        assert connection.deactivate(2**64 - 5)
        assert not connection.deactivate(2**64 - 5), "it was no longer connected"
        assert not Connection(address, True, None, None).deactivate(5), "it has no key"
    path, body, headers = calls[0]
    assert (path, len(calls)) == ("deactivate-node", 2)
    assert DeactivateNodeRequest.FromString(body).node_id == 2**64 - 5
    assert "flwr-signature" in headers
    assert not Connection(address, True, None, keys).deactivate(5), "nobody answers"


@pytest.mark.parametrize("status", [200, 401, 500])
def test_the_end_of_a_process_is_reported_once_by_its_task(status: int) -> None:
    content = PushTaskOutputResponse().SerializeToString()
    with superlink(lambda *_: (status, content)) as (address, calls):
        report_end(spec(address), "its process ended with exit code -9")
    ((path, body, headers),) = calls
    request = PushTaskOutputRequest.FromString(body)
    assert path == "push-task-output" and TOKEN in headers
    assert (request.sub_status, request.details) == (
        "failed",
        "its process ended with exit code -9",
    )
    report_end(spec(address), "nobody hears it")


def spec(address: str) -> ExecutionSpec:
    return ExecutionSpec(
        task_type=TaskType.CLIENT_APP,
        runtime_api_address=address,
        token=TOKEN,
        insecure=True,
        root_certificates_path=None,
        runtime_dependency_install=False,
        parent_pid=os.getppid(),
        suppress_output=False,
        task_id=1,
    )


def test_flowers_bounds_on_the_rest_of_a_message_have_their_names() -> None:
    assert {"max_time", "backoff_cap"} <= set(pull_objects.__kwdefaults__ or {})


def test_flower_logs_empty_lines_by_the_logger_that_is_told_not_to() -> None:
    logger = logging.getLogger("flwr")
    before = list(logger.filters)
    try:
        flower_internals._without_empty_lines()
        passed = [
            logger.filter(logging.LogRecord("flwr", 20, "", 1, text, (), None))
            for text in ("", "  ", "said")
        ]
    finally:
        logger.filters = before
    assert list(map(bool, passed)) == [False, False, True]


@pytest.fixture
def node() -> Iterator[tuple[str, list[str]]]:
    """A SuperNode's Runtime API that refuses: its address, and each call's headers."""
    calls: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            calls.append(str(self.headers))
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", calls
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", MODULES)
def test_what_is_imported_before_a_message_is_there(name: str) -> None:
    assert importlib.util.find_spec(name) is not None


def test_flowers_superexec_asks_for_an_executor_where_ours_is_put() -> None:
    done = python(SUPEREXEC, "--insecure", "--runtime-api-address", "127.0.0.1:1")
    assert (done.returncode, done.stdout.split("\n")[0]) == (7, "asked for"), done.stderr


def test_a_client_app_asks_its_own_node_for_its_task_by_its_token(
    node: tuple[str, list[str]],
) -> None:
    address, calls = node
    done = python(SPEC, address, TOKEN)
    assert done.returncode == 1, done.stderr
    assert any(TOKEN in headers for headers in calls), calls


def test_a_client_apps_process_takes_the_steps_that_are_replaced() -> None:
    """Each once, by its name in this module: nothing else there installs or loads an app."""
    code = run_clientapp.run_clientapp.__code__
    assert set(_STEPS) <= set(code.co_names)
    source = inspect.getsource(run_clientapp.run_clientapp)
    calls = {name: source.count(f"{name}(") for name in _STEPS}
    assert calls == dict.fromkeys(_STEPS, 1)
    touches = ("importlib", "load_app(", "sys.path", "__import__", "exec(", "subprocess")
    assert not [word for word in touches if word in inspect.getsource(run_clientapp)]


def test_a_flower_with_other_steps_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_clientapp, "run_clientapp", lambda **_: None)
    with pytest.raises(RuntimeError, match="other steps"):
        become_client_app(spec("127.0.0.1:1"), Site())


def test_an_error_reply_is_flowers_own() -> None:
    """As that which its function makes of an exception, but for the text."""
    source = inspect.getsource(run_clientapp.run_clientapp)
    assert "ErrorCode.CLIENT_APP_RAISED_EXCEPTION" in source
    assert 'reason = str(type(ex)) + ":<\'" + str(ex) + "\'>"' in source


def test_a_supernode_reads_the_submitted_settings_where_it_is_bounded() -> None:
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    names = loop._pull_and_store_message.__code__.co_names
    assert "get_fused_config_from_fab" in names
    touches = ("zipfile", "tomli", "load_app", "install_from_fab", "importlib")
    assert not [word for word in touches if word in inspect.getsource(loop)]


PROJECT = """
[project]
name = "fedrsclip"
version = "0.1.0"
[tool.flwr.app]
publisher = "fedrsclip"
[tool.flwr.app.components]
serverapp = "a:b"
clientapp = "a:b"
[tool.flwr.app.config]
speed = 1
"""


@pytest.mark.parametrize(
    ("files", "speed"),
    [
        ({"pyproject.toml": PROJECT}, 1),
        ({"pyproject.toml": PROJECT + "#" * 2**24}, None),
        ({"pyproject.toml": "[[no toml"}, None),
        ({"pyproject.toml": "[project]"}, None),
        ({"other.toml": PROJECT}, None),
        ({}, None),
    ],
)
def test_no_archive_ends_a_supernode(files: dict[str, str], speed: int | None) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, text in files.items():
            opened.writestr(name, text)
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    config = bounded_config(loop.get_fused_config_from_fab)
    run = Run.create_empty(7)
    # Flower leaves out what the app itself does not have.
    run.override_config = {"speed": 2} if speed else {"length": 3}
    assert config(packed.getvalue(), run) == run.override_config
    run.override_config = {}
    assert config(packed.getvalue(), run) == ({} if speed is None else {"speed": speed})
    assert config(b"no archive", run) == {}
