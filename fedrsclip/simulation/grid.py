"""What the simulated grids have in common: their nodes, and messages as Flower makes them."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from flwr.app import Context, Error, Message, RecordDict, UserConfigValue
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedrsclip.flower_internals import become_server, from_bytes, simulated_run, to_bytes
from server_app.flower_internals import ErrorCode, Run

_FIRST_NODE = 1000

NodeConfig = Mapping[str, UserConfigValue]


class SimulatedGrid(Grid):
    """Nodes that live on this machine, with ids in the order of their configurations.

    Parameters
    ----------
    node_configs : Sequence[Mapping[str, UserConfigValue]]
        One node configuration per node.
    run_id : int
        Flower's run id.
    """

    def __init__(self, node_configs: Sequence[NodeConfig], *, run_id: int = 1) -> None:
        become_server(run_id)
        self._run = simulated_run(run_id)
        self._node_ids = range(_FIRST_NODE, _FIRST_NODE + len(node_configs))

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
        return list(self._node_ids)

    @abstractmethod
    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages and return the ids to pull by."""

    @abstractmethod
    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to ``message_ids`` that are there, each once."""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push and pull what is there at once."""
        return self.pull_messages(self.push_messages(messages))


def new_context(node_id: int, node_config: NodeConfig, run_id: int) -> Context:
    """Return what a node's handlers are given beside a message."""
    return Context(
        run_id=run_id,
        node_id=node_id,
        node_config=dict(node_config),
        state=RecordDict(),
        run_config={},
    )


def answered(client_app: ClientApp, message: Message, context: Context) -> Message:
    """Run the handler for a message; its exception becomes an error with Flower's own wording."""
    try:
        return client_app(message, context)
    except Exception as error:
        return failed(message, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{type(error)}:<'{error}'>")


class Handlers:
    """The installed ClientApp's, for messages that come as bytes from another process.

    Parameters
    ----------
    run_id : int
        Flower's run id.
    """

    def __init__(self, run_id: int) -> None:
        # Not at the top: the process that sends needs no ClientApp.
        from client_app.app import app

        become_server(run_id)
        self._app, self._run_id = app, run_id

    def answer(self, data: bytes, node_config: NodeConfig) -> bytes:
        """Answer a message to a node."""
        message = from_bytes(data)
        context = new_context(message.metadata.dst_node_id, node_config, self._run_id)
        return to_bytes(answered(self._app, message, context))


def failed(message: Message, code: int, reason: str) -> Message:
    """Return the reply that says that a message was not answered."""
    return Message(Error(code=code, reason=reason), reply_to=message)
