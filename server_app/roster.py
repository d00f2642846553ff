"""Who is there: waits for nodes, asks who they are, lets them prepare, finds those that return."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedrsclip_core.errors import RunError, WireError
from fedrsclip_core.messages import (
    QUERY_IDENTITY,
    QUERY_PREPARE,
    Identity,
)
from fedrsclip_core.records import pack_identity_request, unpack_identity
from fedrsclip_core.schema import Config, FederationConfig
from server_app.admission import Client, Standard, admitted
from server_app.exchange import LAST_PAUSE, Exchange, new_messages

Echo = Callable[[str], None]

_SETTLED = {"simulation": 2.0, "deployment": 10.0}
_PROGRESS_EVERY = 15.0


@dataclass(frozen=True)
class Roster:
    """The clients of a run in partition order, and why others are not among them."""

    clients: tuple[Client, ...]
    refused: Mapping[str, str] = field(default_factory=dict)


def wait_for_nodes(
    exchange: Exchange, config: Config, *, simulation: bool, echo: Echo
) -> list[int]:
    """Wait until the federation is there, at most ``federation.connect_timeout`` seconds.

    With fewer than ``federation.num_clients`` nodes the run starts once no more come, provided
    that there are enough: one in a simulation, ``federation.min_clients`` in a deployment.

    Raises
    ------
    RunError
        If there are not enough in time.
    """
    federation = config.federation
    needed = 1 if simulation else federation.min_clients
    settled = _SETTLED["simulation" if simulation else "deployment"]
    start = changed = exchange.now()
    spoken = start - _PROGRESS_EVERY
    nodes: list[int] = []
    while True:
        found = sorted(exchange.grid.get_node_ids())
        now = exchange.now()
        if found != nodes:
            nodes, changed = found, now
        complete = len(nodes) >= federation.num_clients
        quiet = len(nodes) >= needed and now - changed >= settled
        late = now - start >= federation.connect_timeout
        if complete or quiet or late:
            break
        if not simulation and now - spoken >= _PROGRESS_EVERY:
            spoken = now
            echo(
                f"waiting for clients: {len(nodes)} of {federation.num_clients} connected, "
                f"at least {needed} needed, {federation.connect_timeout - (now - start):.0f} s left"
            )
        exchange.pause(0.2)
    if len(nodes) < needed:
        raise RunError(
            f"{len(nodes)} of at least {needed} clients connected within "
            f"{federation.connect_timeout:g} s: start the missing ones, lower "
            "federation.min_clients or raise federation.connect_timeout"
        )
    if len(nodes) != federation.num_clients:
        echo(
            f"federation.num_clients is {federation.num_clients}, but {len(nodes)} clients are "
            f"there: the run goes on with these {len(nodes)}"
        )
    return nodes


def identify(
    exchange: Exchange, nodes: Sequence[int], standard: Standard, timeout: float
) -> Roster:
    """Ask every node who it is and check what it says."""
    return _query(exchange, QUERY_IDENTITY, nodes, standard, timeout, {})


def prepare(
    exchange: Exchange, roster: Roster, standard: Standard, timeout: float, echo: Echo
) -> Roster:
    """Let the clients encode their images and check what they say afterwards."""

    def progress(done: int, total: int) -> None:
        echo(f"preparing image features: {done} of {total} clients are ready")

    nodes = [client.node_id for client in roster.clients]
    labels = {client.node_id: client.name for client in roster.clients}
    prepared = _query(exchange, QUERY_PREPARE, nodes, standard, timeout, labels, progress)
    return Roster(prepared.clients, {**roster.refused, **prepared.refused})


def wait_for_clients(
    exchange: Exchange,
    clients: Sequence[Client],
    standard: Standard,
    federation: FederationConfig,
    strangers: set[int],
    echo: Echo,
) -> tuple[tuple[Client, ...], set[int]]:
    """Wait until ``federation.min_replies`` clients can be asked, also under new node ids.

    Returns
    -------
    tuple[tuple[Client, ...], set[int]]
        The clients with their present node ids, and the nodes that can be asked: fewer than
        needed if ``federation.round_timeout`` seconds were not enough.
    """
    start = spoken = exchange.now()
    while True:
        clients = with_returned(exchange, clients, standard, federation.connect_timeout, strangers)
        free = exchange.free_nodes() & {client.node_id for client in clients}
        now = exchange.now()
        left = federation.round_timeout - (now - start)
        if len(free) >= federation.min_replies or left <= 0:
            return tuple(clients), free
        if now - spoken >= _PROGRESS_EVERY:
            spoken = now
            echo(
                f"waiting for clients: {len(free)} of {len(clients)} can be asked, at least "
                f"{federation.min_replies} needed, {left:.0f} s left in this round"
            )
        exchange.pause(LAST_PAUSE)


def with_returned(
    exchange: Exchange,
    clients: Sequence[Client],
    standard: Standard,
    timeout: float,
    strangers: set[int],
) -> tuple[Client, ...]:
    """Find clients that went away and came back: a restarted node has a new node id.

    Nodes that are nobody's return enter ``strangers`` and are not asked again.
    """
    online = set(exchange.grid.get_node_ids())
    lost = {client.name: client for client in clients if client.node_id not in online}
    unknown = sorted(online - {client.node_id for client in clients} - strangers)
    if not lost or not unknown:
        return tuple(clients)
    strangers.update(unknown)
    found = _query(exchange, QUERY_IDENTITY, unknown, standard, timeout, {})
    node_ids = {
        client.name: client.node_id
        for client in found.clients
        if client.name in lost and _is_same(client.identity, lost[client.name].identity)
    }
    strangers.difference_update(node_ids.values())
    return tuple(
        replace(client, node_id=node_ids.get(client.name, client.node_id)) for client in clients
    )


def _is_same(new: Identity, old: Identity) -> bool:
    digests = all(new.digests[part] in ("", old.digests[part]) for part in new.digests)
    return digests and (new.partition_id, new.width) == (old.partition_id, old.width)


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


def _query(
    exchange: Exchange,
    message_type: str,
    nodes: Sequence[int],
    standard: Standard,
    timeout: float,
    labels: Mapping[int, str],
    progress: Callable[[int, int], None] | None = None,
) -> Roster:
    request = pack_identity_request(standard.run_name, standard.code, standard.config)
    replies = exchange.ask(new_messages(request, nodes, message_type), timeout, progress)
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
