"""Processes that answer simulated clients' messages.

They are forked by :mod:`multiprocessing`'s fork server, which has imported torch and the ClientApp
once for all of them and computes nothing.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

from fedrsclip.flower_internals import become_server, from_bytes, to_bytes
from fedrsclip.simulation.grid import NodeConfig, answered, new_context

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PRELOADED = "fedrsclip.simulation.preload"
_CONTEXT = get_context("forkserver")


@dataclass(frozen=True)
class Place:
    """Where clients compute.

    Attributes
    ----------
    environment : Mapping[str, str]
        Added to that of the process.
    log : Path
        Takes what the process prints.
    """

    environment: Mapping[str, str]
    log: Path


class ClientProcess:
    """A process that answers one message at a time; it ends with the process that started it.

    Parameters
    ----------
    place : Place
        Where it computes.
    run_id : int
        Flower's run id.

    Raises
    ------
    OSError, EOFError
        If none can be forked.
    """

    def __init__(self, place: Place, run_id: int) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        with theirs:
            self._process = _CONTEXT.Process(
                target=serve, args=(theirs, place, run_id), daemon=True
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

    def buried(self) -> int | None:
        """Wait for the end of a process that dies, and return its exit code."""
        self._process.join()
        self._connection.close()
        return self._process.exitcode


def warm_up() -> None:
    """Start the fork server, which takes seconds to import torch, and do not wait for it."""
    _CONTEXT.set_forkserver_preload([_PRELOADED])
    with _one_thread():
        forkserver.ensure_running()


def serve(connection: Connection, place: Place, run_id: int) -> None:
    """Answer messages until nobody sends any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this
    Thread(target=_end_with_parent, daemon=True).start()
    _print_to(place.log)
    os.environ.update(place.environment)
    become_server(run_id)
    # Not at the top: the process that starts this one needs no torch.
    from client_app.app import app

    while True:
        try:
            data, node_config = connection.recv()
        except EOFError:
            return
        message = from_bytes(data)
        context = new_context(message.metadata.dst_node_id, node_config, run_id)
        connection.send_bytes(to_bytes(answered(app, message, context)))


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
