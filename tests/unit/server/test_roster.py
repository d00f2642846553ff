"""Waiting for the federation ends in time, and says what it waits for."""

import pytest

from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import RunError
from server_app.roster import wait_for_nodes
from tests.unit.server.fakes import Clock, Fakes, small_config

pytestmark = pytest.mark.unit


class Arriving(Clock):
    """Nodes connect at given times."""

    def __init__(self, times: list[float]) -> None:
        super().__init__()
        self.times = times

    def get_node_ids(self) -> list[int]:
        return [i for i, time in enumerate(self.times) if self.now - 100.0 >= time]


def wait(
    times: list[float], config: Config, *, simulation: bool = False
) -> tuple[list[int], float, list[str]]:
    clock = Arriving(times)
    grid = Fakes(config).grid()
    grid.get_node_ids = clock.get_node_ids  # type: ignore[method-assign]
    lines: list[str] = []
    nodes = wait_for_nodes(clock.exchange(grid), config, simulation=simulation, echo=lines.append)
    return nodes, clock.now - 100.0, lines


def config(**federation: object) -> Config:
    return small_config(
        **({"num_clients": 4, "min_clients": 2, "connect_timeout": 60.0} | federation)
    )


def test_a_complete_federation_starts_at_once() -> None:
    assert wait([0, 0, 0, 0], config()) == ([0, 1, 2, 3], 0.0, [])


def test_late_clients_are_waited_for() -> None:
    nodes, seconds, lines = wait([0, 0, 5, 12], config())
    assert len(nodes) == 4
    assert seconds == pytest.approx(12, abs=0.5)
    assert "2 of 4 connected, at least 2 needed" in lines[0]


def test_a_deployment_goes_on_without_those_that_do_not_come() -> None:
    nodes, seconds, lines = wait([0, 0, 1000], config())
    assert len(nodes) == 2
    assert 10 <= seconds < 12
    assert "2 clients are there" in lines[-1]


def test_too_few_end_the_waiting_in_time_with_the_numbers() -> None:
    with pytest.raises(RunError, match=r"1 of at least 2 clients connected within 60 s"):
        wait([0, 1000], config())


def test_progress_is_polite() -> None:
    _, seconds, lines = wait([0, 50, 50, 50], config())
    assert seconds == pytest.approx(50, abs=0.5)
    assert len(lines) == 4


def test_a_simulation_takes_the_nodes_that_are_there() -> None:
    nodes, seconds, lines = wait([0, 0], config(min_clients=4), simulation=True)
    assert len(nodes) == 2
    assert seconds < 3
    assert lines == [
        "federation.num_clients is 4, but 2 clients are there: the run continues with these 2"
    ]
