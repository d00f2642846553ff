"""A SuperNode's memory when the processes of its messages die, with Flower's own loop around it.

Each fault is shown with Flower's own memory, too: where that has lost a fault, ours may be dropped.
"""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, Metadata, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode.start_client_internal import _pull_and_store_message, _push_messages

from fedrsclip.site.flower_internals import ErrorCode, InMemoryNodeState, SubStatus, TaskType
from fedrsclip.site.node_state import SiteState

pytestmark = [pytest.mark.unit, pytest.mark.flower]

RUN, NODE = 7, 11
CRASHED = ErrorCode.CLIENT_APP_CRASHED
PATIENCE = 30


class StoppedError(Exception):
    """Ends Flower's loop at the end of a test."""


class Node:
    """A SuperNode's loop and Runtime API, driven by hand; ``sent`` is what the SuperLink gets."""

    def __init__(self, memory: type[InMemoryNodeState]) -> None:
        store = ObjectStoreFactory().store()
        self.state = memory(store)
        self.state.set_node_id(NODE)
        self.state.store_run(Run.create_empty(RUN))
        self.store = store
        self.sent: list[tuple[str, int | None]] = []
        self._loops: list[Thread] = []
        self._reply: Message

    def take(self, text: str, come: Callable[[], bool] = lambda: True) -> tuple[int, Message]:
        """Receive a message by Flower's loop, and begin to wait for the reply.

        Its parts are there once ``come`` returns, or never if that returns false.
        """
        message = a_message(text)
        before = {task.task_id for task in self.state.get_tasks()}
        self._loops.append(Thread(target=self._turn, args=(message, come), daemon=True))
        self._loops[-1].start()
        deadline = time.monotonic() + PATIENCE
        while message.metadata.message_id not in self.state.msg_store:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        (task,) = (t.task_id for t in self.state.get_tasks() if t.task_id not in before)
        return task, message

    def _turn(self, message: Message, come: Callable[[], bool]) -> None:
        with no_object_id_recompute():
            tree, objects = get_object_tree(message), get_all_nested_objects(message)

        def pull(_: int, name: str) -> bytes:
            if not come():
                raise ConnectionError("they do not come")
            return objects[name].deflate()

        run_id = _pull_and_store_message(
            state=self.state,
            object_store=self.store,
            node_config={},
            receive=lambda: (remove_content_from_message(message), tree),
            get_run=lambda _: pytest.fail("the run is known"),
            get_fab=lambda *_: pytest.fail("the run is known"),
            pull_object=pull,
            confirm_message_received=lambda *_: None,
            trusted_entities=None,
        )
        if run_id is not None:
            self._push()

    def _push(self) -> None:
        def send(reply: Message, tree: ObjectTree, seconds: float) -> tuple[set[str], str]:
            code = reply.error.code if reply.has_error() else None
            self._last = (reply.metadata.reply_to_message_id, code)
            with no_object_id_recompute():
                return set(all_ids(tree)), "session"

        try:
            _push_messages(self.state, self.store, send, lambda *_: None)
            self.sent.append(self._last)
        except StoppedError:
            return

    def start(self, task: int) -> str:
        """Start a task's process; return its token."""
        token = self.state.claim_task(task)
        assert token is not None and self.state.activate_task(task)
        return token

    def fetch(self) -> Message:
        """Let the process fetch its message, and say that it has it."""
        (message,) = self.state.get_messages_legacy(run_ids=[RUN], is_reply=False, limit=1)
        self.state.record_message_processing_start(message.metadata.message_id)
        tree = self.store.get_object_tree(message.metadata.message_id)
        deadline = time.monotonic() + PATIENCE
        while not all(map(self.store.get, all_ids(tree))):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self.store.delete(message.metadata.message_id)
        return message

    def reply(self, to: Message, *, parts: int | None = None, again: bool = False) -> bool:
        """Let the process hand its reply over: whole, or some parts of it and then it is killed.

        With ``again`` it is the same one as before.
        """
        content = RecordDict({"config": ConfigRecord({"text": "answer"})})
        reply = self._reply = self._reply if again else with_id(Message(content, reply_to=to))
        with no_object_id_recompute():
            tree, objects = get_object_tree(reply), get_all_nested_objects(reply)
        session = self.state.start_session(RUN)
        self.state.record_message_processing_end(to.metadata.message_id)
        stored, wanted = self.state.store_message_and_object_tree(
            remove_content_from_message(reply), tree, session
        )
        for name in wanted[:parts]:
            assert self.state.store_object(RUN, session, name, objects[name].deflate())
        return stored

    def finish(self, task: int, sub_status: str = SubStatus.COMPLETED) -> bool:
        return self.state.finish_task(task, sub_status, "")

    def let_expire(self, task: int) -> None:
        """Let the time pass after which Flower misses a process."""
        self.state.task_token_store[task].active_until -= timedelta(hours=1)

    def wait(self, count: int) -> list[tuple[str, int | None]]:
        """Wait until so many messages are answered."""
        deadline = time.monotonic() + PATIENCE
        while len(self.sent) < count:
            assert time.monotonic() < deadline, self.sent
            time.sleep(0.005)
        return self.sent

    @property
    def is_stuck(self) -> bool:
        """Whether the loop waits after it had the time for two looks."""
        self._loops[-1].join(timeout=0.3)
        return self._loops[-1].is_alive()

    def end(self) -> None:
        """End Flower's loop, whatever it waits for."""

        def stop(*_: Any, **__: Any) -> Any:
            raise StoppedError

        self.state.get_messages_legacy = self.store.get = stop  # type: ignore[method-assign]
        for loop in self._loops:
            loop.join(timeout=PATIENCE)


def a_message(text: str) -> Message:
    return with_id(
        make_message(
            metadata=Metadata(RUN, "", 0, NODE, "", "1", time.time(), 3600, "train"),
            content=RecordDict({"config": ConfigRecord({"text": text})}),
        )
    )


def with_id(message: Message) -> Message:
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


def all_ids(tree: ObjectTree) -> Iterator[str]:
    yield tree.object_id
    for child in tree.children:
        yield from all_ids(child)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type[InMemoryNodeState]], Node]]:
    pause, sleep = 0.01, time.sleep
    quick = SimpleNamespace(sleep=lambda _: sleep(pause))
    monkeypatch.setattr("flwr.supernode.start_client_internal.time", quick)
    nodes: list[Node] = []

    def make(memory: type[InMemoryNodeState]) -> Node:
        nodes.append(Node(memory))
        return nodes[-1]

    yield make
    for one in nodes:
        one.end()


New = Callable[[type[InMemoryNodeState]], Node]


def killed_after_its_reply(node: Node) -> Message:
    """Kill a process that has handed its reply over; return the next message, being processed."""
    first, _ = node.take("1")
    node.start(first)
    node.reply(node.fetch())
    node.wait(1)
    second, following = node.take("2")
    node.start(second)
    node.fetch()
    node.let_expire(first)
    return following


def test_with_flowers_memory_a_killed_process_makes_the_next_one_crash(node: New) -> None:
    flowers = node(InMemoryNodeState)
    message = killed_after_its_reply(flowers)
    assert flowers.wait(2)[1] == (message.metadata.message_id, CRASHED)
    # The true reply is there as well now, and goes out with the next message.
    assert flowers.reply(message)
    flowers.take("3")
    assert flowers.wait(3)[2] == (message.metadata.message_id, None)


def test_a_process_that_is_killed_after_its_reply_harms_no_other(node: New) -> None:
    ours = node(SiteState)
    message = killed_after_its_reply(ours)
    assert ours.is_stuck and len(ours.sent) == 1
    assert ours.reply(message)
    assert ours.wait(2)[1] == (message.metadata.message_id, None)


def killed_in_its_reply(node: Node) -> tuple[int, Message]:
    task, message = node.take("1")
    node.start(task)
    node.reply(node.fetch(), parts=1)
    return task, message


def test_with_flowers_memory_the_rest_of_a_reply_is_awaited_for_ever(node: New) -> None:
    flowers = node(InMemoryNodeState)
    task, _ = killed_in_its_reply(flowers)
    flowers.let_expire(task)
    assert flowers.is_stuck and flowers.sent == []


@pytest.mark.parametrize("how", ["reported", "expired"])
def test_a_process_that_is_killed_in_its_reply_has_crashed(node: New, how: str) -> None:
    ours = node(SiteState)
    task, message = killed_in_its_reply(ours)
    assert ours.is_stuck and ours.sent == []
    ours.finish(task, SubStatus.FAILED) if how == "reported" else ours.let_expire(task)
    assert ours.wait(1) == [(message.metadata.message_id, CRASHED)]
    assert len(ours.store) == 0 and ours.state.msg_store == {} and not ours.state.working


def killed_before_its_message(node: Node) -> tuple[int, Message]:
    task, message = node.take("1")
    node.start(task)
    return task, message


def test_with_flowers_memory_a_message_that_was_not_fetched_is_never_answered(node: New) -> None:
    flowers = node(InMemoryNodeState)
    task, _ = killed_before_its_message(flowers)
    flowers.let_expire(task)
    assert flowers.is_stuck and flowers.sent == []


@pytest.mark.parametrize("fetched", [False, True])
@pytest.mark.parametrize("how", ["reported", "expired"])
def test_a_process_that_is_killed_before_its_reply_has_crashed(
    node: New, fetched: bool, how: str
) -> None:
    ours = node(SiteState)
    task, message = killed_before_its_message(ours)
    if fetched:
        ours.fetch()
    ours.finish(task, SubStatus.FAILED) if how == "reported" else ours.let_expire(task)
    assert ours.wait(1) == [(message.metadata.message_id, CRASHED)]
    assert len(ours.store) == 0 and ours.state.msg_store == {} and not ours.state.working


def test_with_flowers_memory_a_process_that_gives_up_politely_leaves_its_message(node: New) -> None:
    flowers = node(InMemoryNodeState)
    task, _ = flowers.take("1")
    flowers.start(task)
    flowers.fetch()
    assert flowers.finish(task, SubStatus.FAILED)  # as `flwr-clientapp` does at SIGTERM
    assert flowers.is_stuck and flowers.sent == []


@pytest.mark.parametrize("status", [SubStatus.FAILED, SubStatus.STOPPED, SubStatus.COMPLETED])
def test_a_process_that_ends_without_a_reply_has_crashed(node: New, status: str) -> None:
    ours = node(SiteState)
    task, message = ours.take("1")
    ours.start(task)
    ours.fetch()
    assert ours.finish(task, status)
    assert ours.wait(1) == [(message.metadata.message_id, CRASHED)]


def test_a_whole_reply_is_sent_and_its_end_changes_nothing(node: New) -> None:
    ours = node(SiteState)
    for number in range(1, 4):
        task, message = ours.take(str(number))
        assert ours.state.working
        ours.start(task)
        assert ours.reply(ours.fetch())
        assert ours.finish(task)
        assert ours.wait(number)[-1] == (message.metadata.message_id, None)
        assert len(ours.store) == 0 and ours.state.msg_store == {} and not ours.state.working


def test_a_reply_to_a_message_that_is_answered_is_dropped(node: New) -> None:
    ours = node(SiteState)
    task, _ = killed_before_its_message(ours)
    late = ours.fetch()
    ours.let_expire(task)
    ours.wait(1)
    assert not ours.reply(late)
    second, following = ours.take("2")
    ours.start(second)
    assert not ours.reply(late)
    assert ours.reply(ours.fetch())
    assert ours.wait(2)[1] == (following.metadata.message_id, None)


def test_a_second_reply_is_dropped_and_the_first_may_be_announced_twice(node: New) -> None:
    ours = node(SiteState)
    task, message = ours.take("1")
    ours.start(task)
    ours.fetch()
    assert ours.reply(message, parts=1)
    assert ours.reply(message, parts=0, again=True)
    assert not ours.reply(message)
    assert ours.is_stuck and ours.sent == []


@pytest.mark.parametrize("reported", [False, True])
def test_a_message_whose_parts_never_came_is_forgotten(node: New, reported: bool) -> None:
    ours = node(SiteState)
    gate = Event()
    task, _ = ours.take("1", lambda: not gate.wait(PATIENCE))
    if reported:
        ours.start(task)
        assert ours.finish(task, SubStatus.FAILED)
    gate.set()
    assert not ours.is_stuck
    assert ours.sent == [] and ours.state.msg_store == {} and len(ours.store) == 0
    assert not ours.state.working
    second, following = ours.take("2")
    ours.start(second)
    assert ours.reply(ours.fetch())
    assert ours.wait(1) == [(following.metadata.message_id, None)]


@pytest.mark.parametrize("fetched", [False, True])
def test_a_process_that_dies_while_its_message_still_comes_has_crashed(
    node: New, fetched: bool
) -> None:
    ours = node(SiteState)
    gate = Event()
    task, message = ours.take("1", lambda: gate.wait(PATIENCE))
    ours.start(task)
    if fetched:
        (_,) = ours.state.get_messages_legacy(run_ids=[RUN], is_reply=False, limit=1)
    assert ours.finish(task, SubStatus.FAILED)
    gate.set()
    assert ours.wait(1) == [(message.metadata.message_id, CRASHED)]
    assert len(ours.store) == 0 and ours.state.msg_store == {} and not ours.state.working


def test_a_message_for_another_kind_of_app_is_an_error_at_once(node: New) -> None:
    ours = node(SiteState)
    assert ours.state.create_task(task_type=TaskType.AGENT_APP, run_id=RUN, fab_hash="fab")
    message = a_message("1")
    ours.state.store_message(message)
    ours._push()
    assert ours.sent == [(message.metadata.message_id, CRASHED)] and not ours.state.working


def test_a_process_that_dies_before_its_message_is_here_has_crashed(node: New) -> None:
    ours = node(SiteState)
    task = ours.state.create_task(task_type=TaskType.CLIENT_APP, run_id=RUN, fab_hash="fab")
    assert task is not None
    ours.start(task)
    assert ours.finish(task, SubStatus.FAILED)
    message = a_message("1")
    ours.state.store_message(message)
    ours._push()
    assert ours.sent == [(message.metadata.message_id, CRASHED)] and not ours.state.working


def test_a_task_that_no_process_has_taken_is_work(node: New) -> None:
    ours = node(SiteState)
    ours.take("1")
    assert ours.state.working and ours.is_stuck


def test_a_process_that_dies_before_it_begins_is_started_again(node: New) -> None:
    ours = node(SiteState)
    task, message = ours.take("1")
    assert ours.state.claim_task(task)
    ours.let_expire(task)
    assert ours.is_stuck and ours.sent == []
    ours.start(task)
    assert ours.reply(ours.fetch())
    assert ours.wait(1) == [(message.metadata.message_id, None)]
