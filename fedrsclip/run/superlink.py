"""A Flower SuperLink of our own."""

import http.client
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fedrsclip import machine
from fedrsclip.run.connection import Connection, connect_to, flower_environment
from fedrsclip.run.processes import ProcessTree
from fedrsclip_core.errors import RunError

_LOOK_AROUND_SECONDS = 5.0


class SuperLink:
    """A SuperLink with the simulation runtime on a free loopback port.

    It has its own ``FLWR_HOME``, so the user's Flower settings and daemon are not touched, and an
    empty working directory, because Ray puts that first on the clients' module path.

    Parameters
    ----------
    folder : Path
        Scratch folder for all that it writes.
    environment : Mapping[str, str]
        Additions to the environment of everything it starts.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self.log = folder / "superlink.log"
        flower_home = folder / "flwr"
        self._empty = folder / "empty"
        for path in (flower_home, self._empty):
            path.mkdir()
        self._environment = {
            **flower_environment(),
            "FLWR_HOME": str(flower_home),
            # Never join a cluster that happens to run here.
            "RAY_ADDRESS": "local",
            "RAY_TMPDIR": os.environ.get("RAY_TMPDIR", str(folder)),
            "RAY_USAGE_STATS_ENABLED": "0",
            **environment,
        }
        self._tree: ProcessTree | None = None
        self._looked = 0.0

    def start(self, timeout: float = 60.0) -> Connection:
        """Start it, wait until it answers, and return the way to it.

        Raises
        ------
        RunError
            If it does not, with the end of its log.
        """
        for _ in range(3):
            port = _free_port()
            command = [machine.program("flower-superlink"), "--simulation", "--insecure"]
            command += ["--host", "127.0.0.1", "--port", str(port)]
            command += ["--disable-runtime-dependency-installation"]
            self._tree = ProcessTree(command, self._environment, self._empty, self.log)
            if self._wait_until_healthy(port, timeout):
                return connect_to(f"127.0.0.1:{port}", self._folder, root_certificates=None)
            # Another process may have taken the port in between.
            self.end()
        raise RunError(f"Flower's SuperLink did not start: {self._last_words()}")

    @property
    def running(self) -> bool:
        """Whether the SuperLink lives."""
        return self._tree is not None and self._tree.running

    def check(self) -> None:
        """Look after it, now and then: what it starts must be known when it is ended.

        Raises
        ------
        RunError
            If it has ended by itself.
        """
        if self._tree is None or not self._tree.running:
            raise RunError(f"Flower's SuperLink ended by itself: {self._last_words()}")
        if time.monotonic() - self._looked >= _LOOK_AROUND_SECONDS:
            self._tree.members()
            self._looked = time.monotonic()

    def end(self) -> None:
        """End the SuperLink and all that it started."""
        if self._tree is not None:
            self._tree.end()
            self._tree = None

    def _wait_until_healthy(self, port: int, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self.running and time.monotonic() < deadline:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            with suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/health")
                if connection.getresponse().status == http.client.OK:
                    return self.running
            connection.close()
            time.sleep(0.1)
        return False

    def _last_words(self, lines: int = 3) -> str:
        if not self.log.is_file():
            return "it wrote no log"
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return " | ".join(line.strip() for line in text.splitlines()[-lines:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
