"""The tensors of a CLIP: in which files they are, read by name, and their digest.

Training needs the text tower only, and of its embedding table only the rows of the class names:
just those tensors are read from a safetensors file.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.clip.folder_files import read_object, require_content
from fedrsclip_core.errors import ModelError
from fedrsclip_core.runs.fileio import sha256_of

if TYPE_CHECKING:
    import torch

_WHOLE = ("model.safetensors", "pytorch_model.bin")
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN_ROWS = "text_model.embeddings.token_embedding.weight"
_HASHING_THREADS = 2
_DAMAGED = re.compile("invalid load key|truncated|stack underflow|Unsupported operand")
"""What PyTorch says of a pickle that is none."""
_FLOATS = (
    *("F64", "F32", "F16", "BF16"),
    *("torch.float64", "torch.float32", "torch.float16", "torch.bfloat16"),
)
"""Types of tensors as safetensors and PyTorch call them."""

_ATTENTION = tuple(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out"))
LAYER_PARTS = ("layer_norm1", *_ATTENTION, "layer_norm2", "mlp.fc1", "mlp.fc2")
"""What a layer of either tower consists of, each with a weight and a bias."""


def text_tensor_names(num_layers: int) -> list[str]:
    """Return the names of the text tower's tensors, all but the table of token embeddings."""
    return [
        *_layers("text_model", num_layers),
        *_affine("text_model.final_layer_norm"),
        "text_model.embeddings.position_embedding.weight",
        "text_projection.weight",
        "logit_scale",
    ]


def vision_tensor_names(num_layers: int) -> list[str]:
    """Return the names of the image tower's tensors."""
    return [
        *_layers("vision_model", num_layers),
        *_affine("vision_model.pre_layrnorm"),  # the typing error is transformers'
        *_affine("vision_model.post_layernorm"),
        "vision_model.embeddings.class_embedding",
        "vision_model.embeddings.patch_embedding.weight",
        "vision_model.embeddings.position_embedding.weight",
        "visual_projection.weight",
    ]


def tensor_shapes(
    text: Mapping[str, Any], vision: Mapping[str, Any], dim: int
) -> dict[str, tuple[int, ...]]:
    """Return the shapes, by name, of all tensors that are computed with.

    Parameters
    ----------
    text, vision : Mapping[str, Any]
        Sizes of the towers as ``config.json`` has them.
    dim : int
        The projection's size.
    """
    names = [*text_tensor_names(text["num_hidden_layers"]), _TOKEN_ROWS]
    shapes = {name: _shape(name, text, dim) for name in names}
    names = vision_tensor_names(vision["num_hidden_layers"])
    return shapes | {name: _shape(name, vision, dim) for name in names}


def _shape(name: str, tower: Mapping[str, Any], dim: int) -> tuple[int, ...]:
    width, inner = tower["hidden_size"], tower["intermediate_size"]
    if name == "logit_scale":
        return ()
    if name.endswith("_projection.weight"):
        return dim, width
    part, _, kind = name.rpartition(".")
    match part.rpartition(".")[2]:
        case "token_embedding":
            return tower["vocab_size"], width
        case "position_embedding" if "max_position_embeddings" in tower:
            return tower["max_position_embeddings"], width
        case "position_embedding":
            return (tower["image_size"] // tower["patch_size"]) ** 2 + 1, width
        case "patch_embedding":
            return width, tower["num_channels"], tower["patch_size"], tower["patch_size"]
        case "fc1":
            return (inner, width) if kind == "weight" else (inner,)
        case "fc2":
            return (width, inner) if kind == "weight" else (width,)
        case last if last.endswith("_proj") and kind == "weight":
            return width, width
    return (width,)


def _layers(tower: str, count: int) -> list[str]:
    parts = (f"{tower}.encoder.layers.{i}.{part}" for i in range(count) for part in LAYER_PARTS)
    return [name for part in parts for name in _affine(part)]


def _affine(name: str) -> list[str]:
    return [f"{name}.weight", f"{name}.bias"]


def weight_files(folder: Path) -> list[Path]:
    """Return the files with the weights, safetensors before PyTorch's own, whole before sharded.

    Raises
    ------
    ModelError
        If there are none, or one is missing or only a git-LFS pointer.
    """
    for name in _WHOLE:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            found = [folder / name]
        elif index.is_file():
            found = [folder / shard for shard in _shards(index)]
        else:
            continue
        break
    else:
        found = [folder / _WHOLE[0]]
    for file in found:
        if not file.is_file():
            raise ModelError(f"model folder {folder} lacks the weights {file.name}")
        try:
            require_content(file)
        except OSError as error:
            raise unreadable(folder, error) from error
    return found


def _shards(index: Path) -> list[str]:
    shards = read_object(index).get("weight_map")
    names = list(shards.values()) if isinstance(shards, dict) else []
    if not names or not all(isinstance(name, str) and _SHARD.fullmatch(name) for name in names):
        raise ModelError(f"{index} does not map the weights to files beside it: copy it again")
    return sorted(set(names))


def read_tensors(folder: Path, names: Iterable[str]) -> "dict[str, torch.Tensor]":
    """Read just the named tensors from a model folder.

    Raises
    ------
    ModelError
        If the files are damaged or a tensor is missing.
    """
    wanted = set(names)
    found: dict[str, torch.Tensor] = {}
    others: set[str] = set()
    with _reading(folder):
        for file in weight_files(folder):
            held, tensors = _open(file, wanted)
            others |= held
            found |= tensors
    _require(folder, wanted - found.keys(), others)
    return found


def load_token_rows(folder: Path, ids: Sequence[int]) -> NDArray[np.float32]:
    """Read the token embeddings of ``ids``, ``(len(ids), width)``, and nothing else.

    Raises
    ------
    ModelError
        If the files are damaged or have no such rows.
    """
    from safetensors import safe_open

    with _reading(folder):
        for file in weight_files(folder):
            if file.suffix == ".bin":
                continue
            with safe_open(file, framework="pt") as opened:
                if _TOKEN_ROWS in opened.keys():  # noqa: SIM118 - a safetensors file is no mapping
                    table = opened.get_slice(_TOKEN_ROWS)
                    _require_rows(folder, ids, table.get_shape()[0])
                    return np.concatenate([table[i : i + 1].float().numpy() for i in ids])
    rows = read_tensors(folder, [_TOKEN_ROWS])[_TOKEN_ROWS]
    _require_rows(folder, ids, len(rows))
    return np.asarray(rows[list(ids)].float().numpy())


def digest_of_tensors(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return a sha256 over the values of the named tensors, whatever files hold them, and how.

    A tensor in float16 or bfloat16 has the digest of the same values in float32, for that is what
    is computed with; other tensors of the files do not count.

    Raises
    ------
    ModelError
        If the files are damaged, or a tensor is missing, of another shape or type.
    """
    found: dict[str, str] = {}
    others: set[str] = set()
    # Hashing leaves the lock of Python.
    with _reading(folder), ThreadPoolExecutor(_HASHING_THREADS) as pool:
        for file in weight_files(folder):
            held, digests = _digests(file, shapes, pool)
            others |= held
            found |= digests
    _require(folder, shapes.keys() - found.keys(), others)
    return sha256_of(*(part for item in sorted(found.items()) for part in item))


def _digests(
    file: Path, shapes: Mapping[str, tuple[int, ...]], pool: Executor
) -> tuple[set[str], dict[str, str]]:
    """Return the names of a file's tensors and the digests of the wanted ones."""
    from safetensors import safe_open

    if file.suffix != ".bin":
        with safe_open(file, framework="numpy") as opened:  # importing PyTorch takes seconds
            held = set(opened.keys())
            chosen = sorted(shapes.keys() & held)
            slices = {name: opened.get_slice(name) for name in chosen}
            dtypes = {name: one.get_dtype() for name, one in slices.items()}
            _require_floats(file, dtypes)
            _require_shapes(file, {n: one.get_shape() for n, one in slices.items()}, shapes)
            if "BF16" not in dtypes.values():  # which numpy does not have
                hashed = pool.map(lambda name: _digest_of(opened.get_tensor(name)), chosen)
                return held, dict(zip(chosen, hashed, strict=True))
    held, tensors = _open(file, shapes.keys())
    _require_floats(file, {name: str(tensor.dtype) for name, tensor in tensors.items()})
    _require_shapes(file, {name: tensor.shape for name, tensor in tensors.items()}, shapes)
    hashed = pool.map(_digest_of, map(_as_numpy, tensors.values()))
    return held, dict(zip(tensors, hashed, strict=True))


def unreadable(folder: Path, error: Exception) -> ModelError:
    """Say that a model folder's weights are damaged."""
    return ModelError(f"the weights in {folder} cannot be read ({error}): copy them again")


def unpicklable(what: str, error: Exception) -> ModelError:
    """Say that a pickle is damaged, or would make more than tensors."""
    if _DAMAGED.search(str(error)):
        return ModelError(f"{what} cannot be read, it is damaged or no file of weights")
    return ModelError(
        f"{what} holds more than tensors, so reading it could run code of its author: it is "
        "refused; take a safetensors file of the same model or, where you trust it, save its state "
        "dict alone (torch.save(model.state_dict(), ...))"
    )


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turn what the readers of weights raise into a sentence."""
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    try:
        yield
    except UnpicklingError as error:
        raise unpicklable(f"a file of weights in {folder}", error) from error
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise unreadable(folder, error) from error


def _open(file: Path, wanted: Set[str]) -> "tuple[set[str], dict[str, torch.Tensor]]":
    """Return the names of a file's tensors, and the wanted ones; their bytes are mapped."""
    import torch
    from safetensors import safe_open

    if file.suffix == ".bin":
        # Files of before PyTorch 1.6 are no archives and cannot be mapped.
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
        if not isinstance(state, Mapping):
            raise ModelError(f"{file} holds no tensors by name: copy it again")
        tensors = {n: state[n] for n in wanted & state.keys() if torch.is_tensor(state[n])}
        return {str(name) for name in state}, tensors
    with safe_open(file, framework="pt") as opened:
        held = set(opened.keys())
        return held, {name: opened.get_tensor(name) for name in wanted & held}


def _require(folder: Path, missing: Set[str], held: Set[str]) -> None:
    if not missing:
        return
    first = sorted(missing)[0]
    if any(name.startswith(("visual.", "module.visual.")) for name in held):
        raise ModelError(
            f"the tensors in {folder} have OpenCLIP's names, not those of a HuggingFace CLIPModel: "
            f"fedrsclip model convert {folder} out=<folder> makes one"
        )
    wrapped = next((n for n in sorted(held) if n.endswith(f".{first}")), None)
    if wrapped is not None:
        raise ModelError(
            f"the tensors in {folder} have {wrapped.removesuffix(first)!r} before their names: "
            f"fedrsclip model convert {folder} out=<folder> takes it off"
        )
    for tower, what in (("vision_model.", "image"), ("text_model.", "text")):
        if not any(name.startswith(tower) for name in held):
            raise ModelError(
                f"the weights in {folder} lack {first}: they have no {what} tower, this is not a "
                "CLIPModel"
            )
    raise ModelError(f"the weights in {folder} lack {first}: this is not a CLIPModel")


def _require_rows(folder: Path, ids: Sequence[int], rows: int) -> None:
    if max(ids) >= rows:
        raise ModelError(
            f"the tokenizer in {folder} has a token {max(ids)} but the weights have embeddings of "
            f"{rows}: the files are not of one CLIP"
        )


def _require_floats(file: Path, dtypes: Mapping[str, str]) -> None:
    for name, dtype in dtypes.items():
        if dtype not in _FLOATS:
            raise ModelError(
                f"the weights {file} have {name} as {dtype.removeprefix('torch.')}: save them as "
                "float32, float16 or bfloat16"
            )


def _require_shapes(
    file: Path, held: Mapping[str, Sequence[int]], wanted: Mapping[str, tuple[int, ...]]
) -> None:
    for name, shape in held.items():
        if tuple(shape) != wanted[name] and not (name == "logit_scale" and list(shape) == [1]):
            found, said = (" x ".join(map(str, sides)) for sides in (shape, wanted[name]))
            raise ModelError(
                f"the weights {file} have {name} of {found or 'one number'}, config.json says "
                f"{said or 'one number'}: the files are not of one CLIP"
            )


def _as_numpy(tensor: "torch.Tensor") -> NDArray[np.floating]:
    import torch

    values = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return np.asarray(values.numpy())


def _digest_of(tensor: NDArray[np.floating]) -> str:
    # Float64 stays what it is: not all that is computed from it is computed from float32 first.
    values = np.ascontiguousarray(tensor, dtype=np.promote_types(tensor.dtype, np.float32))
    return hashlib.sha256(values.reshape(-1).view(np.uint8).data).hexdigest()
