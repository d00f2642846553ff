"""A ``fedrsclip`` command as a process, with everything that it starts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fedrsclip.run.processes import process_table

PATIENCE = 300
SMALL = ["federation.num_clients=2", "federation.num_rounds=2", "data.images_per_class=10"]


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Launched:
    """A ``fedrsclip`` process with a home directory of its own in an empty folder."""

    def __init__(self, folder: Path, *arguments: str, python: str = sys.executable) -> None:
        self.user_home = folder / "user"
        self.home = folder / "home"
        empty = folder / "empty"
        for path in (self.user_home, empty):
            path.mkdir(parents=True, exist_ok=True)
        environment = {name: v for name, v in os.environ.items() if not name.startswith("FLWR")}
        environment |= {"HOME": str(self.user_home), "FEDRSCLIP_HOME": str(self.home)}
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [python, "-m", "fedrsclip.cli", *arguments],
                env=environment,
                cwd=empty,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Tests that run in the background of a shell ignore Ctrl-C; a child would, too.
                preexec_fn=_heed_interrupts,
            )

    @property
    def results(self) -> dict[str, Any]:
        """The summary of its only run."""
        return self.record("results")

    def record(self, name: str) -> dict[str, Any]:
        """Read a JSON file of its only run."""
        (path,) = self.home.glob(f"runs/*/{name}.json")
        return dict(json.loads(path.read_text()))

    @property
    def output(self) -> str:
        """All it has printed so far."""
        return self._output.read_text()

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def wait(self) -> int:
        """Wait for its end and return its status."""
        deadline = time.monotonic() + PATIENCE
        while self.running and time.monotonic() < deadline:
            time.sleep(0.5)
        return self.process.wait(timeout=1)

    def wait_for(self, text: str) -> None:
        """Wait until it has printed ``text``."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.output:
            assert self.running, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.2)

    def left_behind(self) -> list[int]:
        """Return the pids of living processes that it started: they know its home."""
        marker = f"FEDRSCLIP_HOME={self.home}".encode()
        return [
            pid
            for pid in process_table()
            if pid != self.process.pid and marker in _environment(pid).split(b"\0")
        ]

    def kill(self) -> None:
        """End it and all that it started by SIGKILL, at once."""
        for pid in [self.process.pid, *self.left_behind()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=10)

    def wait_until_alone(self, engine: str = "local") -> None:
        """Wait until nothing that it started is left.

        Its fork server ends by itself, a moment after it; of Flower's engine nothing may be left.
        """
        deadline = time.monotonic() + (30 if engine == "local" else 0)
        while left := self.left_behind():
            assert time.monotonic() < deadline, left
            time.sleep(0.1)


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


Launch = Callable[..., Launched]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start ``fedrsclip`` in a sub-folder; ended whatever happens."""
    started: list[Launched] = []

    def start(name: str, *arguments: str) -> Launched:
        started.append(Launched(tmp_path / name, *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)
            one.process.wait(timeout=60)
