"""Submitting to a SuperLink that is there: true status, restarts, what a person is told."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from fedrsclip.run.connection import Connection, connect
from fedrsclip.run.follow import QuestionPace, Timing
from fedrsclip.run.submit import submit
from fedrsclip_core.config.compose import from_run_config
from fedrsclip_core.config.overrides import quote
from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import ConfigError, RunError

pytestmark = pytest.mark.unit

ADDRESS = ("address=127.0.0.1:9093", "insecure=true")
TAKEN = '{"success": true, "run-id": "7"}'
QUICK = Timing(silence=60, soonest=0.1, latest=0.2)

# Each call of `ls` and of `log` takes the next line or file; the last one is for all that follow.
_FLWR = """#!/bin/sh
here=${0%/*}
no() { printf '%s\\n' '{"success": false, "error-message": "So\\n\\n'"$1"'"}'; }
echo "$1 $2" >>"$here/calls"
count=$(grep -c "^$1 " "$here/calls")
case $1 in
run) cat "$5" >"$here/submitted.$count"; cat "$here/taken" ;;
stop) echo '{"success": true}' ;;
supernode) cat "$here/taken" ;;
log) cat "$here/log.$count" 2>/dev/null ;;
ls)
    status=$(sed -n "${count}p" "$here/statuses")
    case ${status:=$(tail -n 1 "$here/statuses")} in
    lost) no "[code: 11] Run ID not found." ;;
    away) no "No connection." ;;
    *) echo '{"success": true, "runs": [{"status": "'$status'", "status-details": "N/A"}]}' ;;
    esac
    ;;
esac
"""


class Flower:
    """Stands for Flower's command, and with it for a SuperLink."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        (folder / "flwr").write_text(_FLWR)
        (folder / "flwr").chmod(0o755)
        self.set("finished:completed")

    def set(self, *statuses: str, taken: str = TAKEN, logs: tuple[str, ...] = ()) -> None:
        (self.folder / "statuses").write_text("".join(f"{status}\n" for status in statuses))
        (self.folder / "taken").write_text(taken)
        for number, text in enumerate(logs, 1):
            (self.folder / f"log.{number}").write_text(text)

    def submit(
        self, *arguments: str, timing: Timing = QUICK, echo: Callable[[str], None] | None = None
    ) -> int:
        def connect_here(options: Mapping[str, str], scratch: Path) -> Connection:
            connect(options, scratch)
            return self.connection(scratch)

        return submit(
            [*ADDRESS, *arguments],
            echo=echo or self.said.append,
            connect=connect_here,
            timing=timing,
            pause=0,
        )

    def connection(self, scratch: Path) -> Connection:
        return Connection("x", scratch, {}, flwr=str(self.folder / "flwr"))

    @property
    def submitted(self) -> list[Config]:
        files = sorted(self.folder.glob("submitted.*"))
        return [from_run_config(tomllib.loads(file.read_text())) for file in files]

    @property
    def calls(self) -> list[str]:
        return [line.split()[0] for line in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def flower(tmp_path: Path) -> Flower:
    return Flower(tmp_path)


@pytest.mark.parametrize(
    ("status", "expected"),
    [("finished:completed", 0), ("finished:failed", 1), ("finished:stopped", 1)],
)
def test_the_exit_status_is_the_runs(status: str, expected: int, flower: Flower) -> None:
    flower.set("running", status, logs=("round 1\nround 2\n", "round 1\nround 2\nround 3\n"))
    assert flower.submit("run.name=first") == expected
    assert flower.said[:4] == [
        "run first is submitted: Flower's id is 7",
        "round 1",
        "round 2",
        "round 3",
    ]
    assert f"run 7: {status}" in flower.said


def test_what_flower_refuses_is_said(flower: Flower) -> None:
    flower.set("running", taken='{"success": false, "error-message": "no such server"}')
    with pytest.raises(RunError, match="Flower refused the run: no such server"):
        flower.submit()
    assert flower.calls == ["run"]


def test_what_travels_has_a_name_and_no_hosts(flower: Flower) -> None:
    overrides = ["federation.name=sites", "federation.address=10.0.0.1", "federation.port=9443"]
    name = "plage \U0001f3d6 'à \\ gauche\""
    assert flower.submit(*overrides, "seed=3", f"data.class_names=[{quote(name)},sea]") == 0
    (config,) = flower.submitted
    assert config.data.class_names == [name, "sea"]
    assert (config.seed, config.federation.address) == (3, Config().federation.address)
    assert config.federation.port == Config().federation.port
    assert config.run.name is not None
    assert config.run.name.startswith("sites-20")


def test_a_run_that_fails_is_resumed(flower: Flower) -> None:
    flower.set("finished:failed", "running", "finished:completed")
    assert flower.submit("restarts=2", "seed=3") == 0
    assert "resuming from the last checkpoint: 1 of at most 2 times" in flower.said
    first, second = flower.submitted
    assert (second.run.name, second.run.resume) == (first.run.name, True)
    assert (second.data, second.seed) == (first.data, 3)


@pytest.mark.parametrize(
    ("lines", "resumable"),
    [
        ("client a is refused: query.identity failed there (policy)\n" * 2, False),
        (
            "client a is refused: query.identity failed there (policy)\n"
            "client b is refused: query.prepare failed there (configuration)\n",
            False,
        ),
        (
            "client a is refused: query.identity failed there (policy)\n"
            "client b is refused: query.prepare failed there (disk)\n",
            True,
        ),
        ("client a is refused: query.identity failed there (policy)\nround 1 | 2/3\n", True),
        ("waiting for clients\n", True),
    ],
)
def test_a_run_that_every_site_refuses_is_not_resumed(
    lines: str, resumable: bool, flower: Flower
) -> None:
    flower.set("finished:failed", logs=(lines, lines))
    assert flower.submit("restarts=1", "run.name=first") == 1
    assert len(flower.submitted) == (2 if resumable else 1)
    assert flower.said[-1].startswith("to resume it" if resumable else "every site refuses")
    assert any("resume=true" in line for line in flower.said) == resumable


def test_restarts_are_counted(flower: Flower) -> None:
    flower.set("finished:failed")
    assert flower.submit("restarts=1", "run.name=first") == 1
    assert len(flower.submitted) == 2
    assert flower.said[-1].endswith("run.name=first run.resume=true")


def test_a_run_that_somebody_stops_is_not_resumed(flower: Flower) -> None:
    flower.set("finished:stopped")
    assert flower.submit("restarts=3") == 1
    assert len(flower.submitted) == 1


def test_a_superlink_that_restarts_is_followed_again(flower: Flower) -> None:
    logs = ("a\nb\nhal", "a\nb\nhalf a line\nc\n", "a\nb\nhalf a line\nc\nd")
    flower.set("away", "running", "running", "finished:completed", logs=logs)
    assert flower.submit("run.name=first") == 0
    assert flower.said[1:] == [
        "a",
        "b",
        "no answer from the SuperLink: waiting for it, at most 60 s",
        "the SuperLink answers again",
        "half a line",
        "c",
        "d",
        "run 7: finished:completed",
    ]


def test_a_superlink_that_stays_away_is_given_up(flower: Flower) -> None:
    flower.set("running", "away")
    with pytest.raises(RunError) as caught:
        flower.submit("patience=1")
    sentence = str(caught.value)
    assert "said nothing of run 7 for 1 s (No connection.)" in sentence
    assert f"fedrsclip submit attach=7 {' '.join(ADDRESS)}" in sentence


def test_a_superlink_that_has_lost_the_run_ends_the_waiting_at_once(flower: Flower) -> None:
    flower.set("running", "away", "lost")
    with pytest.raises(RunError) as caught:
        flower.submit("run.name=first", "restarts=3", timing=replace(QUICK, silence=10**6))
    sentence = str(caught.value)
    assert sentence.startswith("the SuperLink does not know run 7: its database is another one or")
    assert sentence.endswith("then submit it again with run.name=first run.resume=true")
    assert "attach" not in sentence
    assert len(flower.submitted) == 1


def test_a_run_that_the_superlink_does_not_know_is_not_followed(flower: Flower) -> None:
    flower.set("lost")
    with pytest.raises(RunError, match="the SuperLink does not know run 9"):
        flower.submit("attach=9")


def test_an_interrupt_says_how_to_follow_and_stop(flower: Flower) -> None:
    flower.set("running", logs=("round 1\n",))

    def interrupted(line: str) -> None:
        flower.said.append(line)
        if line == "round 1":
            raise KeyboardInterrupt

    assert flower.submit(echo=interrupted) == 130
    assert f"fedrsclip submit attach=7 {' '.join(ADDRESS)}" in flower.said[-1]
    assert f"fedrsclip submit stop=7 {' '.join(ADDRESS)}" in flower.said[-1]
    assert "stop" not in flower.calls


def test_a_run_can_be_followed_again_and_stopped(flower: Flower) -> None:
    flower.set("running", "finished:completed", logs=("round 1\n",))
    assert flower.submit("attach=9", "seed=3") == 0
    assert flower.said == ["round 1", "run 9: finished:completed"]
    assert flower.submit("stop=9") == 0
    assert "run" not in flower.calls and "stop" in flower.calls


def test_an_unknown_run_is_said(flower: Flower) -> None:
    flower.set("away")
    with pytest.raises(RunError, match="run 9 cannot be followed: No connection"):
        flower.submit("attach=9")


def test_a_key_is_registered_and_its_node_named(flower: Flower) -> None:
    flower.set("running", taken='{"success": true, "node-id": "3"}')
    assert flower.connection(flower.folder).register(Path("north.pub"), "north") == 3


def test_a_key_that_is_none_is_said(flower: Flower) -> None:
    flower.set("running", taken="No key.\n\nSee https://flower.ai/docs/framework/500.html")
    with pytest.raises(RunError, match=r"Flower does not register north: No key\."):
        flower.connection(flower.folder).register(Path("north.pub"), "north")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["restarts=-1"], "restarts is '-1'"),
        (["attach=x"], "attach is 'x'"),
        (["root_certificates=ca.crt"], "say where the SuperLink is"),
        (["connection=sites"], "say where the SuperLink is"),
        (["data.path=/images"], "data.path belongs to a site"),
        (["prompt.nctx=4"], "prompt.nctx"),
    ],
)
def test_a_mistake_is_said_before_anything_is_sent(
    arguments: list[str], words: str, flower: Flower
) -> None:
    with pytest.raises(ConfigError, match=words):
        flower.submit(*arguments)
    assert not (flower.folder / "calls").exists()


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca\.crt is not there"):
        connect({"address": "a:1", "root_certificates": str(tmp_path / "ca.crt")}, tmp_path)


def test_a_run_whose_lines_come_is_not_asked() -> None:
    pace = QuestionPace(100.0, Timing())
    for second in range(104, 400, 4):
        assert not pace.is_due(float(second))
        pace.progressed(float(second))


def test_a_run_whose_lines_stay_away_is_asked_ever_less_often() -> None:
    pace = QuestionPace(0.0, Timing())
    asked = []
    for second in range(200):
        if pace.is_due(float(second)):
            pace.asked(float(second))
            asked.append(second)
    assert asked[0] == 5
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 30


def test_a_question_waits_for_twice_the_last_line() -> None:
    pace = QuestionPace(0.0, Timing())
    pace.progressed(9.0)
    assert not pace.is_due(26.0)
    assert pace.is_due(27.0)
    pace.progressed(1000.0)
    assert pace.is_due(1030.0)


def test_what_a_log_holds_steers_no_terminal(flower: Flower) -> None:
    flower.set(
        "finished:completed",
        logs=("\x1b[92mINFO \x1b[0m: begin\n\x1b[2Jround 99\r | 100.0\u202e\n" + "x" * 900_000,),
    )
    assert flower.submit("run.name=first") == 0
    said = flower.said[1:4]
    assert said[:2] == ["INFO : begin", r"\x1b[2Jround 99\r | 100.0\u202e"]
    assert said[2].endswith("(900000 characters)")
    assert len(said[2]) < 11_000
