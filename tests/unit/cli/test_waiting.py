"""What `fedrsclip run` says that it waits for."""

import io
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from fedrsclip.run.encoded import Encoded
from fedrsclip.run.waiting import Waiting, awaited
from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.errors import DataError
from fedrsclip_core.runs.records import SplitPart, SplitRecord
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


def test_after_some_silence_a_file_has_a_line_of_what_is_new() -> None:
    now, said = [0.0], list[str]()
    with Waiting(said.append, None, lambda: now[0]) as waiting:

        def waits(second: float, what: str, *, in_files: bool = True) -> None:
            now[0] = second
            waiting.waits_for(what, in_files=in_files)

        for second in (0, 14.9, 15, 40):
            waits(second, "the clients")
        assert said == ["waiting for the clients"]
        waits(41, "32 images")
        waits(55, "64 images")
        waiting.echo("round 0")
        waits(69, "96 images")
        waits(90, "round 1 of 3", in_files=False)
    assert said[1:] == ["waiting for 32 images", "round 0"]


class Cache:
    """As many features as were put into it."""

    def __init__(self) -> None:
        self.number, self.broken = 100, False

    def newest(self) -> int:
        if self.broken:
            raise DataError("the disk is full")
        return self.number


def test_images_are_counted_from_the_start_of_a_run() -> None:
    cache, now = Cache(), [0.0]
    part: SplitPart = {"count": 40, "per_class": [40], "sha256": ""}
    split = {"num_images": 999, "clients": [{"train": part, "test": part}, {"train": part}]}
    encoded = Encoded(cast("FeatureCache", cache), cast("SplitRecord", split), lambda: now[0])
    assert encoded.awaited() is None
    cache.number = 132
    assert encoded.awaited() is None  # not looked at again so soon
    now[0] = 2.0
    assert encoded.awaited() == "the clients: 32 of at most 120 images are encoded"
    cache.broken, now[0] = True, 4.0
    assert encoded.awaited() is None


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
