"""What the machine can do: the rate of a matrix product, and floating-point operations counted."""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def seconds_of(action: Callable[[], object], device: str) -> float:
    """Return the seconds of an action, to the end of all that it has started on the device."""

    def synchronize() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    synchronize()
    begin = time.perf_counter()
    action()
    synchronize()
    return time.perf_counter() - begin


def gemm_size(device: str) -> int:
    """Return the rows of the square matrices: a GPU needs more to be busy."""
    return 1024 if device == "cpu" else 8192


def gflops_of_product(device: str) -> float:
    """Return the operations of one product of :func:`multiplier`, in 10^9."""
    return 2 * gemm_size(device) ** 3 / 1e9


def multiplier(dtype: str, device: str) -> Callable[[], float]:
    """Return a function that multiplies two square matrices and says how long it took."""
    size = gemm_size(device)
    left, right = (torch.randn(size, size).to(device, getattr(torch, dtype)) for _ in range(2))
    return lambda: seconds_of(lambda: torch.mm(left, right), device)


def gflop(action: Callable[[], object]) -> float:
    """Count the floating-point operations of an action, in 10^9."""
    with FlopCounterMode(display=False) as counter:
        action()
    return float(counter.get_total_flops()) / 1e9
