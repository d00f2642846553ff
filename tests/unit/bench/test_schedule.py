"""Order of the cells, and what happens when one of them fails or stops all."""

import threading
import time

import pytest

from fedrsclip.bench.cells import Cell
from fedrsclip.bench.progress import Progress, duration
from fedrsclip.bench.schedule import Done, Job, Schedule, carry_out

pytestmark = pytest.mark.unit


def job(number: int, images: str) -> Job:
    return Job(Cell(f"cell-{number}", "uniform", "promptfl", number, ()), images)


def test_one_encodes_and_then_all_go() -> None:
    jobs = [job(0, "a"), job(1, "a"), job(2, "b"), job(3, "a")]
    running: set[int] = set()
    together: list[set[int]] = []
    lock = threading.Lock()

    def work(one: Job) -> Done:
        with lock:
            running.add(one.cell.seed)
            together.append(set(running))
        time.sleep(0.1)
        with lock:
            running.remove(one.cell.seed)
        return Done(one, "", 0.1)

    done = list(carry_out(Schedule(jobs), [work, work]))
    assert {d.job.cell.seed for d in done} == {0, 1, 2, 3}
    assert {0, 2} in together  # of other images
    assert {1, 3} in together  # encoded by then
    assert not any({0, 1} <= group or {0, 3} <= group for group in together)


def test_a_failed_cell_stops_no_other() -> None:
    def work(one: Job) -> Done:
        return Done(one, "broken" if one.cell.seed == 0 else "", 0.0)

    done = list(carry_out(Schedule([job(0, "a"), job(1, "a")]), [work]))
    assert [(d.job.cell.seed, d.error) for d in done] == [(0, "broken"), (1, "")]


def test_no_cell_is_built_on_one_that_failed_earlier() -> None:
    after = Job(Cell("second", "uniform", "promptfl", 1, (), after="first"), "a")

    def work(one: Job) -> Done:
        return Done(one, "", 0.0)

    done = carry_out(Schedule([job(0, "a"), after], {"first"}), [work])
    assert {d.job.cell.name: d.error for d in done} == {
        "cell-0": "",
        "second": "it needs first, which failed",
    }


def test_an_error_of_the_runner_itself_ends_it() -> None:
    def work(one: Job) -> Done:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(carry_out(Schedule([job(0, "a"), job(1, "a")]), [work, work]))


def test_nothing_is_given_out_after_a_stop() -> None:
    schedule = Schedule([job(0, "a"), job(1, "a")])
    assert schedule.take() is not None
    schedule.stop()
    assert schedule.take() is None


def test_time_left_is_that_of_like_cells() -> None:
    cells = [
        Cell(f"{setting}-{method}-{seed}", setting, method, seed, ())
        for setting in ("few", "many")
        for method in ("fast", "slow")
        for seed in (0, 1)
    ]
    progress = Progress(list(cells), 2)
    first = progress.line(cells[0], 2.0, "completed")
    assert first == "[1/8] few-fast-0: completed, 2 s, about 7 s left"  # 7 x 2 s by two at a time
    progress.line(cells[2], 10.0, "completed")
    # few-fast 2, few-slow 10, and the same for each of many: (2 + 10 + 2 x 2 + 2 x 10) / 2
    assert progress.left() == 18.0
    for cell in cells[3:] + cells[1:2]:
        last = progress.line(cell, 1.0, "completed")
    assert last == "[8/8] few-fast-1: completed, 1 s"


def test_durations() -> None:
    assert [duration(s) for s in (3.4, 100, 5400)] == ["3 s", "2 min", "1.5 h"]
