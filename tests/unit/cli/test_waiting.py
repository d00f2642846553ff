"""What `fedrsclip run` says that it waits for."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from fedrsclip.run.waiting import Waiting, awaited
from fedrsclip_core.runs.run_folder import Follower, RunFolder

pytestmark = pytest.mark.unit


def test_the_last_line_makes_room_for_others() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80)
    with Waiting(lambda line: print(line, file=shown), console) as waiting:
        waiting.waits_for("Ray [and] the clients")
        waiting.echo("round 0")
        waiting.waits_for("round 1 of 3")
        waiting.ends()
        before = shown.getvalue()
        waiting.echo("results")
    assert shown.getvalue() == f"{before}results\n"
    assert "waiting for Ray [and] the clients" in before
    cleared = before.index("\x1b[2K", before.index("Ray [and]"))
    assert cleared < before.index("round 0\n") < before.index("waiting for round 1 of 3")


def test_without_a_terminal_there_are_lines_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with Waiting.on_terminal(print) as waiting:
        waiting.waits_for("Flower's SuperLink")
        waiting.echo("round 0")
    assert capsys.readouterr().out == "round 0\n"


def test_what_comes_next_is_read_off_the_runs_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "first")
    follower = Follower(folder)

    def said(last_round: int | None = None, *, resumed: bool = False) -> str:
        return awaited(follower, 2, last_round, resumed=resumed)

    assert said() == "the server, which Flower starts"
    assert said(resumed=True) == "Flower, which starts the server, Ray and the clients"
    folder.path.mkdir()
    (folder.path / "run.json").write_text("{}")
    assert said() == "Ray and the clients"
    (folder.path / "digests.json").write_text("no JSON")
    assert said() == "Ray and the clients"
    folder.write_digests({"clip": "0" * 64})
    assert said() == "round 0"
    assert said(0) == said(0, resumed=True) == "round 1 of 2"
    assert said(2) == "the results"
    (folder.path / "results.json").write_text("{}")
    assert said(2) == "Flower, which ends the run"
