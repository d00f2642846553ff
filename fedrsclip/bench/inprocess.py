"""A Flower grid without Ray, SuperLink or processes, for tests and benchmarks."""

from collections.abc import Iterable, Mapping, Sequence

from flwr.app import Context, Error, Message, RecordDict, UserConfigValue
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedrsclip.flower_internals import as_sent, become_server, give_id, simulated_run
from server_app.flower_internals import ErrorCode, Run


class InProcessGrid(Grid):
    """Runs a client app's handlers in this process, one after the other.

    Each message is answered when it is pushed. A handler's exception becomes an error reply with
    Flower's own wording, and each node keeps its ``Context``, as in Flower.

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
        self,
        client_app: ClientApp,
        node_configs: Sequence[Mapping[str, UserConfigValue]],
        *,
        run_id: int = 1,
    ) -> None:
        become_server(run_id)
        self._client_app = client_app
        self._run = simulated_run(run_id)
        self._replies: dict[str, Message] = {}
        self.contexts = {
            1000 + index: Context(
                run_id=run_id,
                node_id=1000 + index,
                node_config=dict(node_config),
                state=RecordDict(),
                run_config={},
            )
            for index, node_config in enumerate(node_configs)
        }

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes."""
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

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push and pull; nothing is ever late here, so ``timeout`` is not needed."""
        return self.pull_messages(self.push_messages(messages))

    def answer(self, message: Message) -> Message | None:
        """Run the handler for one message; ``None`` would be a node that never replies."""
        context = self.contexts[message.metadata.dst_node_id]
        try:
            return self._client_app(message, context)
        except Exception as error:
            reason = f"{type(error)}:<'{error}'>"
            code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
            return Message(Error(code=code, reason=reason), reply_to=message)
