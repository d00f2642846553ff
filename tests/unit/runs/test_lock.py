"""A folder is held by one process at a time, and looked at by any number without a trace."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from client_app.private_format import PrivateFormat
from client_app.private_store import open_store
from fedrsclip.bench.runner import locked
from fedrsclip_core.config.schema import Config
from fedrsclip_core.runs import lock, paths
from server_app.attempts import open_attempt
from tests.disks import fill, small_disk

pytestmark = pytest.mark.unit

_LOOK = """
import sys
from pathlib import Path
from fedrsclip_core.runs import lock
folder = Path(sys.argv[1])
print("looking", flush=True)
while True:
    lock.is_held(folder)
"""
_HOLD = """
import subprocess, sys
from pathlib import Path
from fedrsclip_core.runs import lock
held = lock.hold(Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "60"], pass_fds=[held.fileno()], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
child.wait()
"""


@contextmanager
def process(code: str, folder: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a script about a folder; give its process and the line that it begins with."""
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        try:
            yield one, one.stdout.readline().strip()
        finally:
            one.kill()


def a_run() -> AbstractContextManager[object]:
    config = Config()
    config.run.name = "first"
    return open_attempt(config, 7, "", lambda line: None)


def a_benchmark() -> AbstractContextManager[object]:
    return locked(paths.bench_dir("first"))


def a_private_store() -> AbstractContextManager[object]:
    expected = PrivateFormat("c" * 64, "k" * 64, 4, 8, "gate", 1)
    return open_store("demo", "first", "client-0", expected, lambda line: None)


@pytest.mark.parametrize(
    ("start", "folder"),
    [
        (a_run, lambda: paths.runs_dir() / "first"),
        (a_benchmark, lambda: paths.bench_dir("first")),
        (a_private_store, lambda: paths.private_dir("demo", "first", "client-0")),
    ],
)
def test_looking_never_refuses_a_start(
    start: Callable[[], AbstractContextManager[object]], folder: Callable[[], Path]
) -> None:
    with start():
        pass
    with process(_LOOK, folder()), process(_LOOK, folder()):
        for _ in range(200):
            with start():
                assert lock.is_held(folder())


def test_a_second_holder_is_refused_and_a_patient_one_waits(tmp_path: Path) -> None:
    with lock.hold(tmp_path), pytest.raises(BlockingIOError):
        lock.hold(tmp_path)
    with process(_HOLD, tmp_path) as (_, child), pytest.raises(BlockingIOError):
        lock.hold(tmp_path, patience=0.2)
    subprocess.run(["kill", child], check=True)
    lock.hold(tmp_path, patience=10).close()


def test_a_folder_is_held_until_the_last_heir_is_killed(tmp_path: Path) -> None:
    assert not lock.is_held(tmp_path)
    with process(_HOLD, tmp_path) as (holder, child):
        assert lock.is_held(tmp_path)
        holder.kill()
        holder.wait()
        assert lock.is_held(tmp_path)
        subprocess.run(["kill", "-9", child], check=True)
    lock.hold(tmp_path, patience=10).close()
    assert not lock.is_held(tmp_path)


def test_a_full_disk_keeps_nobody_from_holding(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        lock.hold(disk).close()
        fill(disk)
        with lock.hold(disk):
            assert lock.is_held(disk)
        assert not lock.is_held(disk)


def test_a_look_leaves_no_file(tmp_path: Path) -> None:
    assert not lock.is_held(tmp_path)
    assert not any(tmp_path.iterdir())
