"""What the server takes from inside Flower, so that another Flower is this file's work.

Flower keeps ``flwr.app``, ``flwr.serverapp`` and ``flwr.clientapp`` stable, and nothing else. Each
thing assumed here has a test in ``tests/unit/server/test_flower_internals.py``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType
from flwr.supercore.exit import add_exit_handler
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.run import Run
from httpx import HTTPError

__all__ = [
    "ErrorCode",
    "Run",
    "TransportError",
    "bound_pulls",
    "called_at_exit",
    "is_simulation",
    "sent_objects",
]

_AT_EXIT: list[Callable[[], None]] = []
"""The process's: what to call if Flower ends it."""

TransportError = HTTPError
"""What the grid raises where the SuperLink cannot be asked."""


def is_simulation(grid: Grid) -> bool:
    """Return whether the nodes of ``grid`` are simulated."""
    return bool(grid.run.primary_task_type == TaskType.SIMULATION)


@contextmanager
def called_at_exit(function: Callable[[], None]) -> Iterator[None]:
    """Let Flower call ``function`` if it ends this process meanwhile, for example at `flwr stop`.

    In a simulation the app is not in the main thread: a signal would never arrive there.
    """
    _add_exit_handler()
    _AT_EXIT.append(function)
    try:
        yield
    finally:
        _AT_EXIT.remove(function)


@cache
def _add_exit_handler() -> None:
    """Register once for all runs of this process: Flower keeps a handler for ever.

    Called before Flower's timer that ends the process by force, because it may take long.
    """
    add_exit_handler(_call_all, run_before_force_exit=True)


def _call_all() -> None:
    for function in tuple(_AT_EXIT):
        function()


def bound_pulls(seconds: float, longest_pause: float) -> None:
    """Let Flower wait some seconds, not two hours, for the rest of a reply.

    A reply is announced before its parts are sent: of a client that dies in between they never
    come, and the whole round would wait for them. Flower has no setting for this.
    """
    defaults = pull_objects.__kwdefaults__ or {}
    defaults |= {"max_time": seconds, "backoff_cap": longest_pause}


def sent_objects(message: Message) -> list[bytes]:
    """Return what Flower sends for a message: all its objects, each once."""
    # Otherwise each level's id is a digest of all below it, computed again for each level above.
    with no_object_id_recompute():
        return [part.deflate() for part in get_all_nested_objects(message).values()]
