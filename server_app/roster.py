"""Who takes part: waits for nodes, asks who they are, refuses those that run something else."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fedrsclip_core import paths
from fedrsclip_core.errors import ConfigError, RunError, WireError
from fedrsclip_core.messages import (
    PROTOCOL_VERSION,
    QUERY_IDENTITY,
    QUERY_PREPARE,
    Identity,
)
from fedrsclip_core.records import pack_identity_request, unpack_identity
from fedrsclip_core.schema import Config
from server_app.exchange import Exchange, new_messages

Echo = Callable[[str], None]

_SETTLED = {"simulation": 2.0, "deployment": 10.0}
_PROGRESS_EVERY = 15.0

_ADVICE = {
    "code": "install the same version of fedrsclip there",
    "config": "submit the run again, and install the same version of fedrsclip there",
    "clip": "give it the same CLIP by model.path, model.hub_id and model.revision",
    "classes": "all sites must use the same data.class_names and data.class_words",
    "split": "give it the same images by data.path, or use partition=site",
}
_STALE = (
    "the simulated clients run another {part} than the server: a Flower daemon that was started "
    "earlier still uses an old copy; stop the process flower-superlink and start the run again "
    "(and reinstall fedrsclip if it is not installed in editable mode)"
)


@dataclass(frozen=True)
class Client:
    """A node and what it says of itself."""

    node_id: int
    identity: Identity

    @property
    def name(self) -> str:
        """The client's own name, stable over runs."""
        return self.identity.client_name

    @property
    def partition_id(self) -> int:
        """The client's place in the federation."""
        return self.identity.partition_id


@dataclass(frozen=True)
class Roster:
    """The clients of a run in partition order, and why others are not among them."""

    clients: tuple[Client, ...]
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Standard:
    """What the server compares clients with."""

    run_name: str
    code: str
    config: str
    n_ctx: int
    simulation: bool


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


def require(roster: Roster, min_clients: int) -> None:
    """Refuse to go on with fewer than ``min_clients``.

    Raises
    ------
    RunError
        Naming each refused client with its reason.
    """
    if len(roster.clients) >= max(1, min_clients):
        return
    reasons = "; ".join(f"{name}: {reason}" for name, reason in roster.refused.items())
    raise RunError(
        f"{len(roster.clients)} clients can take part, federation.min_clients is {min_clients}"
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
    accepted = _checked(clients, standard, refused)
    return Roster(tuple(accepted), refused)


def _checked(clients: list[Client], standard: Standard, refused: dict[str, str]) -> list[Client]:
    """Return the clients that may take part, in partition order; the others enter ``refused``."""
    clients = sorted(clients, key=lambda client: (client.partition_id, client.name))
    clients = _without(clients, refused, lambda client: _against_server(client, standard))
    names = Counter(client.name for client in clients)
    partitions = Counter(client.partition_id for client in clients)

    def double(client: Client) -> str:
        if names[client.name] > 1:
            return f"{names[client.name]} clients have this name: give each its own client-name"
        if partitions[client.partition_id] > 1:
            return f"another client has partition-id {client.partition_id} too: each needs its own"
        return ""

    clients = _without(clients, refused, double)
    for part in ("clip", "classes", "split"):
        values = [client.identity.digests[part] for client in clients]
        common = _most_common([value for value in values if value])
        clients = _without(
            clients,
            refused,
            lambda client, part=part, common=common: (  # type: ignore[misc]
                f"its {part} differs from the other clients': {_ADVICE[part]}"
                if client.identity.digests[part] not in ("", common)
                else ""
            ),
        )
    width = _most_common([str(client.identity.width) for client in clients])
    return _without(
        clients,
        refused,
        lambda client: (
            f"its text width is {client.identity.width}, the others' is {width}: {_ADVICE['clip']}"
            if str(client.identity.width) != width
            else ""
        ),
    )


def _against_server(client: Client, standard: Standard) -> str:
    identity = client.identity
    try:
        paths.safe_name(identity.client_name, "its client-name")
    except ConfigError as error:
        return str(error)
    if identity.protocol != PROTOCOL_VERSION:
        return (
            f"it speaks protocol {identity.protocol}, the server {PROTOCOL_VERSION}: "
            f"{_ADVICE['code']}"
        )
    for part, own in (("code", standard.code), ("config", standard.config)):
        if identity.digests[part] == own:
            continue
        if standard.simulation:
            raise RunError(_STALE.format(part="configuration" if part == "config" else part))
        return f"its {part} differs from the server's: {_ADVICE[part]}"
    if identity.n_ctx != standard.n_ctx:
        return (
            f"its prompt has n_ctx {identity.n_ctx}, the run's {standard.n_ctx}: {_ADVICE['code']}"
        )
    return ""


def _without(
    clients: list[Client], refused: dict[str, str], objection: Callable[[Client], str]
) -> list[Client]:
    kept = []
    for client in clients:
        reason = objection(client)
        if not reason:
            kept.append(client)
            continue
        label = client.name
        if label in refused:
            label = f"{client.name} (partition {client.partition_id})"
        refused[label] = reason
    return kept


def _most_common(values: Sequence[str]) -> str:
    """Return the most frequent value; among equals the first, so the lowest partition's."""
    return Counter(values).most_common(1)[0][0] if values else ""
