"""In which precision shared tensors travel: the prompt as float32, class offsets also in less.

int8 is symmetric with one scale for each row, the row's largest absolute value over 127, which
travels as an array of its own. Whoever receives works with float32 again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.shared_tensors import (
    NAMES,
    OFFSETS,
    Shapes,
    SharedTensors,
    num_numbers,
)
from fedrsclip_core.errors import WireError
from fedrsclip_core.runs.units import size

WIRE_NAMES = (*NAMES, *(f"{name}_scale" for name in OFFSETS))
"""The names of all arrays that may travel."""

_LEVELS = 127


@dataclass(frozen=True)
class Described:
    """What an array must be."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of its numbers."""
        return np.dtype(self.dtype).itemsize * prod(self.shape)


def described(shapes: Shapes, offsets_dtype: str) -> dict[str, Described]:
    """Say which arrays carry tensors of these shapes, in the order in which they travel.

    Parameters
    ----------
    shapes : Shapes
        Of the shared tensors.
    offsets_dtype : str
        ``prompt.shared_offsets_dtype``.
    """
    arrays: dict[str, Described] = {}
    for name, shape in shapes.items():
        arrays[name] = Described(_dtype_of(name, offsets_dtype), shape)
        if arrays[name].dtype == "int8":
            arrays[f"{name}_scale"] = Described("float32", shape[:1])
    return arrays


def encoded(shared: SharedTensors, offsets_dtype: str) -> dict[str, NDArray[Any]]:
    """Return the arrays that carry the tensors.

    Raises
    ------
    WireError
        If a number is too large for float16.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in shared.items():
        arrays |= _encoded(name, np.asarray(tensor, np.float32), _dtype_of(name, offsets_dtype))
    return arrays


def decoded(arrays: Mapping[str, NDArray[Any]], shapes: Shapes) -> dict[str, NDArray[np.float32]]:
    """Return the float32 tensors that arrays carry.

    Parameters
    ----------
    arrays : Mapping[str, NDArray]
        As :func:`described` says.
    shapes : Shapes
        Of the shared tensors.

    Raises
    ------
    WireError
        If a number or a scale is not finite, or a scale is negative.
    """
    tensors = {name: _decoded(name, arrays[name], arrays.get(f"{name}_scale")) for name in shapes}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise WireError(f"{name} holds NaN or infinity")
    return tensors


def num_bytes(shapes: Shapes, offsets_dtype: str) -> int:
    """Count the bytes of what travels each way, without those of its message."""
    return sum(array.num_bytes for array in described(shapes, offsets_dtype).values())


def what_travels(shapes: Shapes, offsets_dtype: str) -> str:
    """Say it in a line for a person."""
    if not shapes:
        return "nothing is shared"
    listed = ", ".join(_listed(shapes, offsets_dtype))
    total = f"{num_numbers(shapes):,} numbers, {size(num_bytes(shapes, offsets_dtype))}"
    return f"shared each way per client and round: {listed} = {total}"


def _listed(shapes: Shapes, offsets_dtype: str) -> Iterator[str]:
    for name, (rows, columns) in shapes.items():
        dtype = _dtype_of(name, offsets_dtype)
        yield f"{name} {rows} x {columns}" + ("" if dtype == "float32" else f" as {dtype}")


def _dtype_of(name: str, offsets_dtype: str) -> str:
    return offsets_dtype if name in OFFSETS else "float32"


def _encoded(name: str, tensor: NDArray[np.float32], dtype: str) -> dict[str, NDArray[Any]]:
    if dtype == "int8":
        scale = np.abs(tensor).max(axis=1, initial=0.0) / np.float32(_LEVELS)  # (rows,)
        divisor = np.where(scale > 0, scale, 1)[:, None]
        levels = np.clip(np.rint(tensor / divisor), -_LEVELS, _LEVELS)
        return {name: levels.astype(np.int8), f"{name}_scale": scale}
    with np.errstate(over="ignore"):
        array = tensor.astype(dtype)
    if np.isfinite(tensor).all() and not np.isfinite(array).all():
        raise WireError(
            f"{name} holds {np.abs(tensor).max():.3g}, which is too large for {dtype}: set "
            "prompt.shared_offsets_dtype to float32 or int8, or lower optimizer.lr"
        )
    return {name: array}


def _decoded(
    name: str, array: NDArray[Any], scale: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    if scale is None:
        return array.astype(np.float32)
    if not (np.isfinite(scale).all() and (scale >= 0).all()):
        raise WireError(f"{name}_scale holds a negative number, NaN or infinity")
    with np.errstate(over="ignore"):
        return array.astype(np.float32) * scale[:, None]
