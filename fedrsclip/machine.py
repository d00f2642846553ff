"""What this machine has beside CPUs: GPUs, programs, and whether it is enough for a simulation."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from fedrsclip_core.config.schema import FederationConfig
from fedrsclip_core.errors import ConfigError, RunError
from fedrsclip_core.machine import available_cpus


def available_gpus() -> int:
    """Return how many CUDA devices torch sees."""
    import torch

    return torch.cuda.device_count()


def check_resources(federation: FederationConfig) -> None:
    """Refuse a simulation whose clients would never get what they ask for.

    Raises
    ------
    ConfigError
        Naming the key and what the machine has.
    """
    cpus = available_cpus()
    if federation.client_cpus > cpus:
        raise ConfigError(
            f"federation.client_cpus is {federation.client_cpus} but this machine has {cpus} "
            f"CPUs: set it to {cpus} or less"
        )
    if federation.client_gpus > 0:
        gpus = available_gpus()
        if federation.client_gpus > gpus:
            has = f"{gpus} CUDA devices" if gpus else "no CUDA device"
            raise ConfigError(
                f"federation.client_gpus is {federation.client_gpus:g} but this machine has "
                f"{has}: set it to {'less' if gpus else '0'}"
            )
    device = federation.device or ""
    if device.startswith("cuda") and federation.client_gpus == 0:
        raise ConfigError(
            f"federation.device is {device} but federation.client_gpus is 0, which hides the GPU "
            "from simulated clients: set federation.client_gpus, e.g. to 0.25"
        )


def script_folders() -> str:
    """Return a PATH that begins with the folders of this Python's programs."""
    folders = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    return os.pathsep.join([*dict.fromkeys(folders), os.environ.get("PATH", os.defpath)])


def program(name: str) -> str:
    """Return the path of a program that belongs to this Python.

    Raises
    ------
    RunError
        If it is not installed.
    """
    found = shutil.which(name, path=script_folders())
    if found is None:
        raise RunError(
            f"the program {name} is not installed beside {sys.executable}: install fedrsclip "
            "there with pip (uv installs no dependencies of this project)"
        )
    return found
