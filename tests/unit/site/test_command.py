"""`fedrsclip site start`: what it refuses, and what it says that it waits for."""

from pathlib import Path

import pytest

from fedrsclip.cli import main
from fedrsclip.deploy.clock import NoAnswerError
from fedrsclip.site.command import check_folders, wait_for_server
from fedrsclip_core.errors import ConfigError, RunError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give what to do, as in site start"),
        (["begin"], "give what to do, as in site start"),
        (["start"], "give what to keep running"),
        (["start", "node"], "'node' is no program: give NAME=PROGRAM"),
        (["start", "../node=/bin/sh"], "'../node=/bin/sh' is no program"),
        (["start", "node=missing"], "node: missing is not there, or may not be run by this user"),
    ],
)
def test_what_is_not_understood_is_a_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["site", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    given = {"FEDRSCLIP_DATA_PATH": str(tmp_path), "FEDRSCLIP_MODEL_PATH": str(tmp_path / "clip")}
    words = f"FEDRSCLIP_MODEL_PATH is {tmp_path}/clip, which is no folder: correct it in site.env"
    with pytest.raises(ConfigError, match=words):
        check_folders(given.get)
    (tmp_path / "clip").mkdir()
    check_folders(given.get)
    check_folders({}.get)


def test_what_is_waited_for_is_said_when_it_changes_and_now_and_then() -> None:
    refused = NoAnswerError("fed.example.org:8443", "Connection refused", "see whether it is up")
    timed_out = NoAnswerError("fed.example.org:8443", "timed out", "see whether it is up")
    answers: list[Exception | str] = [*[refused] * 21, timed_out, "1 s behind the server's"]
    lines: list[str] = []
    slept: list[float] = []

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    wait_for_server(lines.append, ask, slept.append)
    waiting = "waiting for the server fed.example.org:8443: "
    assert lines == [
        f"{waiting}Connection refused; see whether it is up",
        f"{waiting}Connection refused; see whether it is up",
        f"{waiting}timed out; see whether it is up",
        "this machine's clock is 1 s behind the server's",
    ]
    assert len(slept) == 22


def test_a_wrong_clock_is_said_and_not_waited_for() -> None:
    def ask() -> str:
        raise RunError("this machine's clock is 900 s behind the server's; Flower refuses")

    lines: list[str] = []
    wait_for_server(lines.append, ask, lambda _: pytest.fail("waited"))
    assert lines == ["this machine's clock is 900 s behind the server's; Flower refuses"]
