"""The tensors of a TorchScript archive, read without running the code in it.

OpenAI publishes its CLIPs as TorchScript: a zip archive with a program and its data. Loading one
with ``torch.jit.load`` compiles and may run that program. Here nothing of it is loaded: the data's
pickle is walked by an unpickler that knows three harmless things (an empty object for each module,
a description of each tensor, the ordered dictionary) and refuses every other name.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrsclip_core.errors import ModelError

if TYPE_CHECKING:
    import torch

_STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
}
_DEEPEST = 32


class _Module:
    """Stands for a module of the archive's program: attributes and nothing else."""


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    size: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def is_archive(file: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as opened:
        return any(name.endswith("/constants.pkl") for name in opened.namelist())


def uses_quick_gelu(file: Path) -> bool:
    """Whether the archive's program has a module QuickGELU, as OpenAI's have."""
    with zipfile.ZipFile(file) as opened:
        code = [name for name in opened.namelist() if "/code/" in name and name.endswith(".py")]
        return any("QuickGELU" in name or b"QuickGELU" in opened.read(name) for name in code)


def read_archive(file: Path) -> "dict[str, torch.Tensor]":
    """Return the parameters and buffers of a TorchScript archive by name.

    Raises
    ------
    ModelError
        If it holds more than modules and tensors, or is damaged.
    """
    try:
        with zipfile.ZipFile(file) as opened:
            data = next(name for name in opened.namelist() if name.endswith("/data.pkl"))
            with opened.open(data) as stream:
                root = _Unpickler(stream).load()
            folder = f"{data.removesuffix('data.pkl')}data/"
            return {name: _values(opened, folder, one) for name, one in _walk(root, "", 0)}
    except (
        *(zipfile.BadZipFile, OSError, StopIteration, EOFError, RuntimeError, pickle.PickleError),
        *(LookupError, ValueError, TypeError, AttributeError, RecursionError, MemoryError),
        ArithmeticError,
    ) as error:
        raise ModelError(
            f"{file} is a TorchScript archive whose tensors cannot be read without running its "
            f"code ({error}): take a state dict or a safetensors file of the same model"
        ) from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _described
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size = pid
        if kind != "storage" or not isinstance(key, str) or dtype not in _STORAGES.values():
            raise pickle.UnpicklingError("it names data of an unknown kind")
        return _Storage(key, dtype, int(size))


def _described(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


def _walk(value: Any, name: str, depth: int) -> Iterator[tuple[str, _Tensor]]:
    if depth > _DEEPEST:
        raise ValueError("its modules are nested too deeply")
    if isinstance(value, _Tensor):
        yield name, value
    elif isinstance(value, _Module):
        for key, inner in vars(value).items():
            yield from _walk(inner, f"{name}.{key}" if name else key, depth + 1)


def _values(opened: zipfile.ZipFile, folder: str, tensor: _Tensor) -> "torch.Tensor":
    import torch

    storage = tensor.storage
    dtype = getattr(torch, storage.dtype)
    entry = opened.getinfo(folder + storage.key)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError("its tensors are compressed")
    if entry.file_size != storage.size * dtype.itemsize:
        raise ValueError(f"it has {entry.file_size} bytes for {storage.size} numbers")
    data = bytearray(opened.read(entry))
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    # as_strided itself refuses what lies outside of the storage.
    strided = flat.as_strided(tensor.shape, tensor.stride, tensor.offset)
    return strided.clone(memory_format=torch.contiguous_format)
