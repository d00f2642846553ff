"""What this machine has beside CPUs: GPUs, programs, and whether it is enough for a simulation."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from fedrsclip_core.config.schema import FederationConfig
from fedrsclip_core.errors import ConfigError, RunError
from fedrsclip_core.machine import available_cpus, available_memory

CLIENT_BYTES, SERVER_BYTES = 600 * 2**20, 1000 * 2**20
"""Resident memory as measured on Linux with torch for CPUs: of a simulated client without its
CLIP's weights, and of SuperLink, Ray's own processes and the ServerApp together."""


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


def clients_at_once(federation: FederationConfig) -> int:
    """Return how many simulated clients compute at the same time.

    As many as there are, as CPUs and GPUs allow; memory bounds them, too, but what a client needs
    of it is the model's matter.
    """
    bounds = [federation.num_clients, available_cpus() // federation.client_cpus]
    if federation.client_gpus >= 1:
        bounds.append(available_gpus() // int(federation.client_gpus))
    elif federation.client_gpus > 0:
        bounds.append(available_gpus() * int(1 / federation.client_gpus))
    return max(1, min(bounds))


def check_memory(federation: FederationConfig, weights: int) -> str:
    """Say whether the memory is enough for the clients that compute at once.

    Parameters
    ----------
    federation : FederationConfig
        The clients.
    weights : int
        Bytes of the CLIP's weights.

    Returns
    -------
    str
        How much they need at least, and how much there is; empty where nothing is known.

    Raises
    ------
    ConfigError
        If not even one client fits.
    """
    left = available_memory()
    if left is None:
        return ""
    each = CLIENT_BYTES + weights
    fit = (left - SERVER_BYTES) // each
    at_once = clients_at_once(federation)
    shown = f"{left / 2**30:.1f} GiB of memory are free, a client takes {each / 2**30:.1f} or more"
    if fit < 1:
        raise ConfigError(
            f"{shown}: not one fits beside the server; free some, or use a smaller CLIP"
        )
    if fit < at_once:
        cpus = -(-available_cpus() // fit)
        return f"{shown}: they fit {fit} of these, set federation.client_cpus={cpus}"
    return shown


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
