"""A SuperNode that watches itself; what it takes from Flower is in test_flower_internals.py."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedrsclip.site import supernode
from fedrsclip.site.supernode import Predecessor, Pulse, Refusal, watch

pytestmark = pytest.mark.unit

END = """
import signal, sys, time
from fedrsclip.site.supernode import end_this_process
from threading import Thread
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
Thread(target=end_this_process, args=("stuck",), kwargs={"patience": 0.5}, daemon=True).start()
time.sleep(60)
"""


def test_a_pulse_is_missed_after_its_time_and_not_before() -> None:
    pulse = Pulse("nothing has moved", 20)
    assert [pulse.missed() for _ in range(4)] == [None] * 4
    assert pulse.missed() == "nothing has moved for 25 s"
    pulse.beat()
    assert [pulse.missed() for _ in range(4)] == [None] * 4


def test_the_watch_ends_the_process_once_something_is_wrong() -> None:
    answers = iter([None, None, "stuck"])
    ended: list[str] = []
    slept: list[float] = []
    watch(lambda: next(answers), ended.append, slept.append)
    assert ended == ["stuck"] and len(slept) == 2


@pytest.mark.parametrize(("how", "status"), [("polite", 7), ("deaf", 1)])
def test_a_process_ends_itself_politely_or_at_once(how: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", END, how], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status
    assert "the SuperNode ends itself to be started again: stuck" in done.stderr


def test_a_killed_predecessor_is_reported_and_the_server_has_time_to_see_it(tmp_path: Path) -> None:
    Predecessor(tmp_path, "boot").note(2**64 - 5)
    told: list[int] = []
    slept: list[float] = []

    def deactivate(node_id: int) -> bool:
        told.append(node_id)
        return True

    Predecessor(tmp_path, "boot").report(deactivate, slept.append)
    assert told == [2**64 - 5]
    assert slept == [supernode._OFFLINE_SECONDS] and slept[0] > 0.5


def test_nothing_is_waited_for_if_the_predecessor_had_left(tmp_path: Path) -> None:
    Predecessor(tmp_path, "boot").note(5)
    slept: list[float] = []
    Predecessor(tmp_path, "boot").report(lambda _: False, slept.append)
    assert slept == []


@pytest.mark.parametrize("boot", ["another", None])
def test_a_copy_of_the_folder_on_another_machine_reports_nobody(
    tmp_path: Path, boot: str | None
) -> None:
    Predecessor(tmp_path, "boot" if boot else None).note(5)
    Predecessor(tmp_path, boot).report(lambda _: pytest.fail("reported"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"node_id": "x", "boot": "boot"}', "\0", None])
def test_a_damaged_note_is_no_note(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "connected.json").write_text(text)
    Predecessor(tmp_path, "boot").report(lambda _: pytest.fail("reported"))


def test_a_note_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Predecessor(tmp_path / "file", "boot").note(5)


def test_the_note_is_for_its_owner(tmp_path: Path) -> None:
    Predecessor(tmp_path, "boot").note(5)
    assert (tmp_path / "connected.json").stat().st_mode & 0o077 == 0
    assert json.loads((tmp_path / "connected.json").read_text()) == {"node_id": 5, "boot": "boot"}


def test_a_refusal_is_said_now_and_then(tmp_path: Path) -> None:
    lines: list[str] = []
    slept: list[float] = []
    refusal = Refusal(lines.append, slept.append)
    for _ in range(21):
        refusal()
    assert len(lines) == 2 and len(slept) == 21 and sum(slept[:20]) == 60
    assert lines[0].startswith("waiting to be registered: the server does not know this site's key")


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux who holds a folder")
def test_two_of_one_home_do_not_run(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from fedrsclip_core.runs.lock import hold\n"
        "lock = hold(Path(os.environ['FLWR_HOME'])); print('held', flush=True); time.sleep(60)\n"
    )
    environment = {"FLWR_HOME": str(tmp_path), "PATH": ""}
    holder = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        done = subprocess.run(
            [sys.executable, "-c", "from fedrsclip.site.supernode import main; main()"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert done.returncode == 1
    assert done.stderr.startswith(f"a SuperNode is running in FLWR_HOME={tmp_path}: stop it, or")


def test_linux_names_this_machine_since_it_was_booted() -> None:
    assert supernode.boot_id() == supernode.boot_id()
    assert (supernode.boot_id() is not None) == (sys.platform == "linux")
