"""A tower's kernels on a GPU, recorded once and then started together.

Started one by one they take longer than they run, and between two of them Python's lock is given
away: threads that decode images hold it most of the time, and the GPU waits for its next kernel.
"""

from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor


class Recorded:
    """A function of a batch, recorded as a CUDA graph for batches of one length; for threads, too.

    That is the length that comes twice in a row first; others go kernel by kernel.

    Parameters
    ----------
    function : Callable[[Tensor], Tensor]
        On one GPU and its default stream, without gradients.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self._lock = Lock()
        self._before = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: Tensor
        self._found: Tensor

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the function's value; the graph has the bits of its kernels."""
        with self._lock:
            if self._graph is None and len(batch) == self._before:
                self._record(batch)
            self._before = len(batch)
            if self._graph is None or batch.shape != self._given.shape:
                return self._function(batch)
            self._given.copy_(batch)
            self._graph.replay()
            return self._found.clone()

    def _record(self, batch: Tensor) -> None:
        self._given = batch.clone()
        # What libraries set up for each thread that uses them cannot be recorded.
        self._function(self._given)
        # Other threads go on meanwhile.
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._found = self._function(self._given)
        self._graph = graph
