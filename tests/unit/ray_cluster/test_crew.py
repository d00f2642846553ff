"""Processes that are idle, at work, starting or dead."""

import itertools
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import ray.exceptions

from fedrsclip.ray_cluster.crew import Crew, NobodyLeftError

pytestmark = pytest.mark.unit


class Processes:
    """Stands for Ray, which has room for so many, and for the actors that it starts."""

    exceptions = ray.exceptions

    def __init__(self, room: int) -> None:
        self.room = room
        self.started = 0
        self.killed: list[Any] = []
        self.stillborn: set[int] = set()
        self._numbers = itertools.count()

    def start(self) -> Any:
        """Begin to start one, named by a number, which is also the reference to its start."""
        number = next(self._numbers)
        ready = types.SimpleNamespace(remote=lambda: number)
        return types.SimpleNamespace(number=number, __ray_ready__=ready)

    def wait(self, refs: list[int], **_: Any) -> tuple[list[int], list[int]]:
        """Start as many as there is room for."""
        ready = refs[: max(0, self.room - self.started)]
        self.started += len(ready)
        return ready, refs[len(ready) :]

    def get(self, ref: int) -> None:
        """Say how a start went."""
        if ref in self.stillborn:
            self.started -= 1
            raise ray.exceptions.ActorDiedError

    def kill(self, one: Any) -> None:
        """Free the room of one."""
        self.killed.append(one.number)


@pytest.fixture
def crew_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Processes], Crew]:
    def made(processes: Processes) -> Crew:
        monkeypatch.setitem(sys.modules, "ray", processes)
        return Crew(processes.start, 2, patience=0.0)

    return made


def test_each_is_taken_once_until_it_is_given_back(crew_of: Callable[[Processes], Crew]) -> None:
    crew = crew_of(Processes(room=2))
    first, second = crew.take(), crew.take()
    assert first is not second
    crew.give_back(second)
    assert crew.take() is second


def test_one_that_died_is_not_given_out_again_but_another(
    crew_of: Callable[[Processes], Crew],
) -> None:
    processes = Processes(room=1)
    crew = crew_of(processes)
    dead = crew.take()
    crew.replace(dead)
    assert processes.killed == [dead.number]
    with pytest.raises(NobodyLeftError, match="no node of the Ray cluster has had room"):
        crew.take()
    processes.room += 1  # a node joins
    assert crew.take().number != dead.number


def test_one_that_dies_while_it_is_started_is_replaced(
    crew_of: Callable[[Processes], Crew],
) -> None:
    processes = Processes(room=2)
    processes.stillborn = {1}
    crew = crew_of(processes)
    assert {crew.take().number, crew.take().number} == {0, 2}
