"""What a site's SuperNode remembers of messages, so that one never waits for a dead process.

Flower's own waits for ever, or sends replies one round late from then on, when a ClientApp's
process dies at the wrong instant (``docs/upstream.md``). Here each task knows its message, and:

- when a task is over, however it ended, its message has exactly one reply: a whole one, or the
  error that its process crashed;
- a reply goes out only when all of it is there;
- a reply to a message that waits for none is dropped;
- a message for anything but a ClientApp, which no site would run, is an error at once.
"""

from collections.abc import Sequence
from typing import Any

from flwr.app import Message

from fedrsclip.site.flower_internals import (
    CLIENT_APP_CRASHED_ERROR,
    InMemoryNodeState,
    ObjectStore,
    Status,
    SubStatus,
    TaskType,
    iterate_object_tree,
)


class SiteState(InMemoryNodeState):
    """A SuperNode's memory in which every message is answered once.

    The SuperNode takes one message at a time: it makes a task, stores the message, and waits for a
    reply before it takes the next one.
    """

    def __init__(self, object_store: ObjectStore) -> None:
        super().__init__(object_store)
        self._newest_task: int | None = None
        self._messages: dict[int, str] = {}

    @property
    def working(self) -> bool:
        """Whether a message is waiting for its process, or is being processed."""
        return bool(self._messages)

    def create_task(self, *arguments: Any, **options: Any) -> int | None:
        """Create a task, for the message that is stored next."""
        self._newest_task = super().create_task(*arguments, **options)
        return self._newest_task

    def store_message(self, message: Message) -> str | None:
        """Store a message, or a reply that was made here."""
        if message.metadata.reply_to_message_id:
            return super().store_message(message)
        # Nothing that is left of an earlier message may be taken for an answer to this one.
        self.delete_messages()
        stored = super().store_message(message)
        task_id, self._newest_task = self._newest_task, None
        if task_id is not None:
            self._messages[task_id] = message.metadata.message_id
            (task,) = self.get_tasks(task_ids=[task_id])
            if task.type != TaskType.CLIENT_APP:  # no site has a program that would take it
                self.finish_task(task_id, SubStatus.FAILED, "a site runs nothing but ClientApps")
            elif task.status.status == Status.FINISHED:
                # Its process has been started, and has died, before the message was here.
                self._answer(task_id)
        return stored

    def store_message_and_object_tree(
        self, message: Message, object_tree: Any, session_id: str
    ) -> tuple[bool, list[str]]:
        """Store a ClientApp's reply if its message waits for one; otherwise drop it."""
        with self._lock_object_push_sessions, self.lock_msg_store:
            waiting = message.metadata.reply_to_message_id
            known = self._reply_to(waiting)
            same = known is not None and known.metadata.message_id == message.metadata.message_id
            if waiting not in self.msg_store or not (known is None or same):
                return False, []
            return super().store_message_and_object_tree(message, object_tree, session_id)

    def get_messages_legacy(
        self,
        *,
        run_ids: Sequence[int] | None = None,
        is_reply: bool | None = None,
        limit: int | None = None,
    ) -> Sequence[Message]:
        """Return messages as Flower does, but no reply before all of it is there."""
        if is_reply and not self._whole_replies():
            self.get_task_by_token("")  # looks for tasks whose processes send no heartbeat any more
            return []
        return super().get_messages_legacy(run_ids=run_ids, is_reply=is_reply, limit=limit)

    def delete_messages(self, *, message_ids: Sequence[str] | None = None) -> None:
        """Forget messages (without ids all) with the replies to them, and all their parts."""
        with self.lock_msg_store:
            stored = [entry.message.metadata for entry in self.msg_store.values()]
            ids = {m.message_id for m in stored} if message_ids is None else set(message_ids)
            ids |= {m.message_id for m in stored if m.reply_to_message_id in ids}
            super().delete_messages(message_ids=list(ids))
        for message_id in ids:
            self.object_store.delete(message_id)

    def finish_task(self, task_id: int, sub_status: str, details: str) -> bool:
        """Finish a task, and answer its message if its process has not."""
        finished = super().finish_task(task_id, sub_status, details)
        if finished:
            self._answer(task_id)
        return finished

    def _on_task_tokens_expired(self, tasks: list[Any]) -> None:
        # Flower would answer all messages of the run, among them one that a living process has.
        for task in tasks:
            if task.type == TaskType.CLIENT_APP:
                self._answer(task.task_id)
        super()._on_task_tokens_expired([t for t in tasks if t.type != TaskType.CLIENT_APP])

    def _answer(self, task_id: int) -> None:
        """See to it that the message of a task that is over has one whole reply."""
        message_id = self._messages.pop(task_id, None)
        with self._lock_object_push_sessions, self.lock_msg_store:
            entry = self.msg_store.get(message_id or "")
            if entry is None:  # its reply is sent
                return
            message = entry.message
            reply = self._reply_to(message.metadata.message_id)
            if reply is not None:
                if self._is_whole(reply):
                    return
                self.delete_messages(message_ids=[reply.metadata.message_id])
            entry.is_retrieved = True  # no other process must be given it
            self._store_crash(message)

    def _store_crash(self, message: Message) -> None:
        error = Message(CLIENT_APP_CRASHED_ERROR, reply_to=message)
        error.metadata.__dict__["_message_id"] = error.object_id
        self._store_generated_message(error)
        if message.metadata.message_id not in self.time_store:
            self.record_message_processing_start(message.metadata.message_id)
        self.record_message_processing_end(message.metadata.message_id)
        self.store_message(error)

    def _reply_to(self, message_id: str) -> Message | None:
        """Return the reply to a message that is here, whole or not."""
        replies = (entry.message for entry in self.msg_store.values())
        return next((r for r in replies if r.metadata.reply_to_message_id == message_id), None)

    def _whole_replies(self) -> bool:
        with self.lock_msg_store:
            stored = [entry.message for entry in self.msg_store.values()]
            replies = [message for message in stored if message.metadata.reply_to_message_id]
            return bool(replies) and all(map(self._is_whole, replies))

    def _is_whole(self, reply: Message) -> bool:
        store = self.object_store
        tree = store.get_object_tree(reply.metadata.message_id)
        return all(store.get(part.object_id) for part in iterate_object_tree(tree))
