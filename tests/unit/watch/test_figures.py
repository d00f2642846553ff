"""Pace, time left and the turn of the report, in numbers."""

from pathlib import Path

import pytest

from fedrsclip.watch import figures
from fedrsclip.watch.refresh import Refresher
from fedrsclip_core.runs.records import RoundRecord
from fedrsclip_core.runs.units import counted, duration, percent, size
from tests.run_files import round_record as record

pytestmark = pytest.mark.unit


def rounds(*seconds: float) -> list[RoundRecord]:
    """Round 0 takes half a second."""
    later = [record(n, seconds=s, eval_seconds=None) for n, s in enumerate(seconds, 1)]
    return [record(0), *later]


def test_the_pace_is_that_of_the_last_ten_rounds() -> None:
    assert figures.pace(rounds()) is None
    assert figures.pace(rounds(4.0)) == 4.0
    assert figures.pace(rounds(100.0, *[2.0] * 9, 4.0)) == 2.2


@pytest.mark.parametrize(
    ("num_rounds", "since", "left"),
    [(5, 0.0, 9.0), (5, 1.0, 8.0), (5, 100.0, 6.0), (2, 1.0, 0.0), (None, 0.0, None)],
)
def test_the_time_left_counts_down_within_a_round(
    num_rounds: int | None, since: float, left: float | None
) -> None:
    assert figures.seconds_left(rounds(2.0, 4.0), num_rounds, since) == left


def test_there_is_no_time_left_to_tell_before_a_round_has_trained() -> None:
    assert figures.seconds_left([], 5, 0.0) is None
    assert figures.seconds_left(rounds(), 5, 0.0) is None


def test_patience_grows_with_the_slowest_round() -> None:
    assert figures.patience([], 300.0) == 300.0
    assert figures.patience(rounds(1.0), 300.0) == 60.0
    assert figures.patience(rounds(100.0, 1.0), 300.0) == 500.0


def test_reasons_of_training_and_evaluation_are_counted_by_client() -> None:
    both = record(2, lost={"b": "timeout"}, eval_dropped={"a": "bad-reply: norm", "b": "disk"})
    found = [record(1, lost={"b": "timeout: 9 s"}), both]
    assert figures.dropped(found) == ["a: bad-reply x 1", "b: timeout x 2"]
    assert figures.lost_now(both) == "a (bad-reply), b (timeout)"


def test_bytes_are_summed_and_zero_shot_is_found_in_the_round_that_has_it() -> None:
    assert figures.traffic(rounds(1.0, 1.0)) == (12000, 9000, 6)
    assert figures.zero_shot(rounds(1.0)) == 0.4
    assert figures.zero_shot([]) is None


def test_units() -> None:
    found = [duration(seconds) for seconds in (-1.0, 3.4, 600, 7200, 3 * 86400)]
    assert found == ["0 s", "3 s", "10 min", "2.0 h", "3.0 d"]
    assert [size(count) for count in (9, 1234, 5e6, 7e9)] == ["9 B", "1.2 kB", "5.0 MB", "7.0 GB"]
    assert [counted(number, "round") for number in (0, 1, 2)] == ["0 rounds", "1 round", "2 rounds"]
    assert (percent(0.4321), percent(None)) == ("43.2", "-")


class Reports:
    """Counts reports; each takes as long as it is told."""

    def __init__(self, seconds: float) -> None:
        self.now = 1000.0
        self.seconds = seconds
        self.written = 0

    def write(self, folder: Path) -> Path:
        self.now += self.seconds
        self.written += 1
        return folder / "report.html"


def test_the_report_is_written_at_first_then_every_five_rounds_and_at_the_end(
    tmp_path: Path,
) -> None:
    reports = Reports(0.0)
    refresher = Refresher(tmp_path, "round", reports.write, lambda: reports.now)
    done = [refresher.refresh(steps, ended=False) for steps in range(13)]
    assert [steps for steps, was in enumerate(done) if was] == [1, 6, 11]
    assert refresher.note == f"{tmp_path / 'report.html'} (11 rounds)"
    assert refresher.refresh(12, ended=True)
    assert reports.written == 4


def test_a_slow_report_takes_a_tenth_of_the_time_at_most(tmp_path: Path) -> None:
    reports = Reports(6.0)
    refresher = Refresher(tmp_path, "round", reports.write, lambda: reports.now)
    start = reports.now
    for steps in range(1, 600):
        refresher.refresh(steps, ended=False)
        reports.now += 1.0
    assert reports.written > 5
    assert reports.written * 6.0 <= 0.1 * (reports.now - start) + 6.0


def test_nothing_is_reported_of_a_run_without_a_round(tmp_path: Path) -> None:
    reports = Reports(0.0)
    refresher = Refresher(tmp_path, "round", reports.write, lambda: reports.now)
    assert not refresher.refresh(0, ended=True)
    assert reports.written == 0
