"""What is converted: a file of weights, a folder, or a model of the hub that has a preset."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrsclip.model.archive import is_archive, read_archive, uses_quick_gelu
from fedrsclip_core.clip.folder_files import read_object, require_content
from fedrsclip_core.clip.weights import unpicklable
from fedrsclip_core.errors import ModelError

if TYPE_CHECKING:
    import torch

OPENCLIP_CONFIG = "open_clip_config.json"
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_PREFERRED = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    *("model.safetensors", "pytorch_model.bin"),
)
_WRAPPERS = ("state_dict", "model", "model_state_dict")


@dataclass(frozen=True)
class Source:
    """A model as it was found.

    Attributes
    ----------
    file : Path
        Whose weights are read.
    tensors : dict[str, torch.Tensor]
        By the names that they have there.
    openclip : Mapping[str, Any] or None
        Content of ``open_clip_config.json`` beside the file.
    huggingface : Mapping[str, Any] or None
        Content of ``config.json`` beside the file, if it is a CLIP's.
    quick_gelu_program : bool
        Whether the file is a program that uses QuickGELU.
    """

    file: Path
    tensors: "dict[str, torch.Tensor]" = field(repr=False)
    openclip: Mapping[str, Any] | None = None
    huggingface: Mapping[str, Any] | None = None
    quick_gelu_program: bool = False

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self.file.parent


def read_source(place: Path) -> Source:
    """Read a file of weights, or that of a folder.

    Raises
    ------
    ModelError
        If there is none, more than one, or it cannot be read without running code.
    """
    file = _weights(place) if place.is_dir() else place
    if not file.is_file():
        raise ModelError(f"there is no file {file} to convert")
    if file.suffix not in _SUFFIXES:
        raise ModelError(
            f"{file} is no file of weights that can be converted ({', '.join(_SUFFIXES)})"
        )
    try:
        require_content(file)
        archive = is_archive(file)
        tensors = read_archive(file) if archive else _read(file)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    # What lies beside one file of several, in a folder of downloads, need not be about it.
    alone = place.is_dir() or file.name in _PREFERRED
    openclip = _beside(file, OPENCLIP_CONFIG) if alone else None
    config = _beside(file, "config.json") if alone else None
    is_clip = config is not None and config.get("model_type") == "clip"
    return Source(
        file,
        tensors,
        openclip,
        config if is_clip else None,
        archive and uses_quick_gelu(file),
    )


def _weights(folder: Path) -> Path:
    for name in _PREFERRED:
        if (folder / name).is_file():
            return folder / name
    found = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES)
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(file.name for file in found[:4])
        raise ModelError(
            f"{folder} has several files of weights ({shown}): name the one to convert"
        )
    if any(folder.glob("*.index.json")):
        raise ModelError(
            f"{folder} has sharded weights: save them as one model.safetensors to convert them"
        )
    raise ModelError(f"{folder} has no file of weights ({', '.join(_SUFFIXES)})")


def _beside(file: Path, name: str) -> dict[str, Any] | None:
    try:
        return read_object(file.parent / name)
    except FileNotFoundError:
        return None


def _read(file: Path) -> "dict[str, torch.Tensor]":
    held = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    return _tensors(file, held)


def _read_safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise _damaged(file, error) from error


def _read_pickle(file: Path) -> Any:
    from pickle import UnpicklingError
    from zipfile import is_zipfile

    import torch

    try:
        # weights_only: tensors and plain containers are made, nothing else of the file is.
        return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
    except UnpicklingError as error:
        raise unpicklable(str(file), error) from error
    except (RuntimeError, ValueError, EOFError, LookupError, TypeError) as error:
        raise _damaged(file, error) from error


def _tensors(file: Path, held: Any) -> "dict[str, torch.Tensor]":
    """Return the state dict inside of what a file holds."""
    import torch

    for _ in range(len(_WRAPPERS)):
        inner = [name for name in _WRAPPERS if isinstance(held, Mapping) and name in held]
        if not inner or not isinstance(held[inner[0]], Mapping):
            break
        held = held[inner[0]]
    if not isinstance(held, Mapping):
        raise ModelError(f"{file} holds no tensors by name")
    tensors = {str(name): value for name, value in held.items() if torch.is_tensor(value)}
    if not tensors:
        shown = ", ".join(str(name) for name in list(held)[:4])
        raise ModelError(f"{file} holds no tensors by name, but {shown or 'nothing'}")
    return tensors


def _damaged(file: Path, error: Exception) -> ModelError:
    first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return ModelError(f"{file} cannot be read ({first}): copy it again")
