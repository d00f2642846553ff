"""What a site assumes of Flower's inside, each against Flower's own code."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from fedrsclip.site.flower_internals import MODULES

pytestmark = [pytest.mark.unit, pytest.mark.flower]

TOKEN = "the-token-of-this-task"
SPEC = """
import os, sys
from fedrsclip.site.flower_internals import ExecutionSpec, LaunchResult, TaskType
from fedrsclip.site.flower_internals import become_client_app
become_client_app(ExecutionSpec(
    task_type=TaskType.CLIENT_APP, runtime_api_address=sys.argv[1], token=sys.argv[2],
    insecure=True, root_certificates_path=None, runtime_dependency_install=False,
    parent_pid=os.getppid(), suppress_output=False, task_id=1,
))
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
