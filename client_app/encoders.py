"""The frozen CLIP's two sides, loaded once per process, and the device they run on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from client_app.failures import DeviceError
from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.config.site_keys import DEVICE
from fedrsclip_core.errors import ConfigError, FedRSCLIPError, ModelError

if TYPE_CHECKING:
    from fedrsclip_core.clip.image_encoder import ImageEncoder
    from fedrsclip_core.clip.text_model import TextModel


def pick_device(wanted: str | None) -> str:
    """Return the torch device to use: the one asked for, else CUDA if there is one, else the CPU.

    Raises
    ------
    ConfigError
        If ``wanted`` is no device's name.
    DeviceError
        If it is not there.
    """
    import torch

    if wanted is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if missing := missing_device(wanted):
        raise DeviceError(
            f"{missing}: set another device in the node configuration or FEDRSCLIP_DEVICE, or in a "
            "simulation give clients a share by federation.client_gpus"
        )
    return wanted


def missing_device(wanted: str) -> str:
    """Return what is missing for a device to be used here; empty if it is there.

    Raises
    ------
    ConfigError
        If ``wanted`` is no device's name.
    """
    import torch

    named = DEVICE.fullmatch(wanted)
    if named is None:
        raise ConfigError(f"device is {wanted!r}: choose cpu, cuda, cuda:<n> or mps")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted.startswith("cuda") and int(named[1] or 0) >= found:
        return f"device is {wanted} but torch sees {found} CUDA devices"
    if wanted == "mps" and not torch.backends.mps.is_available():
        return "device is mps but torch has none here"
    return ""


def limit_gpu_memory(device: str, share: float) -> None:
    """Let this process take at most a part of a CUDA device's memory, in (0, 1].

    More is torch's error "out of memory", as on a smaller device.
    """
    import torch

    if device.startswith("cuda"):
        torch.cuda.set_per_process_memory_fraction(share, torch.device(device).index)


def make_repeatable(threads: int) -> None:
    """Fix what gives other bits from run to run: torch's threads, and a GPU's free choices.

    On a GPU only kernels are chosen that add up in a fixed order, where there are such; torch
    warns of others. It must be called before the first matrix product there.
    """
    import torch

    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def release_image_encoder() -> None:
    """Give back the image tower's memory: training needs features only."""
    image_encoder.cache_clear()


@contextmanager
def model_errors() -> Iterator[None]:
    """Turn whatever damaged files provoke in the libraries that read them into a ModelError."""
    try:
        yield
    except FedRSCLIPError:
        raise
    except Exception as error:
        raise ModelError(
            f"the CLIP's files cannot be read ({type(error).__name__}: {error}): copy them again"
        ) from error


@lru_cache(maxsize=1)
def image_encoder(files: ClipFiles, device: str) -> "ImageEncoder":
    """Load the image side, or return the one that is loaded.

    Raises
    ------
    ModelError
        If the files cannot be read.
    """
    from fedrsclip_core.clip.image_encoder import ImageEncoder

    with model_errors():
        return ImageEncoder(files, device)


@lru_cache(maxsize=2)
def text_model(
    files: ClipFiles, words: tuple[str, ...], n_ctx: int, templates: tuple[str, ...], device: str
) -> "TextModel":
    """Load the text side for these classes, or return one that is loaded.

    Raises
    ------
    ConfigError
        If a prompt is too long for the text encoder.
    ModelError
        If the files cannot be read.
    """
    from fedrsclip_core.clip.text_model import load_text_model

    with model_errors():
        return load_text_model(files, words, n_ctx, templates, device)
