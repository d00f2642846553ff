"""What this machine has: CPUs, and the optional package that a run may ask for."""

import os
from importlib.metadata import PackageNotFoundError, version

from fedrsclip_core.config.schema import RunConfig
from fedrsclip_core.errors import ConfigError


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
