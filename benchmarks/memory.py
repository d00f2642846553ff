"""Memory of processes, from /proc: proportional set size counts shared pages once among them."""

import resource
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from fedrsclip.run.processes import process_table

_EVERY = 2.0
"""Seconds; to read it walks a process's page table, which would slow down what is measured."""


def pss_mib(pid: int) -> float:
    """Return a process's proportional set size; 0 if it has gone."""
    return _rollup_kib(pid, "Pss:") / 1024


def rss_mib(pid: int) -> float:
    """Return a process's resident set size; 0 if it has gone."""
    return _rollup_kib(pid, "Rss:") / 1024


def peak_rss_mib() -> float:
    """Return the largest resident set that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class MemoryWatch:
    """Adds up, again and again, the PSS of all processes that have a variable in common.

    Parameters
    ----------
    variable : str
        ``NAME=value`` in their environment.

    Attributes
    ----------
    peak_mib : float
        The largest sum so far.
    now_mib : float
        The last sum.
    """

    def __init__(self, variable: str) -> None:
        self._mark = variable.encode()
        self._known: dict[int, bool] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_mib = 0.0
        self.now_mib = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY):
            pids = list(process_table())
            self.now_mib = sum(pss_mib(pid) for pid in pids if self._is_ours(pid))
            self.peak_mib = max(self.peak_mib, self.now_mib)

    def _is_ours(self, pid: int) -> bool:
        if not self._known.get(pid):
            # Asked again: a process that was just forked has its parent's environment.
            try:
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                variables = []
            self._known[pid] = self._mark in variables
        return self._known[pid]


def _rollup_kib(pid: int, key: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)
