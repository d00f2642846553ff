"""Which process answers which client, and what becomes of processes that die."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from flwr.app import Message, RecordDict

from fedrsclip.flower_internals import from_bytes, to_bytes
from fedrsclip.simulation.grid import NodeConfig
from fedrsclip.simulation.parallel import ParallelGrid
from server_app.flower_internals import ErrorCode

pytestmark = pytest.mark.unit

PATIENCE = 20.0


class FakeProcess:
    """Stands for a process: it answers a message when it is told to."""

    made: dict[int, list["FakeProcess"]]
    may_start: threading.Event
    broken: bool

    def __init__(self, number: int) -> None:
        self.made.setdefault(number, []).append(self)
        self.may_start.wait(PATIENCE)
        if self.broken:
            raise OSError("no memory")
        self.asked: list[object] = []
        self.messages: list[Message] = []
        self.buried_times = 0
        self._dead, self._permits = False, 0
        self._changed = threading.Condition()

    def answer(self, message: bytes, node_config: NodeConfig) -> bytes:
        with self._changed:
            self.asked.append(node_config["partition-id"])
            self.messages.append(from_bytes(message))
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._dead or self._permits, PATIENCE)
            if self._dead:
                raise EOFError
            self._permits -= 1
        return to_bytes(Message(RecordDict(), reply_to=self.messages[-1]))

    def release(self, messages: int = 1) -> None:
        with self._changed:
            self._permits += messages
            self._changed.notify_all()

    def wait_until_asked(self, messages: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= messages, PATIENCE)

    def alive(self) -> bool:
        return not self._dead

    def kill(self) -> None:
        with self._changed:
            self._dead = True
            self._changed.notify_all()

    def buried(self) -> str:
        self.buried_times += 1
        return "it died"


MakeGrid = Callable[..., ParallelGrid]
Tell = Callable[[str], None]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def make_grid(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Iterator[MakeGrid]:
    monkeypatch.setattr(FakeProcess, "made", {}, raising=False)
    monkeypatch.setattr(FakeProcess, "may_start", threading.Event(), raising=False)
    monkeypatch.setattr(FakeProcess, "broken", False, raising=False)
    FakeProcess.may_start.set()
    grids = []

    def make(clients: int = 4, processes: int = 2, tell: Tell = said.append) -> ParallelGrid:
        starts = [partial(FakeProcess, number) for number in range(processes)]
        configs = [{"partition-id": k} for k in range(clients)]
        grids.append(ParallelGrid(configs, starts, run_id=1, tell=tell))
        return grids[-1]

    yield make
    for grid in grids:
        grid.end()


def push(grid: ParallelGrid, *nodes: int, ttl: float = 100.0) -> list[str]:
    first = min(grid.get_node_ids())
    return list(
        grid.push_messages([Message(RecordDict(), first + n, "train", ttl=ttl) for n in nodes])
    )


def process(number: int) -> FakeProcess:
    """Return the newest process of a place, once it is there."""
    until(lambda: hasattr(FakeProcess.made.get(number, [None])[-1], "asked"))
    return FakeProcess.made[number][-1]


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def pulled(grid: ParallelGrid, ids: list[str]) -> list[Message]:
    """Return the replies to all of ``ids``, in the order in which they came."""
    found: list[Message] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < len(ids):
        assert time.monotonic() < deadline
        grid.wait(0.1)
        found += grid.pull_messages(ids)
    return found


def test_each_reply_is_pulled_once_by_the_id_of_its_message(make_grid: MakeGrid) -> None:
    grid = make_grid()
    ids = push(grid, 0, 1)
    for number in (0, 1):
        process(number).release()
    replies = pulled(grid, ids)
    assert {reply.metadata.reply_to_message_id for reply in replies} == set(ids)
    assert list(grid.pull_messages(ids)) == []


def test_a_clients_messages_go_to_the_same_process(make_grid: MakeGrid) -> None:
    grid = make_grid(clients=4, processes=2)
    ids = push(grid, 0, 1)
    for number in (0, 1):
        process(number).release()
    pulled(grid, ids)
    for _ in range(20):  # both are idle: neither may take what is the other's
        ids = push(grid, 3)
        process(1).release()
        pulled(grid, ids)
    assert process(1).asked[1:] == [3] * 20
    assert len(process(0).asked) == 1


def test_a_process_that_is_idle_takes_what_waits_for_a_busy_one(make_grid: MakeGrid) -> None:
    grid = make_grid(clients=4, processes=2)
    push(grid, 0, 1)
    for number in (0, 1):
        process(number).wait_until_asked(1)
    ids = push(grid, 0, 2)
    process(1).release(3)  # process 0 stays busy
    assert len(pulled(grid, ids)) == 2
    assert set(process(1).asked[1:]) == {0, 2}
    assert len(process(0).asked) == 1


def test_what_is_sent_together_is_shared_by_all_processes(make_grid: MakeGrid) -> None:
    grid = make_grid(clients=9, processes=3)
    push(grid, 0, 3, 6)  # all of them the first one's
    for number in range(3):
        process(number).wait_until_asked(1)
    assert {process(number).asked[0] for number in range(3)} == {0, 3, 6}


def test_a_message_whose_process_dies_is_tried_once_more(
    make_grid: MakeGrid, said: list[str]
) -> None:
    grid = make_grid(processes=1)
    ids = push(grid, 3)
    for number in (1, 2):
        until(lambda n=number: len(FakeProcess.made[0]) == n)
        process(0).wait_until_asked(1)
        assert process(0).asked == [3]
        process(0).kill()
    (reply,) = pulled(grid, ids)
    assert reply.has_error() and reply.error.code == ErrorCode.CLIENT_APP_CRASHED
    assert reply.metadata.reply_to_message_id == ids[0]
    assert said == ["it died; client 3 is asked again", "it died; client 3 is given up"]
    assert [one.buried_times for one in FakeProcess.made[0][:2]] == [1, 1]
    ids = push(grid, 3)
    until(lambda: len(FakeProcess.made[0]) == 3)
    process(0).release()
    (reply,) = pulled(grid, ids)
    assert not reply.has_error()


def test_a_process_that_died_unnoticed_beside_the_lost_one_is_no_try(make_grid: MakeGrid) -> None:
    """As with a machine that dies: its idle processes take the lost message in turn."""
    grid = make_grid(processes=3)
    dead = [process(number) for number in range(3)]
    ids = push(grid, 0)
    dead[0].wait_until_asked(1)
    FakeProcess.may_start.clear()  # so that only those of the dead machine can take it
    for one in reversed(dead):
        one.kill()
    until(lambda: [one.buried_times for one in dead] == [1, 1, 1])
    FakeProcess.may_start.set()
    for number in range(3):
        process(number).release()
    (reply,) = pulled(grid, ids)
    assert not reply.has_error()
    assert [one.asked for one in dead[1:]] == [[], []]


def test_nobody_waits_for_processes_that_cannot_be_started(
    make_grid: MakeGrid, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeProcess, "broken", True)
    grid = make_grid(processes=1)
    (reply,) = pulled(grid, push(grid, 0))
    assert reply.error.code == ErrorCode.CLIENT_APP_CRASHED
    assert said == ["no client process can be started: no memory"]


def test_deaths_are_told_in_the_thread_that_pulls(make_grid: MakeGrid) -> None:
    told: list[threading.Thread] = []
    grid = make_grid(processes=1, tell=lambda _line: told.append(threading.current_thread()))
    ids = push(grid, 0)
    process(0).wait_until_asked(1)
    process(0).kill()
    until(lambda: len(FakeProcess.made[0]) == 2)
    process(0).release()
    pulled(grid, ids)
    assert told == [threading.current_thread()]


def test_waiting_ends_with_a_reply_once(make_grid: MakeGrid) -> None:
    grid = make_grid(processes=1)
    push(grid, 0)
    process(0).release()
    grid.wait(PATIENCE)  # comes back for the reply
    begin = time.monotonic()
    grid.wait(0.2)  # which is no news any more
    assert time.monotonic() - begin >= 0.2


def test_what_has_expired_is_not_answered(make_grid: MakeGrid) -> None:
    grid = make_grid(processes=1)
    push(grid, 0)
    process(0).wait_until_asked(1)
    push(grid, 1, ttl=0.01)
    time.sleep(0.02)
    ids = push(grid, 2)
    process(0).release(2)
    pulled(grid, ids)
    assert process(0).asked == [0, 2]


def test_a_reply_that_nobody_waits_for_is_forgotten(make_grid: MakeGrid) -> None:
    grid = make_grid(processes=1)
    (late,) = push(grid, 0, ttl=0.2)
    process(0).wait_until_asked(1)
    time.sleep(0.2)
    process(0).release(2)
    pulled(grid, push(grid, 1))
    push(grid, 2)
    assert list(grid.pull_messages([late])) == []


def test_ending_ends_all_processes_also_busy_ones(make_grid: MakeGrid) -> None:
    grid = make_grid(processes=2)
    ids = push(grid, 0, 1)
    processes = [process(number) for number in (0, 1)]
    processes[1].release()
    pulled(grid, ids[1:])
    processes[0].wait_until_asked(1)
    grid.end()
    assert [one.buried_times for one in processes] == [1, 1]


def test_ending_does_not_wait_for_a_process_that_is_being_started(make_grid: MakeGrid) -> None:
    FakeProcess.may_start.clear()
    grid = make_grid(processes=1)
    push(grid, 0)
    until(lambda: 0 in FakeProcess.made)
    grid.end()
    FakeProcess.may_start.set()
    until(lambda: process(0).buried_times == 1)
