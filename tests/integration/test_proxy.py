"""The proxy alone, before a stand-in for the SuperLink: which paths, how large, how often."""

import http.client
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fedrsclip.deploy.proxy import Proxy, largest_object, nginx_conf
from tests.integration.deployed import free_port

_NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(_NGINX is None, reason="nginx is not installed"),
]

CLASSES = 1000


class Upstream(BaseHTTPRequestHandler):
    """Takes whatever reaches it, as the SuperLink would."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        rest = int(self.headers["Content-Length"])
        while rest:
            rest -= len(self.rfile.read(min(rest, 2**16)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Return the port of a running proxy without TLS."""
    assert _NGINX is not None
    folder, port = tmp_path_factory.mktemp("proxy"), free_port()
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    behind = f"127.0.0.1:{upstream.server_address[1]}"
    conf = nginx_conf(Proxy(f"127.0.0.1:{port}", behind, None, None, num_classes=CLASSES))
    (folder / "nginx.conf").write_text(conf)
    command = [_NGINX, "-e", "stderr", "-p", str(folder), "-c", "nginx.conf"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            wait_for(port, folder / "log")
            yield port
        finally:
            process.terminate()
            process.wait()
            upstream.shutdown()
            upstream.server_close()


def wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            answer(port, "/")
            return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


def answer(port: int, path: str, size: int = 0, *, method: str = "POST", key: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, bytes(size), {"flwr-public-key": key} if key else {})
        return connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        return 413  # it hung up on a body that it does not want
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/fleet/pull-messages%0a",
        "/v1/fleet/x%0a",
        "/v1/fleet/push-object%0a",
        "/v1/fleet/push-object/",
        "/v1/fleet/../control/start-run",
        "/v1/control/start-run",
        "/v1/fleet/",
        "/",
    ],
)
def test_nothing_but_the_fleets_paths_is_published(proxy: int, path: str) -> None:
    assert answer(proxy, path) == 403


@pytest.mark.parametrize("path", ["push-object", "push-messages"])
def test_only_posting_is_taken(proxy: int, path: str) -> None:
    assert answer(proxy, f"/v1/fleet/{path}", method="GET") == 403


@pytest.mark.parametrize(
    ("path", "largest"),
    [
        ("push-object", largest_object(CLASSES)),
        ("push-messages", 2048),
        ("pull-messages", 2048),
        ("no-such-path", 2048),
    ],
)
def test_each_path_takes_what_an_honest_site_sends_and_no_more(
    proxy: int, path: str, largest: int
) -> None:
    assert answer(proxy, f"/v1/fleet/{path}", largest) == 200
    assert answer(proxy, f"/v1/fleet/{path}", largest + 1) == 413


def test_a_site_that_asks_without_end_is_told_to_wait_and_the_others_are_not(proxy: int) -> None:
    path = "/v1/fleet/push-object"
    statuses = [answer(proxy, path, key="loud") for _ in range(600)]
    assert set(statuses) == {200, 503}
    # A round's requests of many sites behind this one address.
    assert {answer(proxy, path, key=f"site-{n}") for n in range(40) for _ in range(30)} == {200}
