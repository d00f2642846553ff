"""A Flower grid whose nodes are answered by several processes at a time, here or on a cluster."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Condition, Lock, Thread
from typing import NamedTuple, Protocol

from flwr.app import Message

from fedrsclip.flower_internals import from_bytes, give_id, to_bytes
from fedrsclip.simulation.grid import NodeConfig, SimulatedGrid, failed
from server_app.flower_internals import ErrorCode

_TRIES = 2
"""How often a message is given to a process: its process may have died of something else."""
_ENDED_WITHIN = 10.0
_NEXT_START = 1.0


class Process(Protocol):
    """Answers one message at a time."""

    def answer(self, message: bytes, node_config: NodeConfig) -> bytes:
        """Have a message answered; an :class:`OSError` or :class:`EOFError` if it has died."""

    def alive(self) -> bool:
        """Whether it could answer."""

    def kill(self) -> None:
        """End it at once, from another thread."""

    def buried(self) -> str:
        """Wait for the end of one that dies, and say how it ended."""


class _Sent(NamedTuple):
    """A message that waits for a process; who sent it waits until ``expires``."""

    message_id: str
    node: int
    data: bytes
    expires: float
    tries: int = 1


class _Reply(NamedTuple):
    """A reply that waits to be pulled."""

    data: bytes
    expires: float


class ParallelGrid(SimulatedGrid):
    """Hands messages to client processes; what a node costs does not depend on how many there are.

    A node's messages go to the same process, which has its images open, unless that one is busy
    and another is not. A process that dies is replaced, and its message tried once more. A message
    that has expired before a process was free is dropped, as is a reply that nobody waits for.

    Parameters
    ----------
    node_configs : Sequence[Mapping[str, UserConfigValue]]
        One node configuration per node.
    starts : Sequence[Callable[[], Process]]
        For each process a function that starts it and returns when it is there; an
        :class:`OSError` or :class:`EOFError` if it cannot now.
    run_id : int
        Flower's run id.
    tell : Callable[[str], None]
        Is told, in the thread that pulls replies, of a process that died.
    """

    def __init__(
        self,
        node_configs: Sequence[NodeConfig],
        starts: Sequence[Callable[[], Process]],
        *,
        run_id: int,
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(node_configs, run_id=run_id)
        self._node_configs, self._tell = node_configs, tell
        self._queues: list[deque[_Sent]] = [deque() for _ in starts]
        self._replies: dict[str, _Reply] = {}
        self._news: list[str] = []
        self._processes: dict[int, Process] = {}
        self._idle: set[int] = set()
        self._lock = Lock()
        self._work, self._answers = Condition(self._lock), Condition(self._lock)
        self._arrived = self._ended = False
        self._threads = [
            Thread(target=self._serve, args=(number, start), daemon=True)
            for number, start in enumerate(starts)
        ]
        for thread in self._threads:
            thread.start()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages and return the ids to pull by."""
        ids, now = [], time.monotonic()
        for message in messages:
            ids.append(give_id(message))
            node = message.metadata.dst_node_id - self._node_ids.start
            sent = _Sent(ids[-1], node, to_bytes(message), now + message.metadata.ttl)
            with self._lock:
                self._queues[node % len(self._queues)].append(sent)
                self._work.notify_all()
        with self._lock:
            self._replies = {i: reply for i, reply in self._replies.items() if reply.expires > now}
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to ``message_ids`` that are there, each once."""
        with self._lock:
            found = [self._replies.pop(name) for name in message_ids if name in self._replies]
            news, self._news = self._news, []
        for line in news:
            self._tell(line)
        return [from_bytes(reply.data) for reply in found]

    def wait(self, seconds: float) -> None:
        """Wait until a reply has come since the last call, at most some seconds."""
        with self._lock:
            self._answers.wait_for(lambda: self._arrived, seconds)
            self._arrived = False

    def end(self) -> None:
        """End the processes at once.

        One that is still being started is ended when it is there, or finds nobody there: that may
        take seconds, for which nobody need wait.
        """
        with self._lock:
            self._ended = True
            for process in self._processes.values():
                process.kill()
            awaited = [self._threads[number] for number in self._processes]
            self._work.notify_all()
        deadline = time.monotonic() + _ENDED_WITHIN
        for thread in awaited:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _serve(self, number: int, start: Callable[[], Process]) -> None:
        """Start a process, have it answer messages, and when it dies start another."""
        while not self._ended:
            try:
                process = start()
            except (OSError, EOFError) as error:
                self._not_started(str(error))
                continue
            with self._lock:
                self._processes[number] = process
                if self._ended:
                    process.kill()
            sent = self._answer_until_it_dies(number, process)
            how = process.buried()
            with self._lock:
                del self._processes[number]
            if sent is not None:
                self._lost(number, sent, how)

    def _answer_until_it_dies(self, number: int, process: Process) -> _Sent | None:
        """Return the message that was not answered; ``None`` if the run is over."""
        while (sent := self._next(number)) is not None:
            if sent.tries > 1 and not process.alive():
                # It died beside the one that was lost, as with their machine, and is no try.
                return sent._replace(tries=sent.tries - 1)
            try:
                reply = process.answer(sent.data, self._node_configs[sent.node])
            except (OSError, EOFError):
                return sent
            with self._lock:
                self._idle.add(number)  # before who waits for the reply can send the next message
                self._keep(sent, reply)
        return None

    def _next(self, number: int) -> _Sent | None:
        """Wait for the next message that has not expired; ``None`` if the run is over."""
        with self._lock:
            self._idle.add(number)
            while True:
                self._work.wait_for(lambda: self._ended or self._queue_for(number))
                if self._ended:
                    return None
                queue = self._queue_for(number)
                sent = queue.popleft() if queue is self._queues[number] else queue.pop()
                if sent.expires > time.monotonic():
                    self._idle.remove(number)
                    self._work.notify_all()  # what else waits for this process, another may take
                    return sent

    def _queue_for(self, number: int) -> deque[_Sent]:
        """Return the process's own queue, or the longest of one that is busy; perhaps an empty."""
        own = self._queues[number]
        busy = (queue for n, queue in enumerate(self._queues) if n not in self._idle)
        return own or max(busy, key=len, default=own)

    def _keep(self, sent: _Sent, reply: bytes) -> None:
        self._replies[sent.message_id] = _Reply(reply, sent.expires)
        self._arrived = True
        self._answers.notify_all()

    def _lost(self, number: int, sent: _Sent, how: str) -> None:
        """Put the message of a process that died back, or give it up."""
        again = sent.tries < _TRIES
        with self._lock:
            self._news.append(
                f"{how}; client {sent.node} {'is asked again' if again else 'is given up'}"
            )
            if again:
                self._queues[number].appendleft(sent._replace(tries=sent.tries + 1))
                self._work.notify_all()
        if not again:
            self._give_up(sent, how)

    def _not_started(self, why: str) -> None:
        """Let the others go on; without any, nobody need wait for what was sent."""
        with self._lock:
            left = [] if self._processes else [sent for queue in self._queues for sent in queue]
            for queue in self._queues if left else ():
                queue.clear()
            if left:
                self._news.append(f"no client process can be started: {why}")
        for sent in left:
            self._give_up(sent, why)
        with self._lock:
            self._work.wait_for(lambda: self._ended, _NEXT_START)

    def _give_up(self, sent: _Sent, why: str) -> None:
        reply = to_bytes(failed(from_bytes(sent.data), ErrorCode.CLIENT_APP_CRASHED, why))
        with self._lock:
            self._keep(sent, reply)
