"""Processes of this machine that answer simulated clients' messages."""

import os
import signal
from collections.abc import Mapping
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

from fedrsclip.simulation.fork_server import CONTEXT, start_fork_server
from fedrsclip.simulation.grid import Handlers, NodeConfig

_DIES_WITHIN = 5.0


class ClientProcess:
    """A process that answers one message at a time; it ends with the process that started it.

    Parameters
    ----------
    environment : Mapping[str, str]
        Added to its own.
    log : Path
        Takes what it prints.
    run_id : int
        Flower's run id.

    Raises
    ------
    OSError, EOFError
        If none can be forked.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, run_id: int) -> None:
        start_fork_server()
        self._connection, theirs = CONTEXT.Pipe()
        with theirs:
            self._process = CONTEXT.Process(
                target=serve, args=(theirs, environment, log, run_id), daemon=True
            )
            try:
                self._process.start()
            except BaseException:
                self._connection.close()
                raise

    def answer(self, message: bytes, node_config: NodeConfig) -> bytes:
        """Have a message answered; both are as Flower sends them.

        Raises
        ------
        OSError, EOFError
            If the process has died.
        """
        self._connection.send((message, dict(node_config)))
        return self._connection.recv_bytes()

    def alive(self) -> bool:
        """Whether it has not died."""
        return self._process.is_alive()

    def kill(self) -> None:
        """End it at once: what it has written is whole at any moment."""
        self._process.kill()

    def buried(self) -> str:
        """Wait for the end of a process that dies, and say how it ended."""
        self._process.join(_DIES_WITHIN)
        if self._process.is_alive():  # it has lost its connection and nothing else
            self._process.kill()
            self._process.join()
        self._connection.close()
        if self._process.exitcode == -signal.SIGKILL:
            return "a client process was ended by SIGKILL, as by a system whose memory is full"
        return f"a client process ended with exit code {self._process.exitcode}"


def serve(connection: Connection, environment: Mapping[str, str], log: Path, run_id: int) -> None:
    """Answer messages until nobody sends any more."""
    Thread(target=_end_with_parent, daemon=True).start()
    _print_to(log)
    os.environ.update(environment)
    handlers = Handlers(run_id)
    while True:
        try:
            data, node_config = connection.recv()
        except EOFError:
            return
        connection.send_bytes(handlers.answer(data, node_config))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _print_to(log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
