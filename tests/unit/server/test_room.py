"""What the server does while its disk is full."""

import errno

import pytest

from server_app.room import Room

pytestmark = pytest.mark.unit


class Clock:
    """Stands for an exchange: time goes by in its pauses."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def pause(self, seconds: float) -> None:
        self.time += seconds


class Disk:
    """Takes nothing before ``free_at``."""

    def __init__(self, clock: Clock, free_at: float, number: int = errno.ENOSPC) -> None:
        self._clock, self._free_at, self._number = clock, free_at, number
        self.written = 0

    def write(self) -> None:
        if self._clock.time < self._free_at:
            raise OSError(self._number, "no space")
        self.written += 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_waits_for_room_and_says_so(number: int) -> None:
    clock, said = Clock(), []
    disk = Disk(clock, free_at=100, number=number)
    Room(clock, 300, said.append).write(disk.write)
    assert disk.written == 1
    assert 100 <= clock.time <= 102
    assert [line.split(":")[0] for line in said[:2]] == [
        "the disk of the run's folder is full (no space)"
    ] * 2
    assert "300 s left" in said[0]
    assert said[2] == "there is room again after 100 s"
    assert len(said) == 3


def test_says_nothing_where_there_is_room() -> None:
    clock, said = Clock(), []
    disk = Disk(clock, free_at=0)
    Room(clock, 300, said.append).write(disk.write)
    assert (disk.written, clock.time, said) == (1, 0.0, [])


@pytest.mark.parametrize("limit", [0, 30])
def test_gives_up_at_the_limit(limit: float) -> None:
    clock = Clock()
    disk = Disk(clock, free_at=100)
    with pytest.raises(OSError, match="no space"):
        Room(clock, limit, lambda _: None).write(disk.write)
    assert clock.time == limit
    assert disk.written == 0


def test_waits_for_nothing_else() -> None:
    clock = Clock()
    disk = Disk(clock, free_at=100, number=errno.EACCES)
    with pytest.raises(OSError, match="no space"):
        Room(clock, 300, lambda _: None).write(disk.write)
    assert clock.time == 0
