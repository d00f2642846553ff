"""What the server assumes of Flower's inside, each against Flower's own code."""

import hashlib
import subprocess
import sys
import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.constant import FORCE_EXIT_TIMEOUT_SECONDS, TaskType
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import (
    inflate_object_from_contents,
    push_objects,
)
from flwr.superlink.grid.http_grid import HttpGrid

from server_app.flower_internals import (
    ErrorCode,
    Run,
    TransportError,
    bound_pulls,
    is_simulation,
    sent_objects,
)
from tests.unit.server.fakes import Fakes, small_config

pytestmark = [pytest.mark.unit, pytest.mark.flower]


def a_message() -> Message:
    Fakes(small_config()).grid()  # from here on this process may create messages
    arrays = ArrayRecord({"a": Array(np.arange(64, dtype=np.float32).reshape(4, 16))})
    return Message(RecordDict({"arrays": arrays, "config": ConfigRecord({"x": 1})}), 7, "train")


@pytest.mark.parametrize(
    ("task_type", "simulated"), [(TaskType.SIMULATION, True), (TaskType.SERVER_APP, False)]
)
def test_a_run_says_whether_it_is_simulated(task_type: TaskType, simulated: bool) -> None:
    run = Run.create_empty(1)
    run.primary_task_type = task_type
    grid = HttpGrid(token="token")
    grid.set_run(run)
    assert is_simulation(grid) is simulated


def test_flower_calls_at_its_exit_and_waits_for_what_takes_longer_than_its_own_patience() -> None:
    code = (
        "import sys, time\n"
        "from flwr.supercore import exit\n"
        "from server_app.flower_internals import called_at_exit\n"
        "with called_at_exit(lambda: print('never')): pass\n"
        f"told = lambda: (time.sleep({FORCE_EXIT_TIMEOUT_SECONDS} + 1), print('told'))\n"
        "with called_at_exit(told):\n"
        "    exit.flwr_exit(exit.ExitCode.GRACEFUL_EXIT_SIGTERM, emit_telemetry=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.split() == ["told"], done.stderr


class Silent:
    """A Runtime API that announces a reply and never has its parts."""

    def __init__(self, reply: Message) -> None:
        self._reply = reply

    def PullMessages(self, _: object) -> PullAppMessagesResponse:  # noqa: N802
        return PullAppMessagesResponse(
            messages_list=[message_to_proto(self._reply)],
            message_object_trees=[get_object_tree(self._reply)],
        )

    def PullObject(self, _: object) -> PullObjectResponse:  # noqa: N802
        return PullObjectResponse(object_found=True, object_available=False)


def test_the_rest_of_a_reply_is_not_waited_for_for_long() -> None:
    bound_pulls(0.5, 0.1)
    grid = HttpGrid(token="token")
    grid._client = Silent(a_message())  # type: ignore[assignment]
    grid.set_run(Run.create_empty(1))
    start = time.monotonic()
    (answer,) = grid.pull_messages(["a"])
    assert time.monotonic() - start < 5
    assert answer.error.code == ErrorCode.MESSAGE_UNAVAILABLE


def test_a_superlink_that_is_not_there_is_a_transport_error() -> None:
    grid = HttpGrid("127.0.0.1:1", insecure=True, token="token")
    grid.set_run(Run.create_empty(1))
    grid._retry_invoker.max_tries = 1
    with pytest.raises(TransportError):
        grid.pull_messages(["a"])


def test_what_is_counted_is_what_flower_sends_and_all_that_it_needs() -> None:
    message = a_message()
    pushed: dict[str, bytes] = {}
    with no_object_id_recompute():
        push_objects(get_all_nested_objects(message), pushed.__setitem__)
    sent = sent_objects(message)
    assert sorted(sent) == sorted(pushed.values())
    by_id = {hashlib.sha256(part).hexdigest(): part for part in sent}
    again = inflate_object_from_contents(message.object_id, by_id)
    assert isinstance(again, Message)
    assert again.content == message.content
