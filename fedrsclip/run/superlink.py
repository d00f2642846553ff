"""A Flower SuperLink of our own, spoken to by Flower's own command."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from fedrsclip.run.processes import ProcessTree
from fedrsclip_core import machine
from fedrsclip_core.errors import RunError

_CONNECTION = "own"
_LONGEST_SOCKET_ROOT = 30
_SUBMIT_SECONDS = 120
_COLOURING = ("FORCE_COLOR", "TTY_COMPATIBLE")


@dataclass(frozen=True)
class RunStatus:
    """What Flower says of a run: ``running``, ``finished:completed``, ... and why."""

    status: str
    details: str = ""

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self.status.startswith("finished")


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder that is gone afterwards; its path is short, because Ray's sockets lie there."""
    root = tempfile.gettempdir()
    short = root if len(root) <= _LONGEST_SOCKET_ROOT - len("/fedrsclip-12345678") else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="fedrsclip-", dir=short))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
            # With one of these Flower's JSON has colours in it, which is no JSON.
            **{name: v for name, v in os.environ.items() if name not in _COLOURING},
            "PATH": machine.script_folders(),
            "FLWR_HOME": str(flower_home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            # Never join a cluster that happens to run here.
            "RAY_ADDRESS": "local",
            "RAY_TMPDIR": os.environ.get("RAY_TMPDIR", str(folder)),
            "RAY_USAGE_STATS_ENABLED": "0",
            **environment,
        }
        self._tree: ProcessTree | None = None

    def start(self, timeout: float = 60.0) -> None:
        """Start it and wait until it answers.

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
                break
            # Another process may have taken the port in between.
            self.end()
        else:
            raise RunError(f"Flower's SuperLink did not start: {tail(self.log)}")
        connection = {"address": f"127.0.0.1:{port}", "insecure": True}
        known = {"superlink": {"default": _CONNECTION, _CONNECTION: connection}}
        file = self._folder / "flwr" / "config.toml"
        file.write_text(tomli_w.dumps(known), encoding="utf-8")

    @property
    def running(self) -> bool:
        """Whether the SuperLink lives."""
        return self._tree is not None and self._tree.running

    def submit(self, app: Path, run_config: Mapping[str, str], federation: str) -> str:
        """Submit an app and return the run's id.

        Raises
        ------
        RunError
            With Flower's own words if it refuses.
        """
        config = self._folder / "run-config.toml"
        config.write_text(tomli_w.dumps(run_config), encoding="utf-8")
        command = ["run", str(app), _CONNECTION, "-c", str(config)]
        command += ["--federation-config", federation, "--format", "json"]
        try:
            answer = _json(self._call(command, timeout=_SUBMIT_SECONDS))
        except subprocess.TimeoutExpired as error:
            raise RunError(f"Flower took no run within {_SUBMIT_SECONDS} seconds") from error
        if "run-id" not in answer:
            raise RunError(f"Flower refused the run: {answer.get('error-message', answer)}")
        return str(answer["run-id"])

    def ask_status(self, run_id: str) -> "subprocess.Popen[str]":
        """Begin to ask Flower for a run's status."""
        if self._tree is not None:
            self._tree.members()
        return self._flwr(["ls", _CONNECTION, "--run-id", run_id, "--format", "json"])

    def run_log(self, run_id: str) -> str:
        """Return what the run has logged, as far as it can be had."""
        with suppress(subprocess.TimeoutExpired):
            return self._call(["log", run_id, _CONNECTION, "--show"], timeout=20)
        return ""

    def stop_run(self, run_id: str) -> None:
        """Ask Flower to stop a run, as far as it can be asked."""
        with suppress(subprocess.TimeoutExpired):
            self._call(["stop", run_id, _CONNECTION], timeout=10)

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

    def _call(self, arguments: Sequence[str], timeout: float | None = None) -> str:
        with self._flwr(arguments) as process:
            try:
                return process.communicate(timeout=timeout)[0]
            except BaseException:
                process.kill()
                raise

    def _flwr(self, arguments: Sequence[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [machine.program("flwr"), *arguments],
            env=self._environment,
            cwd=self._empty,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A Ctrl-C at the terminal is ours to handle.
            start_new_session=True,
        )


class StatusQuestion:
    """Asks for a run's status without waiting for the answer; one question at a time."""

    def __init__(self, link: SuperLink, run_id: str) -> None:
        self._link = link
        self._run_id = run_id
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "StatusQuestion":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def ask(self) -> None:
        """Ask, unless an answer is still awaited."""
        if self._process is None:
            self._process = self._link.ask_status(self._run_id)

    def answer(self) -> RunStatus | None:
        """Return the status once, when it has come."""
        if self._process is None or self._process.poll() is None:
            return None
        output = self._process.communicate()[0]
        self._process = None
        runs = _json(output).get("runs") or []
        if not runs:
            return None
        details = str(runs[0].get("status-details", ""))
        return RunStatus(str(runs[0]["status"]), "" if details == "N/A" else details)


def tail(log: Path, lines: int = 3) -> str:
    """Return the last lines of a log on one line."""
    if not log.is_file():
        return "it wrote no log"
    text = log.read_text(encoding="utf-8", errors="replace")
    return " | ".join(line.strip() for line in text.splitlines()[-lines:])


def _json(text: str) -> dict[str, Any]:
    """Return the JSON object in a command's output, which may have warnings around it."""
    begin, end = text.find("{"), text.rfind("}")
    try:
        value = json.loads(text[begin : end + 1])
    except json.JSONDecodeError:
        return {"error-message": text.strip()}
    return dict(value)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
