"""Which clients may take part: all must run the same thing on the same terms."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fedrsclip_core.errors import RunError
from fedrsclip_core.wire.messages import PROTOCOL_VERSION, Identity
from server_app.registry import Registry, objection

T = TypeVar("T")

_ADVICE = {
    "code": "install the same version of fedrsclip there",
    "config": "submit the run again, and install the same version of fedrsclip there",
    "clip": "give it the same CLIP by model.path, model.hub_id and model.revision",
    "classes": "all sites must use the same data.class_names and data.class_words",
    "split": "give it the same images by data.path, or use partition=site",
}
COMMON_PARTS = ("clip", "classes", "split")
"""Parts in which clients must agree with each other; the server has code and configuration."""
_OWN_BUSINESS = ("split",)
"""Parts of which a client may say nothing: under the ``site`` partition each has its own."""
SIZES = {
    "width": ("text width", "clip"),
    "dim": ("projection size", "clip"),
    "num_classes": ("number of classes", "classes"),
}
"""Sizes that an identity tells and all clients have in common: title, and what decides them."""
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
class Standard:
    """What the server compares clients with, and the configuration that it hands to them.

    ``configuration`` is the resolved configuration as JSON, ``config`` its digest; ``registry``
    says which node may be which client, ``None``: each may be who it says. ``begun`` has the
    clients' digests at the start of a run that is resumed, by part, where they are known.
    """

    run_name: str
    code: str
    config: str
    configuration: str
    n_ctx: int
    simulation: bool
    registry: Registry | None = None
    begun: Mapping[str, str] = field(default_factory=dict)


Objection = Callable[[Client], str]
"""Says why a client may not take part; empty if it may."""


def admitted(
    clients: Sequence[Client], standard: Standard, refused: dict[str, str]
) -> tuple[Client, ...]:
    """Return the clients that may take part, in partition order; the others enter ``refused``.

    Raises
    ------
    RunError
        If a simulated client runs other code or another configuration than the server, or the
        registry cannot be read.
    """
    kept = sorted(clients, key=lambda client: (client.partition_id, client.name))
    # First: who bears another's name is refused, not the one whose name it is.
    kept = _registered(kept, standard.registry, refused)
    kept = _without(kept, refused, lambda client: _against_server(client, standard))
    kept = _without(kept, refused, _double(kept))
    for part in COMMON_PARTS:
        kept = _without(kept, refused, _other_digest(kept, part, standard.begun.get(part)))
    return tuple(_without(kept, refused, _other_sizes(kept)))


def _registered(
    clients: Sequence[Client], registry: Registry | None, refused: dict[str, str]
) -> list[Client]:
    """Return the clients whose nodes are registered for them; the others enter ``refused``."""
    if registry is None:
        return list(clients)
    nodes, kept = registry.nodes(), []
    for client in clients:
        label, reason = objection(nodes, client.node_id, client.name, client.partition_id)
        if reason:
            refused[label] = reason
        else:
            kept.append(client)
    return kept


def _double(clients: Sequence[Client]) -> Objection:
    names = Counter(client.name for client in clients)
    partitions = Counter(client.partition_id for client in clients)

    def objection(client: Client) -> str:
        if names[client.name] > 1:
            return f"{names[client.name]} clients have this name: give each its own client-name"
        if partitions[client.partition_id] > 1:
            return f"another client has partition-id {client.partition_id} too: each needs its own"
        return ""

    return objection


def _other_digest(clients: Sequence[Client], part: str, begun: str | None) -> Objection:
    """Compare with the start of a run that is resumed: there is no vote on it later."""
    known = [client.identity.digests[part] for client in clients]
    common = begun or _most_common([digest for digest in known if digest])
    other = "that at the run's start" if begun else "the other clients'"

    def objection(client: Client) -> str:
        digest = client.identity.digests[part]
        if digest == common or (not digest and part in _OWN_BUSINESS):
            return ""
        return f"its {part} differs from {other}: {_ADVICE[part]}"

    return objection


def _other_sizes(clients: Sequence[Client]) -> Objection:
    common = {
        name: _most_common([getattr(client.identity, name) for client in clients]) for name in SIZES
    }

    def objection(client: Client) -> str:
        for name, (title, part) in SIZES.items():
            size = getattr(client.identity, name)
            if size != common[name]:
                return f"its {title} is {size}, the others' is {common[name]}: {_ADVICE[part]}"
        return ""

    return objection


def _against_server(client: Client, standard: Standard) -> str:
    identity = client.identity
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
    for name, (title, _) in SIZES.items():
        if getattr(identity, name) < 1:
            return f"its {title} is {getattr(identity, name)}: {_ADVICE['code']}"
    if identity.n_ctx != standard.n_ctx:
        return (
            f"its prompt has n_ctx {identity.n_ctx}, the run's {standard.n_ctx}: {_ADVICE['code']}"
        )
    return ""


def _without(
    clients: Sequence[Client], refused: dict[str, str], objection: Objection
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


def _most_common(values: Sequence[T]) -> T | None:
    """Return the most frequent value; among equals the first, so the lowest partition's."""
    return Counter(values).most_common(1)[0][0] if values else None
