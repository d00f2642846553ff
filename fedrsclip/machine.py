"""What this machine has beside CPUs: GPUs, programs, and whether it is enough for a simulation."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from fedrsclip_core.config.schema import FLOWER, LOCAL, Config, FederationConfig
from fedrsclip_core.errors import ConfigError, RunError
from fedrsclip_core.machine import available_cpus, available_memory

_MEMORY = {LOCAL: (300 * 2**20, 250 * 2**20), FLOWER: (600 * 2**20, 1000 * 2**20)}
"""Bytes by engine, as measured on Linux with torch for CPUs: of a client process without its CLIP's
weights, and of the rest: the command and its fork server, whose pages clients share, or SuperLink,
Ray's own processes and the ServerApp."""

_BFLOAT16 = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}
"""Flags of processors that compute in it: AVX-512, AMX, AVX2's newest, ARM."""
_AVX512 = "avx512bw"


def available_gpus() -> int:
    """Return how many CUDA devices torch sees."""
    import torch

    return torch.cuda.device_count()


def visible_gpus() -> list[str]:
    """Return the names in ``CUDA_VISIBLE_DEVICES`` of the CUDA devices that torch sees."""
    count, given = available_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",")[:count] if given else [str(number) for number in range(count)]


def check_resources(federation: FederationConfig) -> None:
    """Refuse a simulation whose clients would never get what they ask for.

    What a Ray cluster has is asked there.

    Raises
    ------
    ConfigError
        Naming the key and what the machine has.
    """
    if federation.ray_address is None:
        _check_this_machine(federation)
    device = federation.device or ""
    if device.startswith("cuda") and federation.client_gpus == 0:
        raise ConfigError(
            f"federation.device is {device} but federation.client_gpus is 0, which hides the GPU "
            "from simulated clients: set federation.client_gpus, e.g. to 0.25"
        )


def _check_this_machine(federation: FederationConfig) -> None:
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


def client_devices(federation: FederationConfig) -> list[str]:
    """Return ``CUDA_VISIBLE_DEVICES`` of each client process that computes at the same time.

    Empty hides all GPUs, as Ray does from clients that have no share of one.
    """
    count, share = clients_at_once(federation), max(1, int(federation.client_gpus))
    if not federation.client_gpus:
        return [""] * count
    devices = visible_gpus()
    groups = [",".join(devices[k : k + share]) for k in range(0, len(devices) - share + 1, share)]
    return [groups[k % len(groups)] for k in range(count)]


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
    client, rest = _MEMORY[federation.engine]
    each = client + weights
    fit = (left - rest) // each
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


def cpu_line(*keys: str) -> str:
    """Return what Linux says of this processor under the first key that it knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(keys))
    return next(found, "")


def cpu_flags() -> set[str]:
    """Return what this processor can do, in Linux's words; empty where it is not known."""
    return set(cpu_line("flags", "Features").split())


def has_bfloat16() -> bool:
    """Whether this processor is known to compute in bfloat16."""
    return not _BFLOAT16.isdisjoint(cpu_flags())


def slow_bfloat16(config: Config, *, site: bool = False) -> str:
    """Say that a run is to compute in bfloat16 on a CPU that cannot; empty otherwise.

    Parameters
    ----------
    config : Config
        The run's, with this machine's site keys.
    site : bool
        Whether this machine is one site of it, which takes a GPU by itself.
    """
    federation, flags = config.federation, cpu_flags()
    gpu = federation.client_gpus > 0 or (site and available_gpus() > 0)
    on_cpu = (federation.device or ("cuda" if gpu else "cpu")) == "cpu"
    if config.model.dtype != "bfloat16" or not on_cpu or not flags or has_bfloat16():
        return ""
    # Matrix products of torch 2.13, one thread, held to AVX-512 and AVX2: 1.1 to 1.3 and 70 to 100
    # times the seconds of float32.
    slow = "no faster than" if _AVX512 in flags else "many times slower than"
    return (
        "model.dtype is bfloat16 but this CPU has no instructions for it (AVX-512 bfloat16 or "
        f"AMX): it is {slow} float32 here"
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
