"""Work on the next batch in threads while the caller is busy with this one."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

_T = TypeVar("_T")


def ahead(
    pool: Executor, work: Callable[[int], _T], batches: Iterable[list[int]]
) -> Iterator[dict[int, Future[_T]]]:
    """Yield each batch's futures by item, in order, once the next batch was submitted.

    Not more than two batches are under way, so what waits in memory is bounded. What ``work``
    raises shows when the caller asks for that item's result.

    Parameters
    ----------
    pool : Executor
        Where the work is done.
    work : Callable[[int], T]
        What to do with an item.
    batches : Iterable[list[int]]
        The items; drawn in the caller's own thread.
    """
    submitted: dict[int, Future[_T]] | None = None
    for batch in batches:
        following = {item: pool.submit(work, item) for item in batch}
        if submitted is not None:
            yield submitted
        submitted = following
    if submitted is not None:
        yield submitted
