"""Client processes on a Ray cluster, replaced when they or their machine die."""

import threading
import time
from collections.abc import Callable
from typing import Any

from fedrsclip_core.errors import RunError

_PAUSE = 0.1


class NobodyLeftError(RunError):
    """No process is there to compute for a client."""


class Crew:
    """Processes of which each computes for one client at a time; for many threads.

    Parameters
    ----------
    start : Callable[[], Any]
        Lets Ray start one as an actor, where there is room, if need be later.
    size : int
        How many there are to be.
    patience : float
        Seconds for which nobody may be there.
    """

    def __init__(self, start: Callable[[], Any], size: int, patience: float) -> None:
        self._start, self._patience = start, patience
        self._lock = threading.Lock()
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy = 0
        for _ in range(size):
            self._begin()

    def take(self) -> Any:
        """Wait for one that is idle.

        Raises
        ------
        NobodyLeftError
            If there is nobody, and nobody comes.
        """
        alone_since = time.monotonic()
        while True:
            with self._lock:
                self._welcome()
                if self._idle:
                    self._busy += 1
                    return self._idle.pop()
                if self._busy:
                    alone_since = time.monotonic()
            if time.monotonic() - alone_since > self._patience:
                raise NobodyLeftError(
                    "no node of the Ray cluster has had room for a client's process for "
                    f"{self._patience:.0f} s"
                )
            time.sleep(_PAUSE)

    def give_back(self, one: Any) -> None:
        """Take back one that has computed."""
        with self._lock:
            self._busy -= 1
            self._idle.append(one)

    def replace(self, one: Any) -> None:
        """Let another be started for one that has died, or is not heard of."""
        import ray

        ray.kill(one)
        with self._lock:
            self._busy -= 1
            self._begin()

    def _begin(self) -> None:
        one = self._start()
        self._starting[one.__ray_ready__.remote()] = one

    def _welcome(self) -> None:
        """Note who has been started, or has died before that."""
        import ray

        if not self._starting:
            return
        refs = list(self._starting)
        for ref in ray.wait(refs, num_returns=len(refs), timeout=0)[0]:
            one = self._starting.pop(ref)
            try:
                ray.get(ref)
            except ray.exceptions.RayError:
                self._begin()
            else:
                self._idle.append(one)
