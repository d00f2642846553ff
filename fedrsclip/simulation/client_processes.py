"""Processes that answer simulated clients' messages.

They are forked by :mod:`multiprocessing`'s fork server, which has imported torch and the ClientApp
once for all of them and computes nothing.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

from fedrsclip.simulation.grid import Handlers, NodeConfig

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PRELOADED = "fedrsclip.simulation.preload"
_CONTEXT = get_context("forkserver")


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
        self._connection, theirs = _CONTEXT.Pipe()
        with theirs:
            self._process = _CONTEXT.Process(
                target=serve, args=(theirs, environment, log, run_id), daemon=True
            )
            self._process.start()

    def answer(self, message: bytes, node_config: NodeConfig) -> bytes:
        """Have a message answered; both are as Flower sends them.

        Raises
        ------
        OSError, EOFError
            If the process has died.
        """
        self._connection.send((message, dict(node_config)))
        return self._connection.recv_bytes()

    def kill(self) -> None:
        """End it at once: what it has written is whole at any moment."""
        self._process.kill()

    def buried(self) -> str:
        """Wait for the end of a process that dies, and say how it ended."""
        self._process.join()
        self._connection.close()
        return f"a client process ended with exit code {self._process.exitcode}"


def warm_up() -> None:
    """Start the fork server, which takes seconds to import torch, and do not wait for it."""
    _CONTEXT.set_forkserver_preload([_PRELOADED])
    with _one_thread():
        forkserver.ensure_running()


def serve(connection: Connection, environment: Mapping[str, str], log: Path, run_id: int) -> None:
    """Answer messages until nobody sends any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this
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


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have libraries compute in one thread where they are loaded meanwhile, as in Ray's clients."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
