"""``fedrsclip watch`` beside a real run: it follows, it ends by itself, and it disturbs nothing."""

import fcntl
import os
import pty
import signal
import struct
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.launched import PATIENCE, SMALL, Launch
from tests.run_files import round_record as record
from tests.unit.watch.folders import Folder

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc"),
]


def rounds_in(output: str) -> list[str]:
    """The rounds as the run itself prints them, without what only a watcher adds."""
    lines = [line for line in output.splitlines() if line.startswith("round ")]
    return [line.partition(" | about ")[0] for line in lines]


def test_a_run_is_watched_from_before_its_start_to_its_end(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    watching = launch("watch", "watch", "../../run/home/runs/first")
    watching.wait_for("for it to begin")
    run = launch("run", "run", "run.name=first", *SMALL)
    assert watching.wait() == 0, watching.output
    assert run.wait() == 0, run.output
    assert len(rounds_in(run.output)) == 3
    assert rounds_in(watching.output) == rounds_in(run.output)
    assert "run first: fedrsclip_plus, 2 clients, seed 0" in watching.output
    assert "run first: completed" in watching.output
    assert watching.output.replace("\n", "").isprintable()
    assert "Traceback" not in watching.output


def test_a_watcher_that_is_stopped_and_a_run_that_is_killed(launch: Launch) -> None:
    run = launch("run", "run", "run.name=first", *SMALL, "federation.num_rounds=10000")
    run.wait_for("round   0 |")
    folder = str(run.home / "runs/first")
    stopped, other = launch("stopped", "watch", folder), launch("other", "watch", folder)
    for one in (stopped, other):
        one.wait_for("round   1 |")
    stopped.process.send_signal(signal.SIGINT)
    assert stopped.wait() == 130, stopped.output
    assert "first is left as it is" in stopped.output
    assert run.running
    assert other.running

    run.kill()
    assert other.wait() == 1, other.output
    assert "run first: interrupted: no process works on it any more" in other.output
    assert "fedrsclip run resume=first" in other.output
    assert "Traceback" not in other.output


def shown_in_a_terminal(columns: int, *arguments: str) -> tuple[int, str]:
    """Run ``fedrsclip`` in a terminal of its own; return its status and all that it drew."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "fedrsclip.cli", *arguments])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    drawn, deadline = b"", time.monotonic() + PATIENCE
    with suppress(OSError):  # what Linux says when the other end is closed
        while (data := os.read(terminal, 65536)) and time.monotonic() < deadline:
            drawn += data
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), drawn.decode()


def test_a_terminal_is_drawn_on_and_left_in_order(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "first")
    folder.begin()
    folder.add(*(record(number) for number in range(5)))
    folder.end()
    status, drawn = shown_in_a_terminal(100, "watch", str(folder.path))
    assert status == 0, drawn
    assert "round 4 of 4" in drawn
    assert "━" in drawn
    assert "run first: completed" in drawn
    hidden, shown = "\x1b[?25l", "\x1b[?25h"  # the cursor
    assert drawn.rindex(hidden) < drawn.rindex(shown)
