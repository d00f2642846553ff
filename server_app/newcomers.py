"""Nodes that come in while a run is running: clients that return or join, and others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from fedrsclip_core.wire.messages import QUERY_IDENTITY, QUERY_PREPARE, Identity
from server_app.admission import SIZES, Client, Standard
from server_app.exchange import LAST_PAUSE, Exchange, Pending, Reply, new_messages
from server_app.roster import IDENTITY_SECONDS, NOT_THERE, identity_request, understood

_TELL_EVERY = 15.0
_PREPARE_SECONDS = 600.0
"""After which a client that has not prepared is asked again: what it has encoded, it keeps."""
_CHANGED = "its {part} differs from that at the run's start"
_OTHER = "its {part} differs from the other clients'"


@dataclass
class Newcomers:
    """Asks each new node who it is, without letting a round wait for the answer.

    A client that was not there at the run's start may join it as long as fewer than
    ``federation.num_clients`` take part: it prepares its images and is asked from the next round
    on. A node that is online need not answer: its SuperExec may be missing.

    Attributes
    ----------
    exchange : Exchange
        Sends and receives.
    standard : Standard
        What newcomers are compared with.
    num_clients : int
        How many clients may take part.
    echo : Callable[[str], None]
        Is told who came, once per node.
    seen : set[int]
        Nodes that have said who they are.
    pending : dict[int, Pending]
        Nodes that have been asked who they are.
    """

    exchange: Exchange
    standard: Standard
    num_clients: int
    echo: Callable[[str], None]
    seen: set[int]
    pending: dict[int, Pending] = field(default_factory=dict)
    _preparing: dict[int, Pending] = field(default_factory=dict)
    _known: dict[int, Client] = field(default_factory=dict)

    def placed(self, clients: Sequence[Client]) -> tuple[Client, ...]:
        """Return the run's clients with those that join it, in partition order.

        Those that returned have the node ids that they have now.
        """
        online = self.exchange.online()
        # A node that went away may be another program when it returns.
        self.seen &= online
        strangers = online - {client.node_id for client in clients}
        self._ask(sorted(strangers - self.seen - self.pending.keys() - self._preparing.keys()))
        for node_id, reply in self.exchange.collect(self.pending).items():
            self._meet(node_id, reply, clients, online)
        joined = list(clients)
        for node_id, reply in self.exchange.collect(self._preparing).items():
            joined += self._ready(node_id, reply, joined)
        present = [self._present(client, online) for client in joined]
        return tuple(sorted(present, key=lambda client: client.partition_id))

    def wait_for(
        self, clients: Sequence[Client], needed: int, seconds: float
    ) -> tuple[tuple[Client, ...], set[int]]:
        """Wait until ``needed`` clients can be asked, at most ``seconds``.

        Those can be that are connected and owe no answer to an earlier message.

        Returns
        -------
        tuple[tuple[Client, ...], set[int]]
            The clients with their present node ids, and the nodes that can be asked.
        """
        start = spoken = self.exchange.now()
        while True:
            clients = self.placed(clients)
            free = self.exchange.online() & {client.node_id for client in clients}
            free -= self.exchange.owing()
            now = self.exchange.now()
            left = seconds - (now - start)
            if len(free) >= needed or left <= 0:
                return clients, free
            if now - spoken >= _TELL_EVERY:
                spoken = now
                self.echo(
                    f"waiting for clients: {len(free)} of {len(clients)} can be asked, at least "
                    f"{needed} needed, {left:.0f} s left in this round"
                )
            self.exchange.pause(LAST_PAUSE)

    def _ask(self, nodes: Sequence[int]) -> None:
        if not nodes:
            return
        for node_id in nodes:
            self._known.pop(node_id, None)
        messages = new_messages(identity_request(self.standard), nodes, QUERY_IDENTITY)
        self.pending |= self.exchange.send(messages, IDENTITY_SECONDS)

    def _meet(
        self, node_id: int, reply: Reply, clients: Sequence[Client], online: set[int]
    ) -> None:
        """Keep a node that is one of ``clients``; let one that may join prepare; refuse others."""
        for newcomer in self._understood(node_id, reply, QUERY_IDENTITY, "a new node"):
            first = next((client for client in clients if client.name == newcomer.name), None)
            if first is None:
                self._invite(newcomer, clients)
                continue
            other = _difference(newcomer.identity, first.identity)
            if not other and newcomer.partition_id != first.partition_id:
                other = "partition-id"
            if other:
                self.echo(f"client {newcomer.name} is refused: {_CHANGED.format(part=other)}")
                continue
            self._known[node_id] = newcomer
            if first.node_id in online:
                self.echo(
                    f"a second client {newcomer.name} is refused while the first is connected"
                )

    def _understood(
        self, node_id: int, reply: Reply, message_type: str, label: str
    ) -> tuple[Client, ...]:
        """Return the client that a reply tells of, if any, and say why it is refused."""
        self.seen.add(node_id)
        found = understood({node_id: reply}, message_type, self.standard, {node_id: label})
        for name, reason in found.refused.items():
            self.echo(f"{name} is refused: {reason}")
        if reply.reason in NOT_THERE:
            self.seen.discard(node_id)
        return found.clients

    def _invite(self, newcomer: Client, clients: Sequence[Client]) -> None:
        """Let a client prepare that may join the run."""
        if reason := self._objection(newcomer, clients):
            self.echo(f"client {newcomer.name} is not of this run: {reason}")
            return
        self.echo(f"client {newcomer.name} has come: it joins once its images are prepared")
        messages = new_messages(identity_request(self.standard), [newcomer.node_id], QUERY_PREPARE)
        self._preparing |= self.exchange.send(messages, _PREPARE_SECONDS)

    def _ready(self, node_id: int, reply: Reply, clients: Sequence[Client]) -> list[Client]:
        """Return a client that has prepared and may join, if it does."""
        joining = []
        for newcomer in self._understood(node_id, reply, QUERY_PREPARE, "a client that joins"):
            if reason := self._objection(newcomer, clients):
                self.echo(f"client {newcomer.name} is not of this run: {reason}")
                continue
            self.echo(f"client {newcomer.name} joins the run")
            joining.append(newcomer)
        return joining

    def _objection(self, newcomer: Client, clients: Sequence[Client]) -> str:
        """Say why a client cannot join; empty: it can."""
        if len(clients) >= self.num_clients:
            return "it can join the next one"
        taken = [c.name for c in clients if c.partition_id == newcomer.partition_id]
        if taken or any(client.name == newcomer.name for client in clients):
            return f"another client has partition-id {newcomer.partition_id} or its name"
        other = _difference(newcomer.identity, clients[0].identity)
        return _OTHER.format(part=other) if other else ""

    def _present(self, client: Client, online: set[int]) -> Client:
        if client.node_id in online:
            return client
        for node_id, newcomer in self._known.items():
            if newcomer.name == client.name and node_id in online:
                self.echo(f"client {client.name} is back")
                return replace(client, node_id=node_id)
        return client


def _difference(new: Identity, old: Identity) -> str:
    """Name the part in which a client differs from one of the run; empty: in none."""
    for part, digest in new.digests.items():
        if digest not in ("", old.digests[part]):
            return part
    for name, (title, _) in SIZES.items():
        if getattr(new, name) != getattr(old, name):
            return title
    return ""
