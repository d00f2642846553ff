"""A Flower grid whose nodes are answered by several processes at a time, here or on a cluster."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Condition, Thread
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

    def kill(self) -> None:
        """End it at once, from another thread."""

    def buried(self) -> str:
        """Say how one ended that has died."""


class _Sent(NamedTuple):
    """A message that waits for a process."""

    message_id: str
    node: int
    data: bytes
    tries: int = 1


class ParallelGrid(SimulatedGrid):
    """Hands messages to client processes; what a node costs does not depend on how many there are.

    A node's messages go to the same process, which has its images open, unless that one is busy
    and another is not. A process that dies is replaced, and its message tried once more.

    Parameters
    ----------
    node_configs : Sequence[Mapping[str, UserConfigValue]]
        One node configuration per node.
    starts : Sequence[Callable[[], Process]]
        For each process a function that starts it and returns when it is there; an
        :class:`OSError` or :class:`EOFError` if it cannot now.
    run_id : int
        Flower's run id.
    echo : Callable[[str], None]
        Is told, in another thread, of a process that died.
    """

    def __init__(
        self,
        node_configs: Sequence[NodeConfig],
        starts: Sequence[Callable[[], Process]],
        *,
        run_id: int,
        echo: Callable[[str], None],
    ) -> None:
        super().__init__(node_configs, run_id=run_id)
        self._node_configs, self._echo = node_configs, echo
        self._queues: list[deque[_Sent]] = [deque() for _ in starts]
        self._replies: dict[str, bytes] = {}
        self._processes: dict[int, Process] = {}
        self._starting = len(starts)
        self._changed = Condition()
        self._arrived = self._ended = False
        self._threads = [
            Thread(target=self._serve, args=(number, start), daemon=True)
            for number, start in enumerate(starts)
        ]
        for thread in self._threads:
            thread.start()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages and return the ids to pull by."""
        ids = []
        for message in messages:
            ids.append(give_id(message))
            node = message.metadata.dst_node_id - self._node_ids.start
            sent = _Sent(ids[-1], node, to_bytes(message))
            with self._changed:
                self._queues[node % len(self._queues)].append(sent)
                self._changed.notify_all()
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to ``message_ids`` that are there, each once."""
        with self._changed:
            found = [self._replies.pop(name) for name in message_ids if name in self._replies]
        return [from_bytes(data) for data in found]

    def wait(self, seconds: float) -> None:
        """Wait until a reply has come since the last call, at most some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived, seconds)
            self._arrived = False

    def end(self) -> None:
        """End the processes at once."""
        with self._changed:
            self._ended = True
            for process in self._processes.values():
                process.kill()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_ENDED_WITHIN)

    def _serve(self, number: int, start: Callable[[], Process]) -> None:
        while not self._ended:
            try:
                process = start()
            except (OSError, EOFError) as error:
                self._not_started(str(error))
                continue
            with self._changed:
                self._starting -= 1
                self._processes[number] = process
                if self._ended:
                    process.kill()
            while (sent := self._next(number)) is not None:
                try:
                    self._answer(sent, process.answer(sent.data, self._node_configs[sent.node]))
                except (OSError, EOFError):
                    with self._changed:
                        self._starting += 1
                        del self._processes[number]
                    self._lost(number, sent, process.buried())
                    break

    def _next(self, number: int) -> _Sent | None:
        """Wait for the next message: of an own node, else of the process with the most to do."""
        with self._changed:
            while not self._ended:
                if self._queues[number]:
                    return self._queues[number].popleft()
                if longest := max(self._queues, key=len):
                    return longest.pop()
                self._changed.wait()
            return None

    def _answer(self, sent: _Sent, reply: bytes) -> None:
        with self._changed:
            self._replies[sent.message_id] = reply
            self._arrived = True
            self._changed.notify_all()

    def _lost(self, number: int, sent: _Sent, how: str) -> None:
        """Put the message of a process that died back, or give it up."""
        if self._ended:
            return
        again = sent.tries < _TRIES
        self._echo(f"{how}; client {sent.node} {'is asked again' if again else 'is given up'}")
        if not again:
            self._give_up(sent, how)
            return
        with self._changed:
            self._queues[number].appendleft(sent._replace(tries=sent.tries + 1))
            self._changed.notify_all()

    def _not_started(self, why: str) -> None:
        """Let the others go on; without any, nobody need wait for what was sent."""
        with self._changed:
            left = [] if self._processes else [sent for queue in self._queues for sent in queue]
            for queue in self._queues if left else ():
                queue.clear()
        for sent in left:
            self._give_up(sent, why)
        if left:
            self._echo(f"no client process can be started: {why}")
        with self._changed:
            self._changed.wait_for(lambda: self._ended, _NEXT_START)

    def _give_up(self, sent: _Sent, why: str) -> None:
        message = from_bytes(sent.data)
        self._answer(sent, to_bytes(failed(message, ErrorCode.CLIENT_APP_CRASHED, why)))
