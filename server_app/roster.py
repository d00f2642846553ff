"""Who is there: waits for nodes, asks who they are, lets them prepare."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import RecordDict

from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import RunError, WireError
from fedrsclip_core.wire.messages import QUERY_IDENTITY, QUERY_PREPARE
from fedrsclip_core.wire.records import pack_query, unpack_identity
from server_app.admission import Client, Standard, admitted
from server_app.exchange import Exchange, Reply, new_messages

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
        found = sorted(exchange.online())
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
            f"there: the run continues with these {len(nodes)}"
        )
    return nodes


def identify(
    exchange: Exchange, nodes: Sequence[int], standard: Standard, timeout: float, echo: Echo
) -> Roster:
    """Ask every node who it is and check what it says."""

    def progress(done: int, total: int) -> None:
        echo(f"asking who is there: {done} of {total} nodes have answered")

    return _query(exchange, QUERY_IDENTITY, nodes, standard, timeout, {}, progress)


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


def _query(
    exchange: Exchange,
    message_type: str,
    nodes: Sequence[int],
    standard: Standard,
    timeout: float,
    labels: Mapping[int, str],
    progress: Callable[[int, int], None],
) -> Roster:
    messages = new_messages(identity_request(standard), nodes, message_type)
    replies = exchange.ask(messages, timeout, progress)
    return understood(replies, message_type, standard, labels)
