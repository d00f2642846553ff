"""A Flower grid whose nodes are answered by several processes of this machine at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Condition, Thread
from typing import NamedTuple

from flwr.app import Message

from fedrsclip.flower_internals import from_bytes, give_id, to_bytes
from fedrsclip.simulation.client_processes import ClientProcess, Place
from fedrsclip.simulation.grid import NodeConfig, SimulatedGrid, failed
from server_app.flower_internals import ErrorCode

_ENDED_WITHIN = 10.0


class _Sent(NamedTuple):
    """A message that waits for a process."""

    message_id: str
    node: int
    data: bytes


class ParallelGrid(SimulatedGrid):
    """Hands messages to client processes; what a node costs does not depend on how many there are.

    A node's messages go to the same process, which has its images open, unless that one is busy
    and another is not. A process that dies costs its message and is replaced.

    Parameters
    ----------
    node_configs : Sequence[Mapping[str, UserConfigValue]]
        One node configuration per node.
    places : Sequence[Place]
        Where to compute, a process each.
    run_id : int
        Flower's run id.
    echo : Callable[[str], None]
        Is told, in another thread, of a process that died.
    """

    def __init__(
        self,
        node_configs: Sequence[NodeConfig],
        places: Sequence[Place],
        *,
        run_id: int,
        echo: Callable[[str], None],
    ) -> None:
        super().__init__(node_configs, run_id=run_id)
        self._node_configs, self._run_id, self._echo = node_configs, run_id, echo
        self._queues: list[deque[_Sent]] = [deque() for _ in places]
        self._replies: dict[str, bytes] = {}
        self._processes: dict[int, ClientProcess] = {}
        self._changed = Condition()
        self._arrived = self._ended = False
        self._threads = [
            Thread(target=self._serve, args=(number, place), daemon=True)
            for number, place in enumerate(places)
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

    def _serve(self, number: int, place: Place) -> None:
        while (sent := self._next(number)) is not None:
            try:
                reply = self._process(number, place).answer(
                    sent.data, self._node_configs[sent.node]
                )
            except (OSError, EOFError):
                reply = self._unanswered(number, sent)
            with self._changed:
                self._replies[sent.message_id] = reply
                self._arrived = True
                self._changed.notify_all()

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

    def _process(self, number: int, place: Place) -> ClientProcess:
        if number not in self._processes:
            started = ClientProcess(place, self._run_id)
            with self._changed:
                self._processes[number] = started
                if self._ended:
                    started.kill()
        return self._processes[number]

    def _unanswered(self, number: int, sent: _Sent) -> bytes:
        """Reply for a process that has died, or that could not be forked."""
        process = self._processes.pop(number, None)
        how = f"ended with exit code {process.buried()}" if process else "could not be forked"
        if not self._ended:
            self._echo(f"the process of client {sent.node} {how}")
        return to_bytes(failed(from_bytes(sent.data), ErrorCode.CLIENT_APP_CRASHED, how))
