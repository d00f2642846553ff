"""What the workbench takes from inside Flower to run a federation without Flower's processes.

Another Flower is this file's work, beside ``server_app/flower_internals.py``. Each thing assumed
here has a test in ``tests/unit/bench/test_flower_internals.py``.
"""

from uuid import uuid4

from flwr.app import Message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.supercore.constant import TaskType
from flwr.supercore.task_identity import TaskIdentity

from server_app.flower_internals import Run

__all__ = ["as_sent", "become_server", "from_bytes", "give_id", "simulated_run", "to_bytes"]


def become_server(run_id: int) -> None:
    """Let the messages that this process creates come from the server of a run."""
    TaskIdentity.run_id, TaskIdentity.task_id = run_id, 1
    TaskIdentity.node_id = SUPERLINK_NODE_ID


def simulated_run(run_id: int) -> Run:
    """Return a run whose nodes are simulated."""
    run = Run.create_empty(run_id)
    run.primary_task_type = TaskType.SIMULATION
    return run


def give_id(message: Message) -> str:
    """Give a message an id, as Flower does when it sends it, and return that."""
    message.metadata.__dict__["_message_id"] = str(uuid4())
    return message.metadata.message_id


def as_sent(message: Message) -> Message:
    """Return what arrives of a message: the receiver must own what it holds."""
    return message_from_proto(message_to_proto(message))


def to_bytes(message: Message) -> bytes:
    """Return a message as bytes, for another process."""
    data: bytes = message_to_proto(message).SerializeToString()
    return data


def from_bytes(data: bytes) -> Message:
    """Return the message that :func:`to_bytes` has written."""
    return message_from_proto(MessageProto.FromString(data))
