"""Waiting for the federation ends in time, and says what it waits for."""

from collections.abc import Iterable

import pytest
from flwr.app import Error, Message

from fedrsclip.simulation.in_process import InProcessGrid
from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import RunError
from fedrsclip_core.wire.messages import QUERY_IDENTITY, ClientFailure, FailureCode
from server_app.admission import Standard
from server_app.flower_internals import ErrorCode
from server_app.roster import IDENTITY_SECONDS, RollCall, Roster, quorum, wait_for_nodes
from tests.unit.server.fakes import Clock, Fakes, identity, small_config

pytestmark = pytest.mark.unit

NODES = range(1000, 1004)


class Arriving(Clock):
    """Nodes that connect at certain times."""

    def __init__(self, times: list[float]) -> None:
        super().__init__()
        self.times = dict(zip(NODES, times, strict=False))

    @property
    def seconds(self) -> float:
        return self.now - 100.0

    def get_node_ids(self) -> list[int]:
        return [node for node, since in self.times.items() if self.seconds >= since]


def config(**federation: object) -> Config:
    return small_config(**({"num_clients": 4, "connect_timeout": 200.0} | federation))


def call(times: list[float], fakes: Fakes) -> tuple[RollCall, Arriving, list[str]]:
    """Return the roll call of nodes that connect at given times."""
    clock = Arriving(times)
    grid, said = fakes.grid(), list[str]()
    grid.get_node_ids = clock.get_node_ids  # type: ignore[method-assign]
    own = identity(0, fakes.config)
    standard = Standard(
        "r", own.digests["code"], own.digests["config"], "{}", own.n_ctx, simulation=False
    )
    return RollCall(clock.exchange(grid), fakes.config, standard, said.append), clock, said


def take(times: list[float], fakes: Fakes | None = None) -> tuple[Roster, float, list[str]]:
    rolled, clock, said = call(times, fakes or four())
    return rolled.take(), clock.seconds, said


def four(**federation: object) -> Fakes:
    return Fakes(config(**federation), num_clients=4)


def names(roster: Roster) -> list[str]:
    return [client.name for client in roster.clients]


@pytest.mark.parametrize(
    ("federation", "expected"),
    [
        ({"num_clients": 1}, 1),
        ({"num_clients": 2}, 2),
        ({"num_clients": 3}, 2),
        ({"num_clients": 4}, 3),
        ({"num_clients": 9}, 5),
        ({"num_clients": 3, "min_replies": 3}, 3),
        ({"num_clients": 9, "min_clients": 2}, 2),
        ({"num_clients": 9, "min_clients": 2, "min_replies": 3}, 3),
    ],
)
def test_a_majority_is_enough_unless_something_else_is_said(
    federation: dict[str, object], expected: int
) -> None:
    assert quorum(small_config(**federation).federation) == expected


def test_a_complete_federation_starts_at_once() -> None:
    roster, seconds, said = take([0, 0, 0, 0])
    assert (len(roster.clients), seconds, said) == (4, 0.0, [])


def test_late_clients_are_waited_for() -> None:
    roster, seconds, said = take([0, 0, 5, 12])
    assert len(roster.clients) == 4
    assert seconds == pytest.approx(12, abs=0.5)
    assert said == ["waiting for clients: 2 of 4 are there, at least 3 needed, 200 s left"]


def test_a_quorum_starts_without_those_that_do_not_come() -> None:
    roster, seconds, said = take([0, 0, 4])
    assert names(roster) == ["client-0", "client-1", "client-2"]
    assert 34 <= seconds < 35
    assert said[-1] == (
        "federation.num_clients is 4, but 3 clients are there: the run starts with these, and "
        "others may join it"
    )


def test_too_few_end_the_waiting_in_time_with_the_numbers() -> None:
    with pytest.raises(RunError, match=r"2 of at least 3 clients answered within 200 s, 0 more"):
        take([0, 0])


def test_nodes_that_count_as_connected_and_are_dead_are_not_taken_for_clients() -> None:
    fakes = four()
    fakes.silent = {(QUERY_IDENTITY, p) for p in (0, 1, 2, 3)}

    rolled, clock, said = call([0, 0, 0, 0], fakes)

    def online() -> list[int]:
        # Dead ones count for a minute; then their sites are started again, with the same keys.
        if clock.seconds >= 75:
            fakes.silent.clear()
        return [] if 60 <= clock.seconds < 75 else list(NODES)

    rolled.exchange.grid.get_node_ids = online  # type: ignore[method-assign]
    assert len(rolled.take().clients) == 4
    assert clock.seconds == pytest.approx(75, abs=0.5)
    assert "0 of 4 are there, at least 3 needed, 4 connected without an answer yet" in said[1]


def test_one_silent_node_does_not_hold_up_a_quorum() -> None:
    fakes = four()
    fakes.silent = {(QUERY_IDENTITY, 2)}
    rolled, clock, _ = call([0, 0, 0, 0], fakes)
    assert names(rolled.take()) == ["client-0", "client-1", "client-3"]
    assert clock.seconds == pytest.approx(30, abs=0.5)
    assert rolled.pending.keys() == {1002}


def test_a_silent_node_is_asked_again() -> None:
    fakes = four()
    fakes.silent = {(QUERY_IDENTITY, 1), (QUERY_IDENTITY, 2)}
    rolled, clock, _ = call([0, 0, 0, 0], fakes)
    online = rolled.exchange.grid.get_node_ids

    def reviving() -> Iterable[int]:
        if clock.seconds > 100:
            fakes.silent.clear()
        return online()

    rolled.exchange.grid.get_node_ids = reviving  # type: ignore[method-assign]
    assert len(rolled.take().clients) == 4
    assert clock.seconds == pytest.approx(IDENTITY_SECONDS, abs=0.5)


def test_refused_clients_are_no_quorum_and_end_the_waiting() -> None:
    def failing(partition, message, answer):  # type: ignore[no-untyped-def]
        raise ClientFailure(FailureCode.DATA)

    fakes = four()
    fakes.scripts = {(QUERY_IDENTITY, p): failing for p in (0, 1)}
    with pytest.raises(RunError, match=r"2 clients can take part, the run needs 3 .*\(data\)"):
        take([0, 0, 0, 0], fakes)


def test_progress_is_polite() -> None:
    _, seconds, said = take([0, 50, 50, 50])
    assert seconds == pytest.approx(50, abs=0.5)
    assert len(said) == 4


class Unavailable(InProcessGrid):
    """Flower answers for a node that it holds to be gone."""

    def answer(self, message: Message) -> Message | None:
        if message.metadata.dst_node_id == 1000:
            return Message(Error(ErrorCode.NODE_UNAVAILABLE, ""), reply_to=message)
        return super().answer(message)


def test_a_node_that_flower_holds_to_be_gone_is_no_answer() -> None:
    fakes = four(connect_timeout=3.0)
    rolled, _, _ = call([0, 0, 0, 0], fakes)
    nodes = [{"partition-id": p, "num-partitions": 4} for p in range(4)]
    clock = Clock()
    rolled.exchange = clock.exchange(Unavailable(fakes.app(), nodes))
    assert names(rolled.take()) == ["client-1", "client-2", "client-3"]


def simulated(times: list[float], settings: Config) -> tuple[list[int], float, list[str]]:
    clock = Arriving(times)
    grid, said = Fakes(settings).grid(), list[str]()
    grid.get_node_ids = clock.get_node_ids  # type: ignore[method-assign]
    nodes = wait_for_nodes(clock.exchange(grid), settings, echo=said.append)
    return nodes, clock.seconds, said


def test_a_simulation_takes_the_nodes_that_are_there() -> None:
    nodes, seconds, said = simulated([0, 0], config(min_clients=4))
    assert len(nodes) == 2
    assert seconds < 3
    assert said == [
        "federation.num_clients is 4, but 2 clients are there: the run continues with these 2"
    ]


def test_a_simulation_without_nodes_ends_in_time() -> None:
    with pytest.raises(RunError, match="no simulated client was there within 5 s"):
        simulated([], config(connect_timeout=5.0))
