"""Who is there: waits for nodes, asks who they are, lets them prepare."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import RecordDict

from fedrsclip_core.config.schema import Config, FederationConfig
from fedrsclip_core.errors import RunError, WireError
from fedrsclip_core.wire.messages import QUERY_IDENTITY, QUERY_PREPARE
from fedrsclip_core.wire.records import pack_query, unpack_identity
from server_app.admission import Client, Standard, admitted
from server_app.exchange import (
    LATE,
    TIMEOUT,
    UNREACHABLE,
    Exchange,
    Pending,
    Reply,
    Wait,
    new_messages,
)

Echo = Callable[[str], None]

_SETTLED_SIMULATION, _SETTLED = 2.0, 30.0
_PROGRESS_EVERY, _LOOK_EVERY = 15.0, 0.2
IDENTITY_SECONDS = 120.0
"""After which a node that has not said who it is is asked again."""
ALONE = 60.0
"""Seconds that all clients have for what the quorum has done already."""
NOT_THERE = (TIMEOUT, LATE, UNREACHABLE)
"""Reasons that say nothing of a client but that it was not heard of."""


@dataclass(frozen=True)
class Roster:
    """The clients of a run in partition order, and why others are not among them."""

    clients: tuple[Client, ...]
    refused: Mapping[str, str] = field(default_factory=dict)

    def without(self, refused: Mapping[str, str]) -> "Roster":
        """Return the roster without some clients, and why they are not in it."""
        kept = tuple(client for client in self.clients if client.name not in refused)
        return Roster(kept, {**self.refused, **refused})


def quorum(federation: FederationConfig) -> int:
    """Return with how many clients a run of a deployment may start."""
    majority = federation.num_clients // 2 + 1
    least = majority if federation.min_clients is None else federation.min_clients
    return max(least, federation.min_replies)


def wait_for_nodes(exchange: Exchange, config: Config, *, echo: Echo) -> list[int]:
    """Wait until a simulation's nodes are there, at most ``federation.connect_timeout`` seconds.

    With fewer than ``federation.num_clients`` the run starts once no more come.

    Raises
    ------
    RunError
        If there is none in time.
    """
    federation = config.federation
    start = changed = exchange.now()
    nodes: list[int] = []
    while True:
        found = sorted(exchange.online())
        now = exchange.now()
        if found != nodes:
            nodes, changed = found, now
        complete = len(nodes) >= federation.num_clients
        quiet = nodes and now - changed >= _SETTLED_SIMULATION
        if complete or quiet or now - start >= federation.connect_timeout:
            break
        exchange.pause(_LOOK_EVERY)
    if not nodes:
        raise RunError(
            f"no simulated client was there within {federation.connect_timeout:g} s: raise "
            "federation.connect_timeout if this machine is slow"
        )
    if len(nodes) != federation.num_clients:
        echo(
            f"federation.num_clients is {federation.num_clients}, but {len(nodes)} clients are "
            f"there: the run continues with these {len(nodes)}"
        )
    return nodes


@dataclass
class RollCall:
    """Asks every node that connects who it is, until enough clients have answered.

    A node that counts as connected need not answer: Flower holds a dead one to be there for a
    minute, and one whose SuperExec is missing for ever.

    Attributes
    ----------
    exchange : Exchange
        Sends and receives.
    config : Config
        The run's configuration.
    standard : Standard
        What the nodes are compared with.
    echo : Echo
        Is told from time to time who is waited for.
    answers : dict[int, Reply]
        What nodes have said, by node id.
    pending : dict[int, Pending]
        Whom no answer has come from yet.
    """

    exchange: Exchange
    config: Config
    standard: Standard
    echo: Echo
    answers: dict[int, Reply] = field(default_factory=dict)
    pending: dict[int, Pending] = field(default_factory=dict)

    def take(self) -> Roster:
        """Wait for the federation, at most ``federation.connect_timeout`` seconds.

        The run starts when all clients have answered, or the quorum has and no other has come for
        half a minute.

        Raises
        ------
        RunError
            If fewer than the quorum have answered in time.
        """
        federation, exchange = self.config.federation, self.exchange
        needed = quorum(federation)
        start = changed = exchange.now()
        spoken, there = start - _PROGRESS_EVERY, set[int]()
        while True:
            if self._look() or there != self.answers.keys():
                there, changed = set(self.answers), exchange.now()
            roster = understood(self.answers, QUERY_IDENTITY, self.standard, {})
            now, found = exchange.now(), len(roster.clients)
            complete = len(there) >= federation.num_clients and not self.pending
            settled = found >= needed and now - changed >= _SETTLED
            left = federation.connect_timeout - (now - start)
            if complete or settled or left <= 0:
                break
            if now - spoken >= _PROGRESS_EVERY:
                spoken = now
                self.echo(self._waiting(found, needed, left))
            exchange.pause(_LOOK_EVERY)
        self._require(roster, needed)
        if len(roster.clients) != federation.num_clients:
            self.echo(
                f"federation.num_clients is {federation.num_clients}, but "
                f"{len(roster.clients)} clients are there: the run starts with these, and others "
                "may join it"
            )
        return roster

    def _look(self) -> bool:
        """Ask new nodes and collect answers; return whether any has come or gone."""
        online = self.exchange.online()
        # A node that went away may be another program when it returns.
        gone = (self.answers.keys() | self.pending.keys()) - online
        for node_id in gone:
            self.answers.pop(node_id, None)
            self.pending.pop(node_id, None)
        new = sorted(online - self.answers.keys() - self.pending.keys())
        if new:
            messages = new_messages(identity_request(self.standard), new, QUERY_IDENTITY)
            seconds = min(IDENTITY_SECONDS, self.config.federation.connect_timeout)
            self.pending |= self.exchange.send(messages, seconds)
        replies = self.exchange.collect(self.pending)
        self.answers |= {n: r for n, r in replies.items() if r.reason not in NOT_THERE}
        return bool(gone or new)

    def _waiting(self, found: int, needed: int, left: float) -> str:
        silent = len(self.pending)
        return (
            f"waiting for clients: {found} of {self.config.federation.num_clients} are there, at "
            f"least {needed} needed"
            + (f", {silent} connected without an answer yet" if silent else "")
            + f", {left:.0f} s left"
        )

    def _require(self, roster: Roster, needed: int) -> None:
        if len(roster.clients) >= needed or roster.refused:
            return require(roster, needed)
        federation = self.config.federation
        raise RunError(
            f"{len(roster.clients)} of at least {needed} clients answered within "
            f"{federation.connect_timeout:g} s, {len(self.pending)} more are connected: start the "
            "missing ones, lower federation.min_clients or raise federation.connect_timeout"
        )


def identify(
    exchange: Exchange, nodes: Sequence[int], standard: Standard, timeout: float, echo: Echo
) -> Roster:
    """Ask every node of a simulation who it is and check what it says."""

    def progress(done: int, total: int) -> None:
        echo(f"asking who is there: {done} of {total} nodes have answered")

    messages = new_messages(identity_request(standard), nodes, QUERY_IDENTITY)
    replies = exchange.ask(messages, timeout, progress)
    return understood(replies, QUERY_IDENTITY, standard, {})


def prepare(
    exchange: Exchange,
    roster: Roster,
    standard: Standard,
    timeout: float,
    echo: Echo,
    *,
    needed: int,
    resumed: bool,
) -> tuple[Roster, set[int]]:
    """Let the clients encode their images and check what they say afterwards.

    In a resumed run, whose images are encoded, nobody is waited for much longer than for
    ``needed`` clients. Returned with the roster are the nodes that were not heard of: they may
    join later.
    """

    def progress(done: int, total: int) -> None:
        echo(f"preparing image features: {done} of {total} clients are ready")

    nodes = [client.node_id for client in roster.clients]
    labels = {client.node_id: client.name for client in roster.clients}
    messages = new_messages(identity_request(standard), nodes, QUERY_PREPARE)
    waits = dict.fromkeys(nodes, Wait(timeout, timeout, ALONE)) if resumed else {}
    replies = exchange.ask(messages, timeout, progress, waits=waits, needed=needed)
    prepared = understood(replies, QUERY_PREPARE, standard, labels)
    absent = {node_id for node_id, reply in replies.items() if reply.reason in NOT_THERE}
    return Roster(prepared.clients, {**roster.refused, **prepared.refused}), absent


def require(roster: Roster, needed: int) -> None:
    """Refuse to go on with fewer than ``needed`` clients.

    Raises
    ------
    RunError
        Naming each refused client with its reason.
    """
    if len(roster.clients) >= max(1, needed):
        return
    reasons = "; ".join(f"{name}: {reason}" for name, reason in roster.refused.items())
    raise RunError(
        f"{len(roster.clients)} clients can take part, the run needs {needed}"
        + (f" ({reasons})" if reasons else "")
        + "; each site's log says more"
    )


def identity_request(standard: Standard) -> RecordDict:
    """Return what a node is asked who it is with."""
    return pack_query(standard.run_name, standard.code, standard.configuration)


def understood(
    replies: Mapping[int, Reply], message_type: str, standard: Standard, labels: Mapping[int, str]
) -> Roster:
    """Check what nodes say of themselves.

    Parameters
    ----------
    replies : Mapping[int, Reply]
        By node id.
    message_type : str
        What was asked.
    standard : Standard
        What the nodes are compared with.
    labels : Mapping[int, str]
        What to call a node whose reply names nobody.
    """
    clients: list[Client] = []
    refused: dict[str, str] = {}
    for number, (node_id, reply) in enumerate(replies.items()):
        label = labels.get(node_id, f"node {number}")
        if reply.content is None:
            refused[label] = f"{message_type} failed there ({reply.reason})"
            continue
        try:
            clients.append(Client(node_id, unpack_identity(reply.content)))
        except WireError as error:
            refused[label] = f"its answer to {message_type} is outside the contract: {error}"
    return Roster(admitted(clients, standard, refused), refused)
