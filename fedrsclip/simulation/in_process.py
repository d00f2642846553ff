"""A Flower grid in one process, one node after the other, for benchmarks and tests."""

from collections.abc import Iterable, Sequence

from flwr.app import Message
from flwr.clientapp import ClientApp

from fedrsclip.flower_internals import as_sent, give_id
from fedrsclip.simulation.grid import NodeConfig, SimulatedGrid, answered, new_context


class InProcessGrid(SimulatedGrid):
    """Runs a client app's handlers in this process, one after the other.

    Each message is answered when it is pushed. Each node keeps its ``Context``, as in Flower.

    Parameters
    ----------
    client_app : ClientApp
        The client's handlers.
    node_configs : Sequence[Mapping[str, UserConfigValue]]
        One node configuration per node.
    run_id : int
        Flower's run id.

    Attributes
    ----------
    contexts : dict[int, Context]
        The nodes that are there, by node id.
    """

    def __init__(
        self, client_app: ClientApp, node_configs: Sequence[NodeConfig], *, run_id: int = 1
    ) -> None:
        super().__init__(node_configs, run_id=run_id)
        self._client_app = client_app
        self._replies: dict[str, Message] = {}
        self.contexts = {
            node_id: new_context(node_id, node_config, run_id)
            for node_id, node_config in zip(self._node_ids, node_configs, strict=True)
        }

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes that are there."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answer each message at once and return the ids to pull by."""
        ids = []
        for message in messages:
            ids.append(give_id(message))
            reply = self.answer(as_sent(message))
            if reply is not None:
                self._replies[ids[-1]] = as_sent(reply)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to ``message_ids`` that are there, each once."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def answer(self, message: Message) -> Message | None:
        """Run the handler for one message; ``None`` would be a node that never replies."""
        return answered(self._client_app, message, self.contexts[message.metadata.dst_node_id])
