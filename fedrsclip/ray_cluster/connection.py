"""Joining a Ray cluster that is there already."""

import logging
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedrsclip_core.errors import ConfigError, RunError

AUTO = "auto"

_REACHED_WITHIN = 10.0
_LOOK_EVERY, _LOST_AFTER = 5.0, 30.0


@contextmanager
def connected(given: str, key: str) -> Iterator[None]:
    """Be connected with a Ray cluster; this command's processes there end with the connection.

    Parameters
    ----------
    given : str
        ``host:port``, or ``auto`` for ``RAY_ADDRESS`` or the cluster that `ray start` made here.
    key : str
        Of the configuration, which says so.

    Raises
    ------
    ConfigError, RunError
        If it is no address, there is no cluster, or it cannot be joined.
    """
    import ray

    address = _started_here(key) if given == AUTO else given
    _check_reached(address, key)
    try:
        with warnings.catch_warnings(), _own_signals():
            warnings.simplefilter("ignore", FutureWarning)  # on what a later Ray will do
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RunError(
            f"{key} is {address}: no Ray cluster could be joined there ({reason}); make one with "
            "`ray start --head`, and start this command on one of its machines"
        ) from error
    try:
        with _Watch(address, key):
            yield
    finally:
        ray.shutdown()


class _Watch:
    """Interrupts the main thread, as Ctrl-C does, when nobody answers at an address any more.

    Ray waits a minute for a head that is gone and then ends this process where it stands, without
    a word of ours. The interrupt leaves as a :class:`RunError`.
    """

    def __init__(self, address: str, key: str) -> None:
        self._address, self._key = address, key
        self._over, self._lost = threading.Event(), False
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        if self._lost and kind is KeyboardInterrupt:
            raise RunError(
                f"nobody has answered at {self._address}, the Ray cluster that {self._key} names, "
                f"for {_LOST_AFTER:.0f} s: what was under way can be resumed, on another or without"
            ) from None

    def _look(self) -> None:
        heard = time.monotonic()
        while not self._over.wait(_LOOK_EVERY):
            if not _unreached(self._address):
                heard = time.monotonic()
            elif time.monotonic() - heard >= _LOST_AFTER and not self._over.is_set():
                self._lost = True
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return


@contextmanager
def _own_signals() -> Iterator[None]:
    """Take back what Ray does to SIGTERM: commands end by it as by Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _started_here(key: str) -> str:
    """Find a cluster as Ray does, but for those of simulations, which are nobody else's."""
    if (named := os.environ.get("RAY_ADDRESS")) and named != AUTO:
        return named
    try:
        left = Path(os.environ.get("RAY_TMPDIR") or "/tmp", "ray", "ray_current_cluster")
        return left.read_text(encoding="utf-8").strip()
    except OSError:
        raise RunError(
            "no Ray cluster was started on this machine: make one with `ray start --head`, or "
            f"name another by {key}=<host>:<port>"
        ) from None


def _check_reached(address: str, key: str) -> None:
    """Ray itself waits for minutes for who does not answer."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"{key} is {address}: give auto, or host:port of a Ray cluster")
    if error := _unreached(address):
        raise RunError(
            f"{key} is {address}: nobody answers there ({error}); make a cluster with "
            "`ray start --head`, which says its address"
        )


def _unreached(address: str) -> str:
    """Say why nobody answers at an address; empty if somebody does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _REACHED_WITHIN).close()
    except (OSError, OverflowError) as error:
        return str(error)
    return ""
