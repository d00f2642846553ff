"""``fedrsclip run`` for real: true exit status, results, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedrsclip_core.processes import process_table

pytestmark = pytest.mark.integration

_SMALL = ["federation.num_clients=2", "federation.num_rounds=2", "data.images_per_class=10"]
_PATIENCE = 300


class Launched:
    """A ``fedrsclip`` process with a home directory of its own in an empty folder."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.user_home = folder / "user"
        self.home = folder / "home"
        empty = folder / "empty"
        for path in (self.user_home, empty):
            path.mkdir(parents=True)
        environment = {name: v for name, v in os.environ.items() if not name.startswith("FLWR")}
        environment |= {"HOME": str(self.user_home), "FEDRSCLIP_HOME": str(self.home)}
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fedrsclip_core.cli", *arguments],
                env=environment,
                cwd=empty,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._groups: set[int] = set()

    @property
    def output(self) -> str:
        """All it has printed so far."""
        return self._output.read_text()

    @property
    def running(self) -> bool:
        """Whether it still runs; notes the process groups it has."""
        self._note_groups()
        return self.process.poll() is None

    def wait(self) -> int:
        """Wait for its end and return its status."""
        deadline = time.monotonic() + _PATIENCE
        while self.running and time.monotonic() < deadline:
            time.sleep(0.5)
        return self.process.wait(timeout=1)

    def wait_for(self, text: str) -> None:
        """Wait until it has printed ``text``."""
        deadline = time.monotonic() + _PATIENCE
        while text not in self.output:
            assert self.running, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.2)

    def left_behind(self) -> list[int]:
        """Return the pids of living processes that it started."""
        return [pid for pid, (_, group) in process_table().items() if group in self._groups]

    def _note_groups(self) -> None:
        marker = f"FEDRSCLIP_HOME={self.home}".encode()
        table = process_table()
        for pid, (_, group) in table.items():
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            if marker in environment and group != os.getpgrp():
                self._groups.add(group)

    @property
    def groups(self) -> set[int]:
        """The process groups that were seen."""
        return self._groups


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


def _results(one: Launched) -> dict[str, object]:
    (path,) = one.home.glob("runs/*/results.json")
    return dict(json.loads(path.read_text()))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_two_runs_side_by_side(launch: Launch) -> None:
    runs = {seed: launch(str(seed), "run", f"seed={seed}", *_SMALL) for seed in (1, 2)}
    while all(one.running for one in runs.values()):
        time.sleep(0.5)
    for seed, one in runs.items():
        assert one.wait() == 0, one.output
        results = _results(one)
        assert (results["status"], results["seed"]) == ("completed", seed)
        assert "round   1 |" in one.output
        assert "round   2 |" in one.output
        assert "zero-shot" in one.output
        pictures = [x.removeprefix("picture: ") for x in one.output.splitlines() if ".png" in x]
        assert len(pictures) == 2
        assert all(Path(picture).is_file() for picture in pictures)
        assert "Traceback" not in one.output
        assert len(one.groups) >= 2
        assert one.left_behind() == []
        assert not (one.user_home / ".flwr").exists()
    assert runs[1].groups.isdisjoint(runs[2].groups)


def test_a_failed_run_is_status_1_with_its_reason(launch: Launch) -> None:
    one = launch("one", "run", *_SMALL, "federation.prepare_timeout=0.01")
    assert one.wait() == 1, one.output
    assert "the run failed: " in one.output
    assert "Traceback" not in one.output
    assert _results(one)["status"] == "failed"
    (log,) = one.home.glob("logs/*.flower.log")
    assert str(log) in one.output
    assert one.left_behind() == []


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_ctrl_c_in_the_middle_of_a_run_leaves_no_process(launch: Launch) -> None:
    one = launch("one", "run", *_SMALL, "federation.num_rounds=10000")
    one.wait_for("round   1 |")
    assert one.left_behind() != []
    one.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    one.process.send_signal(signal.SIGINT)
    assert one.wait() == 130, one.output
    assert "everything was stopped" in one.output
    assert one.left_behind() == []
    assert list(one.home.glob("runs/*/config.yaml"))


def test_nothing_is_started_for_a_run_that_cannot_work(launch: Launch) -> None:
    one = launch("one", "run", "data=folder", "data.path=no-such-folder")
    assert one.wait() == 1
    assert "no-such-folder" in one.output
    assert one.output.count("\n") == 1
    assert not (one.home / "runs").exists()
