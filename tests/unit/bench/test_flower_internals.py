"""What the workbench assumes of Flower's inside, each against Flower's own code."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.superlink.grid.http_grid import HttpGrid

from fedrsclip.flower_internals import (
    as_sent,
    become_server,
    from_bytes,
    give_id,
    simulated_run,
    to_bytes,
)
from server_app.flower_internals import is_simulation

pytestmark = [pytest.mark.unit, pytest.mark.flower]


def a_message() -> Message:
    become_server(7)
    record = ArrayRecord({"a": Array(np.arange(6, dtype=np.float32))})
    return Message(RecordDict({"arrays": record}), 1000, "train")


def test_messages_come_from_the_server_of_the_run() -> None:
    metadata = a_message().metadata
    server = HttpGrid(token="token").node.node_id
    assert (metadata.run_id, metadata.src_node_id) == (7, server)


def test_a_simulated_run_is_one_to_the_server() -> None:
    grid = HttpGrid(token="token")
    grid.set_run(simulated_run(7))
    assert grid.run.run_id == 7
    assert is_simulation(grid)


def test_each_message_has_an_id_of_its_own_that_its_reply_names() -> None:
    first, second = a_message(), a_message()
    assert give_id(first) != give_id(second)
    reply = Message(RecordDict(), reply_to=as_sent(first))
    assert reply.metadata.reply_to_message_id == first.metadata.message_id


def test_what_arrives_is_equal_and_the_receivers_own() -> None:
    message = a_message()
    arrived = as_sent(message)
    assert arrived.content == message.content
    del arrived.content["arrays"]
    assert "arrays" in message.content


def test_bytes_are_the_message() -> None:
    message = a_message()
    give_id(message)
    arrived = from_bytes(to_bytes(message))
    assert arrived.content == message.content
    assert vars(arrived.metadata) == vars(message.metadata)
