"""Programs are kept running: small real ones, of which nothing may be left."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from fedrsclip.site import supervisor

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60
DEAF = "trap '' TERM; echo ready; while :; do sleep 1; done"
KEEP = """
import sys
from pathlib import Path
from fedrsclip.site import supervisor
supervisor._FIRST_PAUSE, supervisor._LONGEST_PAUSE = 0.2, 0.8
supervisor._PATIENCE = supervisor._PATIENCE_WITH_REST = float(sys.argv[2])
programs = [
    supervisor.Program(name, ["sh", "-c", script], {"MARK": "here"}, once=name == "once")
    for name, script in zip(sys.argv[3::2], sys.argv[4::2])
]
supervisor.keep(programs, logs=Path(sys.argv[1]))
"""


class Kept:
    """A process that keeps shell scripts running, by name."""

    def __init__(self, folder: Path, patience: float, scripts: Mapping[str, str]) -> None:
        self.logs, self._output = folder / "logs", folder / "output"
        words = [word for pair in scripts.items() for word in pair]
        command = [sys.executable, "-c", KEEP, str(self.logs), str(patience), *words]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, cwd=ROOT)

    def said(self) -> str:
        return self._output.read_text()

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def wait_for(self, pattern: str, times: int = 1) -> list[str]:
        self.wait(lambda: len(re.findall(pattern, self.said(), re.M)) >= times)
        return re.findall(pattern, self.said(), re.M)

    def pids(self, name: str, times: int = 1) -> list[int]:
        return [int(pid) for pid in self.wait_for(rf"^{name}: started, process (\d+)$", times)]

    def end(self, number: signal.Signals = signal.SIGTERM) -> str:
        self.process.send_signal(number)
        assert self.process.wait(timeout=PATIENCE) == 0, self.said()
        return self.said()


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    started: list[Kept] = []

    def start(*, patience: float = 10, **scripts: str) -> Kept:
        started.append(Kept(tmp_path, patience, scripts))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_what_ends_is_started_again_after_a_growing_pause(keep: Callable[..., Kept]) -> None:
    kept = keep(short="echo $MARK; exit 3", long="exec sleep 600")
    kept.wait_for("^short: here$", times=4)
    pauses = kept.wait_for(r"^short: ended with exit code 3 after \d+ s; it is started again", 3)
    assert len(pauses) >= 3
    assert len(kept.pids("long")) == 1, "one that runs was touched"


def test_a_pause_grows_up_to_a_bound_and_is_short_after_a_good_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    log = supervisor._Log(tmp_path / "one.log", lines.append)
    one = supervisor._Kept(supervisor.Program("one", ["false"]), log)
    now = 1000.0
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now)
    for lived in (1, 1, 1, 1, 1, 1, 1, 31):
        one._started, now = now, now + lived
        one._plan("ended", well=True)
    pauses = [int(re.findall(r"again in (\d+) s", line)[0]) for line in lines]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 1]


def test_one_that_was_killed_is_started_again_and_the_signal_is_named(
    keep: Callable[..., Kept],
) -> None:
    kept = keep(node="exec sleep 600")
    (first,) = kept.pids("node")
    os.kill(first, signal.SIGKILL)
    _, second = kept.pids("node", times=2)
    assert "node: was ended by SIGKILL after 0 s; it is started again in " in kept.said()
    assert alive(second) and not alive(first)


def test_what_a_killed_program_has_started_ends_before_it_is_started_again(
    keep: Callable[..., Kept],
) -> None:
    kept = keep(node="sleep 600 & echo child $!; wait")
    child = int(kept.wait_for(r"^node: child (\d+)$")[0])
    os.kill(kept.pids("node")[0], signal.SIGKILL)
    kept.pids("node", times=2)
    assert not alive(child)


def test_programs_are_ended_the_last_one_first(keep: Callable[..., Kept]) -> None:
    script = "trap 'echo ends; exit' TERM; echo ready; while :; do sleep 0.1; done"
    kept = keep(first=script, second=script)
    kept.wait_for("ready", times=2)
    said = kept.end()
    assert re.findall(r"^(\w+): ends$", said, re.M) == ["second", "first"]
    assert "SIGTERM: ending second, first" in said and said.endswith("everything has ended\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_it_ends_at_other_signals_too(keep: Callable[..., Kept], number: signal.Signals) -> None:
    kept = keep(node="exec sleep 600")
    (pid,) = kept.pids("node")
    assert f"{number.name}: ending node" in kept.end(number)
    assert not alive(pid)


def test_one_that_does_not_end_is_killed(keep: Callable[..., Kept]) -> None:
    kept = keep(patience=0.5, deaf=DEAF)
    kept.wait_for("ready")
    assert "deaf: does not end and is killed" in kept.end()
    assert not alive(kept.pids("deaf")[0])


def test_a_second_signal_does_not_wait(keep: Callable[..., Kept]) -> None:
    kept = keep(patience=600, deaf=DEAF)
    kept.wait_for("ready")
    kept.process.terminate()
    kept.wait_for("SIGTERM: ending deaf")
    assert "deaf: does not end and is killed" in kept.end(signal.SIGINT)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end orphans")
def test_nothing_is_left_when_it_is_killed_itself(keep: Callable[..., Kept]) -> None:
    kept = keep(first="exec sleep 600", second="exec sleep 600")
    pids = kept.pids("first") + kept.pids("second")
    kept.process.kill()
    kept.process.wait()
    kept.wait(lambda: not any(map(alive, pids)))


def test_what_is_done_once_is_tried_until_it_succeeds(
    keep: Callable[..., Kept], tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    kept = keep(once=f"test -e {flag}")
    kept.wait_for("^once: ended with exit code 1 after")
    flag.touch()
    kept.wait_for("^once: done$")
    tries = len(kept.pids("once"))
    time.sleep(1)
    assert len(kept.pids("once")) == tries
    assert "SIGTERM: ending nothing, nothing runs" in kept.end()


def test_a_program_that_is_not_there_is_said_and_tried_again(
    keep: Callable[..., Kept], tmp_path: Path
) -> None:
    lines: list[str] = []
    log = supervisor._Log(tmp_path / "one.log", lines.append)
    one = supervisor._Kept(supervisor.Program("one", [str(tmp_path / "missing")]), log)
    one.look(lambda: None)
    assert not one.runs
    assert re.match(r"one: cannot be started: .*missing.* it is started again in 1 s", lines[0])


def test_output_has_names_and_is_kept_with_times_but_without_empty_lines(
    keep: Callable[..., Kept],
) -> None:
    kept = keep(node=r"printf 'one\n\n  \ntwo\n'; printf 'no newline'; exec >&- 2>&-; sleep 600")
    kept.wait_for("^node: two$")
    kept.end()
    lines = [line for line in kept.said().splitlines() if line.startswith("node: ")]
    assert lines[1:] == ["node: one", "node: two", "node: no newline"]
    log = (kept.logs / "node.log").read_text()
    assert re.findall(r"^\d{4}-\S+ \S+ (.*)$", log, re.M)[1:] == ["one", "two", "no newline"]


def test_a_line_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    lines: list[str] = []
    log = supervisor._Log(tmp_path / "one.log", lines.append)
    for line in ("\x1b[92mINFO\x1b[0m:\tsaid", "\x1b[2J\x1b]0;title\x07gone\rover", "\x1b[0m "):
        log.say(line)
    assert lines == ["one: INFO:   said", "one: ?[2J?]0;title?gone?over"]


def test_a_log_is_bounded(tmp_path: Path) -> None:
    log = supervisor._Log(tmp_path / "one.log", lambda _: None)
    for _ in range(40):
        log.say("x" * supervisor._LINE_BYTES)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"one.log", "one.log.1"}
    assert max(sizes.values()) <= 2**20


def test_a_line_without_end_takes_a_bounded_amount_of_memory(keep: Callable[..., Kept]) -> None:
    kept = keep(node="head -c 1000000 /dev/zero | tr '\\0' x; exec sleep 600")
    # What is not a whole line yet is held back, at most so much.
    kept.wait(lambda: kept.said().count("x") > 1_000_000 - 2 * supervisor._LINE_BYTES)
    assert max(map(len, kept.said().splitlines())) < 3 * supervisor._LINE_BYTES


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    lines: list[str] = []
    supervisor._Log(tmp_path / "missing" / "one.log", lines.append).say("said")
    assert lines == ["one: said"]
