"""Nodes that come in while a run is running: clients that return, and others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from fedrsclip_core.wire.messages import QUERY_IDENTITY, Identity
from server_app.admission import SIZES, Client, Standard
from server_app.exchange import LAST_PAUSE, Exchange, Pending, Reply, new_messages
from server_app.roster import identity_request, understood

_TELL_EVERY = 15.0
_CHANGED = "its {part} differs from that at the run's start"


@dataclass
class Newcomers:
    """Asks each new node who it is, without letting a round wait for the answer.

    A node that is online need not answer: its SuperExec may be missing.

    Attributes
    ----------
    exchange : Exchange
        Sends and receives.
    standard : Standard
        What newcomers are compared with.
    timeout : float
        Seconds after which a node that did not answer is asked again.
    echo : Callable[[str], None]
        Is told who came, once per node.
    seen : set[int]
        Nodes that have said who they are.
    """

    exchange: Exchange
    standard: Standard
    timeout: float
    echo: Callable[[str], None]
    seen: set[int]
    _pending: dict[int, Pending] = field(default_factory=dict)
    _known: dict[int, Client] = field(default_factory=dict)

    def placed(self, clients: Sequence[Client]) -> tuple[Client, ...]:
        """Return the run's clients, those that returned under the node ids that they have now."""
        online = self.exchange.online()
        # A node that went away may be another program when it returns.
        self.seen &= online
        self._ask(sorted(online - {client.node_id for client in clients} - self.seen))
        for node_id, reply in self.exchange.collect(self._pending).items():
            self._meet(node_id, reply, clients, online)
        return tuple(self._present(client, online) for client in clients)

    def wait_for(
        self, clients: Sequence[Client], needed: int, seconds: float
    ) -> tuple[tuple[Client, ...], set[int]]:
        """Wait until ``needed`` clients are connected, at most ``seconds``.

        Returns
        -------
        tuple[tuple[Client, ...], set[int]]
            The clients with their present node ids, and the nodes that are connected.
        """
        start = spoken = self.exchange.now()
        while True:
            clients = self.placed(clients)
            free = self.exchange.online() & {client.node_id for client in clients}
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
        self.seen.update(nodes)
        for node_id in nodes:
            self._known.pop(node_id, None)
        messages = new_messages(identity_request(self.standard), nodes, QUERY_IDENTITY)
        self._pending |= self.exchange.send(messages, self.timeout)

    def _meet(
        self, node_id: int, reply: Reply, clients: Sequence[Client], online: set[int]
    ) -> None:
        """Keep a node that is one of ``clients``; say who it is if it is none of them."""
        found = understood({node_id: reply}, QUERY_IDENTITY, self.standard, {node_id: "a new node"})
        for label, reason in found.refused.items():
            self.echo(f"{label} is refused: {reason}")
        if reply.content is None:
            self.seen.discard(node_id)
        for newcomer in found.clients:
            first = next((client for client in clients if client.name == newcomer.name), None)
            if first is None:
                self.echo(f"client {newcomer.name} is not of this run: it can join the next one")
                continue
            if other := _difference(newcomer.identity, first.identity):
                self.echo(f"client {newcomer.name} is refused: {_CHANGED.format(part=other)}")
                continue
            self._known[node_id] = newcomer
            if first.node_id in online:
                self.echo(
                    f"a second client {newcomer.name} is refused while the first is connected"
                )

    def _present(self, client: Client, online: set[int]) -> Client:
        if client.node_id in online:
            return client
        for node_id, newcomer in self._known.items():
            if newcomer.name == client.name and node_id in online:
                self.echo(f"client {client.name} is back")
                return replace(client, node_id=node_id)
        return client


def _difference(new: Identity, old: Identity) -> str:
    """Name the part in which a returning client differs; empty: in none."""
    for part, digest in new.digests.items():
        if digest not in ("", old.digests[part]):
            return part
    if new.partition_id != old.partition_id:
        return "partition-id"
    for name, (title, _) in SIZES.items():
        if getattr(new, name) != getattr(old, name):
            return title
    return ""
