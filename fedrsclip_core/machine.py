"""What this machine has: CPUs, memory, and the optional package that a run may ask for."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fedrsclip_core.config.schema import RunConfig
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.quotas import cpu_quota, memory_left


def available_cpus() -> int:
    """Return how many CPUs this process may use: those that it is bound to, within its quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    there = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = cpu_quota()
    return there if quota is None else max(1, min(there, int(quota)))


def available_memory() -> int | None:
    """Return the bytes of memory that are free for this process; ``None`` where none can tell."""
    found = [left for left in (_free_memory(), memory_left()) if left is not None]
    return min(found, default=None)


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(values[0]) if values else None


def check_tensorboard(run: RunConfig) -> None:
    """Refuse to write for TensorBoard where its package, an optional one, is missing.

    Raises
    ------
    ConfigError
        Naming the key and the command that helps.
    """
    if not run.tensorboard:
        return
    try:
        version("tensorboard")
    except PackageNotFoundError:
        raise ConfigError(
            "run.tensorboard is true but the package tensorboard is not installed at the server: "
            "pip install 'fedrsclip[tensorboard]' there, or leave it false"
        ) from None
