"""Nodes that come in during a run: who takes a client's place, who is refused, and who is asked."""

from collections.abc import Mapping

import pytest

from fedrsclip.simulation.in_process import InProcessGrid
from fedrsclip_core.runs.fileio import sha256_of
from fedrsclip_core.wire.messages import QUERY_IDENTITY, QUERY_PREPARE
from server_app.admission import Client, Standard
from server_app.newcomers import Newcomers
from server_app.roster import IDENTITY_SECONDS
from tests.unit.server.fakes import Clock, Fakes, identity, small_config

pytestmark = pytest.mark.unit


class Federation:
    """Clients 0 and 1 of a run at nodes 1000 and 1001, and what happens around them."""

    def __init__(self, fakes: Fakes, num_clients: int) -> None:
        self.clock, self.said = Clock(), list[str]()
        self.fakes = fakes
        self.grid = fakes.grid()
        del self.grid.contexts[1002]
        exchange = self.clock.exchange(self.grid)
        who = [identity(partition, fakes.config) for partition in range(2)]
        own = who[0].digests
        standard = Standard("r", own["code"], own["config"], "{}", fakes.config.prompt.n_ctx, False)
        self.newcomers = Newcomers(exchange, standard, num_clients, self.said.append, set())
        self.clients = tuple(Client(1000 + p, who[p]) for p in range(2))

    @property
    def asked(self) -> int:
        """How many messages have been sent."""
        return sum(self.fakes.sent)

    def arrives(self, node_id: int, partition: int) -> None:
        contexts = InProcessGrid(
            self.fakes.app(), [{"partition-id": partition, "num-partitions": 3}]
        ).contexts
        self.grid.contexts[node_id] = contexts[1000]

    def leaves(self, node_id: int) -> None:
        del self.grid.contexts[node_id]

    def nodes(self) -> list[int]:
        self.clients = self.newcomers.placed(self.clients)
        return [client.node_id for client in self.clients]


def federation(
    identities: Mapping[int, Mapping[str, object]] | None = None,
    silent: set[tuple[str, int]] | None = None,
    *,
    num_clients: int = 3,
) -> Federation:
    fakes = Fakes(small_config(), identities=dict(identities or {}), silent=silent or set())
    return Federation(fakes, num_clients)


def test_nobody_is_asked_while_nobody_comes() -> None:
    there = federation()
    assert there.nodes() == [1000, 1001]
    assert (there.asked, there.said) == (0, [])


def test_a_client_takes_its_place_again_under_another_node_id() -> None:
    there = federation()
    there.leaves(1001)
    assert there.nodes() == [1000, 1001]
    there.arrives(2001, partition=1)
    assert there.nodes() == [1000, 2001]
    assert there.said == ["client client-1 is back"]


def test_the_second_of_two_clients_with_one_name_waits_for_the_first_to_go() -> None:
    there = federation()
    there.arrives(2001, partition=1)
    for _ in range(3):
        assert there.nodes() == [1000, 1001]
    assert there.asked == 1
    refused = "a second client client-1 is refused while the first is connected"
    assert there.said == [refused]
    there.leaves(1001)
    assert there.nodes() == [1000, 2001]
    assert there.said == [refused, "client client-1 is back"]


@pytest.mark.parametrize("part", ["clip", "classes", "split"])
def test_a_client_that_returns_with_other_digests_is_refused_by_part(part: str) -> None:
    there = federation(
        {1: {"digests": identity(1, small_config()).digests | {part: sha256_of("other")}}}
    )
    there.leaves(1001)
    there.arrives(2001, partition=1)
    assert there.nodes() == [1000, 1001]
    assert there.said == [
        f"client client-1 is refused: its {part} differs from that at the run's start"
    ]


def test_other_code_is_refused() -> None:
    there = federation(
        {1: {"digests": identity(1, small_config()).digests | {"code": sha256_of("other")}}}
    )
    there.leaves(1001)
    there.arrives(2001, partition=1)
    assert there.nodes() == [1000, 1001]
    assert len(there.said) == 1
    assert there.said[0].startswith("client-1 is refused: its code differs from the server's")


def test_a_client_that_was_not_there_at_the_start_joins_when_it_has_prepared() -> None:
    there = federation()
    there.arrives(2002, partition=2)
    assert there.nodes() == [1000, 1001, 2002]
    assert there.clients[2].identity == identity(2, there.fakes.config)
    assert there.said == [
        "client client-2 has come: it joins once its images are prepared",
        "client client-2 joins the run",
    ]
    assert there.nodes() == [1000, 1001, 2002]
    assert there.asked == 2


def test_no_round_waits_for_a_client_that_prepares() -> None:
    there = federation(silent={(QUERY_PREPARE, 2)})
    there.arrives(2002, partition=2)
    for _ in range(3):
        assert there.nodes() == [1000, 1001]
    assert (there.asked, there.clock.sleeps) == (2, [])
    there.clock.now += 600.0
    there.fakes.silent.clear()
    assert there.nodes() == [1000, 1001]
    assert there.said[-1] == "a client that joins is refused: query.prepare failed there (timeout)"
    there.nodes()
    assert there.nodes() == [1000, 1001, 2002]


def test_clients_stand_in_partition_order_whenever_they_joined() -> None:
    there = federation()
    there.clients = there.clients[1:]
    there.leaves(1000)
    there.arrives(2000, partition=0)
    assert there.nodes() == [2000, 1001]


def test_no_more_clients_join_than_the_federation_has() -> None:
    there = federation(num_clients=2)
    there.arrives(2002, partition=2)
    assert there.nodes() == [1000, 1001]
    assert there.said == ["client client-2 is not of this run: it can join the next one"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"partition_id": 1}, "another client has partition-id 1 or its name"),
        (
            {"num_classes": 4, "label_counts": ()},
            "its number of classes differs from the other clients'",
        ),
        (
            {"digests": identity(2, small_config()).digests | {"clip": sha256_of("other")}},
            "its clip differs from the other clients'",
        ),
    ],
)
def test_a_client_that_does_not_fit_does_not_join(changes: dict[str, object], why: str) -> None:
    there = federation({2: changes})
    there.arrives(2002, partition=2)
    for _ in range(2):
        assert there.nodes() == [1000, 1001]
    assert there.said == [f"client client-2 is not of this run: {why}"]


def test_a_node_that_does_not_answer_holds_nobody_up_and_is_asked_again() -> None:
    there = federation(silent={(QUERY_IDENTITY, 1)})
    there.leaves(1001)
    there.arrives(2001, partition=1)
    for _ in range(3):
        assert there.nodes() == [1000, 1001]
    assert (there.asked, there.clock.sleeps, there.said) == (1, [], [])
    there.clock.now += IDENTITY_SECONDS
    there.fakes.silent.clear()
    assert there.nodes() == [1000, 1001]
    assert there.said == ["a new node is refused: query.identity failed there (timeout)"]
    assert there.nodes() == [1000, 2001]
    assert there.asked == 2


def test_a_node_that_went_away_is_asked_again_when_it_returns() -> None:
    there = federation()
    there.arrives(2001, partition=1)
    there.nodes()
    there.leaves(2001)
    there.nodes()
    there.arrives(2001, partition=0)
    there.leaves(1001)
    # The same node id is client 0 now: it is no return of client 1.
    assert there.nodes() == [1000, 1001]
    assert there.asked == 2
