"""A tree of processes ends as a whole, also what detached itself."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from fedrsclip.run.processes import ProcessTree, undisturbed

pytestmark = pytest.mark.unit

_DETACHING = """
import subprocess, sys, time
code = "import signal, time; signal.signal(signal.SIGTERM, %s); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _start(folder: Path, handler: str) -> tuple[ProcessTree, int]:
    log = folder / "log"
    code = _DETACHING % handler
    tree = ProcessTree([sys.executable, "-c", code], os.environ, folder, log)
    deadline = time.monotonic() + 20
    while not log.read_text().endswith("\n") and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    return tree, int(log.read_text())


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
@pytest.mark.parametrize("handler", ["signal.SIG_DFL", "signal.SIG_IGN"])
def test_a_detached_grandchild_ends_with_the_tree(tmp_path: Path, handler: str) -> None:
    tree, grandchild = _start(tmp_path, handler)
    assert len(tree.members()) == 2
    tree.end(patience=1.0)
    assert not tree.running
    assert not _alive(grandchild)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_a_grandchild_ends_after_its_parent_died(tmp_path: Path) -> None:
    tree, grandchild = _start(tmp_path, "signal.SIG_DFL")
    child = next(pid for pid in tree.members() if pid != grandchild)
    os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while tree.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _alive(grandchild)
    tree.end(patience=2.0)
    assert not _alive(grandchild)


def test_a_second_interrupt_does_not_disturb_the_clean_up() -> None:
    before = signal.getsignal(signal.SIGINT)
    with undisturbed():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
