"""Images prepared one by one in threads, and batches of them encoded side by side, in order.

A tower's matrices are small: one that is shared out among threads has them wait for each other at
every layer, and beside other programs that takes many times as long as the work itself. So on CPUs
several batches are encoded at once, each by few threads. On a GPU there are two, so that one is
brought there and started while the other is computed.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from fedrsclip_core.machine import available_cpus

_S = TypeVar("_S")
_T = TypeVar("_T")

_MOST_AT_ONCE = 8
"""Batches that are encoded at once at most: each takes as much memory as one alone."""
_ON_A_GPU = 2


@contextmanager
def shared_out(device: str) -> Iterator[int]:
    """Give the number of batches that are encoded at once, and each its share of torch's threads.

    On CPUs, torch has fewer threads in this process until the end. All batches together take no
    more CPUs than this process may use, and no more than ``OMP_NUM_THREADS``, by which a simulation
    tells each client its share.

    Parameters
    ----------
    device : str
        Torch's name of where the tower is.
    """
    import torch

    if device != "cpu":
        yield _ON_A_GPU
        return
    before = torch.get_num_threads()
    each = math.ceil(before / _MOST_AT_ONCE)
    said = os.environ.get("OMP_NUM_THREADS", "")
    cpus = min(available_cpus(), int(said)) if said.isdecimal() else available_cpus()
    torch.set_num_threads(each)
    try:
        yield max(1, min(cpus // each, _MOST_AT_ONCE))
    finally:
        torch.set_num_threads(before)


@contextmanager
def image_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads; what none of them has begun is left undone at the end."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="images")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(
    pool: Executor, work: Callable[[_S], _T], batches: Iterable[Sequence[_S]]
) -> Iterator[list[tuple[_S, Future[_T]]]]:
    """Yield each batch's items with their futures, in order, once the next batch was submitted.

    Not more than two batches are under way, so what waits in memory is bounded. What ``work``
    raises shows when the caller asks for that item's result.

    Parameters
    ----------
    pool : Executor
        Where the work is done.
    work : Callable[[S], T]
        What to do with an item.
    batches : Iterable[Sequence[S]]
        The items; drawn in the caller's own thread.
    """
    submitted: list[tuple[_S, Future[_T]]] | None = None
    for batch in batches:
        following = [(item, pool.submit(work, item)) for item in batch]
        if submitted is not None:
            yield submitted
        submitted = following
    if submitted is not None:
        yield submitted


def in_order(
    pool: Executor, work: Callable[[_S], _T], items: Iterable[_S], waiting: int
) -> Iterator[_T]:
    """Yield what ``work`` makes of each item, in order, or raise what it raised.

    Parameters
    ----------
    pool : Executor
        Where the work is done.
    work : Callable[[S], T]
        What to do with an item.
    items : Iterable[S]
        Drawn in the caller's own thread.
    waiting : int
        How many items may be under way or done when one is taken.
    """
    submitted: deque[Future[_T]] = deque()
    for item in items:
        submitted.append(pool.submit(work, item))
        if len(submitted) > waiting:
            yield submitted.popleft().result()
    while submitted:
        yield submitted.popleft().result()
