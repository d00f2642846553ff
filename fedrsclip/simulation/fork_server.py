"""The process from which client processes are forked: :mod:`multiprocessing`'s fork server.

It has imported torch and the ClientApp once for all of them and computes nothing. This module
imports little, so that a command can start it before it imports the rest itself.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, resource_tracker
from pathlib import Path
from threading import Lock

from fedrsclip_core.errors import RunError

CONTEXT = get_context("forkserver")
_PRELOADED = "fedrsclip.simulation.preload"
_SAFE_PATH = "PYTHONSAFEPATH"
_NOT_THEIRS = {signal.SIGINT, signal.SIGHUP}
_STARTING = Lock()


def start_fork_server() -> None:
    """Start it unless it runs, and do not wait for it: to import torch takes seconds.

    Raises
    ------
    RunError
        Where no client process can be forked.
    """
    _check_folder()
    with _STARTING, _safe_path():
        CONTEXT.set_forkserver_preload([_PRELOADED])
        resource_tracker.ensure_running()  # it unblocks signals
        try:
            with _blocked():
                forkserver.ensure_running()
        except RuntimeError:  # in a client process, whose first act it is to import the script
            raise RunError(
                "a client process imports the script that has started the run, which starts one "
                "where it is imported: put what it does below if __name__ == '__main__':"
            ) from None


def _check_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise RunError("the current folder is gone: change to one that is there") from None


@contextmanager
def _safe_path() -> Iterator[None]:
    """Have Python import nothing from the current folder, where anything may lie."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


@contextmanager
def _blocked() -> Iterator[None]:
    """Have what is started never see what a terminal sends to all processes of a command.

    The command itself ends them; until they ignored a Ctrl-C, they would show where it hit them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_THEIRS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
