"""A real federation on loopback: SuperLink, SuperNodes, and a listener on the wire between them."""

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w

from fedrsclip import machine
from fedrsclip.run.processes import ProcessTree, process_table

_CONNECTION = "loopback"
_POLL_SECONDS = 0.2
_STATUS_SECONDS = 15.0


class Wiretap:
    """A TCP relay to ``port`` that keeps every byte; one stream per connection and direction."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._up: list[bytearray] = []
        self._down: list[bytearray] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def up(self) -> list[bytes]:
        """What the node sent."""
        return [bytes(stream) for stream in self._up]

    @property
    def down(self) -> list[bytes]:
        """What the node was sent."""
        return [bytes(stream) for stream in self._down]

    def close(self) -> None:
        """Hang up."""
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                node, _ = self._listener.accept()
                link = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._sockets += [node, link]
            for source, target, streams in ((node, link, self._up), (link, node, self._down)):
                streams.append(bytearray())
                arguments = (source, target, streams[-1])
                threading.Thread(target=_relay, args=arguments, daemon=True).start()


class Place:
    """One machine of the federation: a folder with a working directory and homes of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "fedrsclip"
        self.flower_home = root / "flwr"
        self.work = root / "work"
        self.log = root / "output.log"
        for folder in (self.home, self.flower_home, self.work):
            folder.mkdir(parents=True)
        self._tree: ProcessTree | None = None
        self._environment = {n: v for n, v in os.environ.items() if not n.startswith("FLWR")} | {
            "HOME": str(root),
            "PATH": machine.script_folders(),
            "FLWR_HOME": str(self.flower_home),
            "FEDRSCLIP_HOME": str(self.home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
        }

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a program that stays."""
        program, *arguments = command
        self._tree = ProcessTree(
            [machine.program(program), *arguments],
            self._environment | dict(environment),
            self.work,
            self.log,
        )

    def call(self, *arguments: str) -> str:
        """Run Flower's command and return what it prints."""
        return subprocess.run(
            [machine.program("flwr"), *arguments],
            env=self._environment,
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=True,
        ).stdout

    def require_running(self) -> None:
        """Fail with the program's output if it has ended; note what it has started meanwhile."""
        assert self._tree is not None
        self._tree.members()
        assert self._tree.running, self.log.read_text()

    def end(self) -> None:
        """End the program with everything that it started."""
        if self._tree is not None:
            self._tree.end()


class Federation:
    """A SuperLink, and SuperNodes that reach it through a wiretap each."""

    def __init__(self, root: Path) -> None:
        self.server = Place(root / "server")
        self.nodes: dict[str, Place] = {}
        self.taps: dict[str, Wiretap] = {}
        self._user = Place(root / "user")
        self._port = _free_port()
        self._root = root

    def start_link(self) -> None:
        """Start the SuperLink and wait until it answers."""
        command = ["flower-superlink", "--insecure", "--host", "127.0.0.1"]
        command += ["--port", str(self._port), "--disable-runtime-dependency-installation"]
        self.server.start(command, {})
        while not _healthy(self._port):
            self.server.require_running()
            time.sleep(_POLL_SECONDS)
        (self._user.flower_home / "config.toml").write_text(
            f'[superlink]\ndefault = "{_CONNECTION}"\n\n[superlink.{_CONNECTION}]\n'
            f'address = "127.0.0.1:{self._port}"\ninsecure = true\n'
        )

    def start_node(
        self,
        name: str,
        place: Place,
        node_config: Mapping[str, str | int],
        environment: Mapping[str, str],
    ) -> None:
        """Start a SuperNode at ``place``."""
        self.nodes[name], self.taps[name] = place, Wiretap(self._port)
        pairs = " ".join(f"{key}={json.dumps(value)}" for key, value in node_config.items())
        command = ["flower-supernode", "--insecure"]
        command += ["--superlink", f"127.0.0.1:{self.taps[name].port}"]
        command += ["--port", str(_free_port()), "--node-config", pairs]
        place.start(command, environment)

    def submit(self, app: Path, overrides: str) -> str:
        """Submit an app with Hydra overrides and return the run's id."""
        config = self._user.root / "run.toml"
        config.write_text(tomli_w.dumps({"hydra-overrides": overrides}), encoding="utf-8")
        answer = self._user.call(
            "run", str(app), _CONNECTION, "-c", str(config), "--format", "json"
        )
        return str(_json(answer)["run-id"])

    def wait(self, run_id: str, results: Path) -> dict[str, Any]:
        """Wait until Flower says that the run is over and return what it says of it.

        A question costs a second of CPU, so it is asked rarely until there are ``results``.
        """
        asked = time.monotonic()
        while True:
            for place in (self.server, *self.nodes.values()):
                place.require_running()
            if results.exists() or time.monotonic() - asked > _STATUS_SECONDS:
                arguments = ("ls", _CONNECTION, "--run-id", run_id, "--format", "json")
                (run,) = _json(self._user.call(*arguments))["runs"]
                if run["status"].startswith("finished"):
                    return dict(run)
                asked = time.monotonic()
            time.sleep(_POLL_SECONDS)

    def run_log(self, run_id: str) -> str:
        """Return what a user can read of the run through Flower."""
        return self._user.call("log", run_id, _CONNECTION, "--show")

    def end(self) -> None:
        """End everything, the nodes first."""
        try:
            for place in (*self.nodes.values(), self.server):
                place.end()
        finally:
            for tap in self.taps.values():
                tap.close()

    def left_behind(self) -> list[int]:
        """Return the pids of living processes whose homes lie in this federation's folder."""
        marker = f"FLWR_HOME={self._root}/".encode()
        return [pid for pid in process_table() if marker in _environment_of(pid)]


def _relay(source: socket.socket, target: socket.socket, stream: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            stream += data
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _json(text: str) -> dict[str, Any]:
    """Return the JSON object in a command's output, which may have warnings around it."""
    assert "{" in text, text
    return dict(json.loads(text[text.find("{") : text.rfind("}") + 1]))


def _environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
