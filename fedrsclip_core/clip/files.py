"""A frozen HuggingFace CLIP on disk: found, identified, its two towers loaded apart.

Training needs the text tower only, and of its embedding table only the rows of the class names:
just those tensors are read from the safetensors file.
"""

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.clip import assets
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.errors import ModelError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.fileio import sha256_of, sha256_of_file, write_json

if TYPE_CHECKING:
    import torch

_HUB_FILES = ["*.json", "merges.txt", "model*.safetensors"]
_PREPROCESSING = "preprocessor_config.json"
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NUMBERS = {
    "": ("projection_dim",),
    "text_config": ("hidden_size", "max_position_embeddings"),
    "vision_config": ("image_size", "patch_size"),
}
"""Sizes of ``config.json`` that are used before the weights are there to contradict them."""
_LARGEST_SIZE = 100_000
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class ClipFiles:
    """A folder with a CLIP inside.

    Attributes
    ----------
    folder : Path
        Where it lies; a site's own business.
    fingerprint : str
        sha256 over weights, configuration and tokenizer.
    preprocessing : str
        sha256 over the image preprocessing settings.
    dtype : str
        The frozen towers' precision, ``float32`` or ``bfloat16``.
    commit : str or None
        Where the folder comes from the hub, its commit there.
    """

    folder: Path
    fingerprint: str
    preprocessing: str
    dtype: str = "float32"
    commit: str | None = None

    @property
    def digest(self) -> str:
        """sha256 over both: what the federation must agree on."""
        return sha256_of(self.fingerprint, self.preprocessing)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        return _read_config(self.folder)

    @property
    def text_config(self) -> dict[str, Any]:
        """The text tower's part of the configuration, with CLIP's own defaults."""
        defaults = {
            "hidden_size": 512,
            "num_attention_heads": 8,
            "num_hidden_layers": 12,
            "max_position_embeddings": 77,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        }
        nested = {k: v for k, v in (self.config.get("text_config") or {}).items() if v is not None}
        return defaults | nested

    @property
    def width(self) -> int:
        """The text encoder's width ``w``."""
        return int(self.text_config["hidden_size"])

    @property
    def dim(self) -> int:
        """The projection's size ``d``."""
        return int(self.config.get("projection_dim") or 512)

    @property
    def num_patches(self) -> int:
        """Patches ``V`` of an image."""
        nested = self.config.get("vision_config") or {}
        size, patch = nested.get("image_size") or 224, nested.get("patch_size") or 32
        return int(size // patch) ** 2

    @property
    def max_positions(self) -> int:
        """Tokens that fit the text encoder."""
        return int(self.text_config["max_position_embeddings"])

    @property
    def encoder_key(self) -> str:
        """What a cached image feature depends on besides the image."""
        key = f"{self.fingerprint[:24]}-{self.preprocessing[:16]}"
        return key if self.dtype == "float32" else f"{key}-{self.dtype}"


def find_clip(model: ModelConfig, path: Path | None) -> ClipFiles:
    """Find the CLIP that a configuration names.

    Parameters
    ----------
    model : ModelConfig
        The packaged demo CLIP, or a hub id; and the precision.
    path : Path or None
        The site's own folder; wins if given.

    Raises
    ------
    ModelError
        If there is no CLIP, saying where it was looked for and what to do.
    """
    commit = None
    if path is not None:
        folder = paths.place(path, "model.path")
    elif model.hub_id is not None:
        folder = _from_hub(model.hub_id, model.revision)
        commit = folder.name  # the hub's cache has a folder per commit
    else:
        folder = assets.demo_clip_folder()
    config = _read_config(folder)
    if config.get("model_type") != "clip":
        raise ModelError(
            f"model folder {folder} holds a {config.get('model_type', 'model without type')!r}, "
            "not a HuggingFace CLIPModel: give model.path a folder saved with "
            "CLIPModel.save_pretrained"
        )
    if not (folder / _PREPROCESSING).is_file():
        raise ModelError(f"model folder {folder} has no {_PREPROCESSING}: copy it there")
    digests = [_digest_of_file(file) for file in weight_files(folder)]
    digests.append(sha256_of(json.dumps(config, sort_keys=True)))
    digests += [sha256_of_file(folder / n) for n in _TOKENIZER_FILES if (folder / n).is_file()]
    settings = _read_object(folder / _PREPROCESSING)
    return ClipFiles(
        folder,
        sha256_of(*digests),
        sha256_of(json.dumps(settings, sort_keys=True)),
        model.dtype,
        commit,
    )


def weight_files(folder: Path) -> list[Path]:
    """Return the files with the weights, safetensors (whole or sharded) before PyTorch's own.

    Raises
    ------
    ModelError
        If there are none or a shard is missing.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        found = [folder / "model.safetensors"]
    elif index.is_file():
        found = [folder / name for name in _shards(index)]
    else:
        found = [folder / "pytorch_model.bin"]
    for file in found:
        if not file.is_file():
            raise ModelError(f"model folder {folder} lacks the weights {file.name}")
    return found


def _shards(index: Path) -> list[str]:
    shards = _read_object(index).get("weight_map")
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
    import torch
    from safetensors import SafetensorError, safe_open

    wanted = set(names)
    tensors: dict[str, torch.Tensor] = {}
    try:
        for file in weight_files(folder):
            if file.suffix == ".bin":
                state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
                tensors |= {name: state[name] for name in wanted & state.keys()}
                continue
            with safe_open(file, framework="pt") as opened:
                for name in wanted & set(opened.keys()):
                    tensors[name] = opened.get_tensor(name)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise unreadable(folder, error) from error
    if missing := sorted(wanted - tensors.keys()):
        raise ModelError(f"the weights in {folder} lack {missing[0]}: this is not a CLIPModel")
    return tensors


def load_token_rows(files: ClipFiles, ids: Sequence[int]) -> NDArray[np.float32]:
    """Read the token embeddings of ``ids``, ``(len(ids), width)``, and nothing else."""
    from safetensors import SafetensorError, safe_open

    name = "text_model.embeddings.token_embedding.weight"
    for file in weight_files(files.folder):
        if file.suffix == ".bin":
            break
        try:
            with safe_open(file, framework="pt") as opened:
                if name in opened.keys():  # noqa: SIM118 - a safetensors file is no mapping
                    table = opened.get_slice(name)
                    return np.concatenate([table[i : i + 1].float().numpy() for i in ids])
        except (SafetensorError, OSError) as error:
            raise unreadable(files.folder, error) from error
    table = read_tensors(files.folder, [name])[name]
    return np.asarray(table[list(ids)].float().numpy())


def unreadable(folder: Path, error: Exception) -> ModelError:
    """Say that a model folder's weights are damaged."""
    return ModelError(f"the weights in {folder} cannot be read ({error}): copy them again")


def _read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` and check the numbers that are read before any weights are."""
    file = folder / "config.json"
    try:
        config = _read_object(file)
    except FileNotFoundError:
        raise ModelError(
            f"no CLIP at {folder}: config.json is missing; give model.path a folder saved with "
            "CLIPModel.save_pretrained"
        ) from None
    for section, names in _NUMBERS.items():
        part = (config.get(section) or {}) if section else config
        for name in names if isinstance(part, dict) else [section]:
            value = part.get(name) if isinstance(part, dict) else part
            is_size = type(value) is int and 0 < value <= _LARGEST_SIZE
            if value is not None and not is_size:
                raise ModelError(f"{file} has no {name} that a CLIP could have: copy it again")
    return config


def _read_object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no JSON object: copy it again")
    return found


def _from_hub(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def snapshot(patterns: list[str], *, local: bool) -> Path:
        return Path(
            snapshot_download(
                hub_id, revision=revision, allow_patterns=patterns, local_files_only=local
            )
        )

    try:
        try:
            folder = snapshot(_HUB_FILES, local=True)
            weight_files(folder)
        except (LocalEntryNotFoundError, ModelError):
            folder = snapshot(_HUB_FILES, local=False)
            if not any(folder.glob("model*.safetensors")):
                folder = snapshot([*_HUB_FILES, "pytorch_model.bin"], local=False)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        which = f"model {hub_id}" if revision is None else f"revision {revision} of model {hub_id}"
        raise ModelError(
            f"{which} is neither in the HuggingFace cache nor reachable on the hub: download it "
            "once while online, or give model.path a local folder"
        ) from error
    return folder


def _digest_of_file(file: Path) -> str:
    """Hash a large file once; later calls believe path, size, time and inode."""
    stat = file.stat()
    key = sha256_of(str(file.resolve()), f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}")
    memo = paths.home() / "fingerprints" / f"{key}.json"
    try:
        known = json.loads(memo.read_text(encoding="utf-8"))["sha256"]
        if isinstance(known, str) and len(known) == 64:
            return known
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = sha256_of_file(file)
    # A home without room is no reason to refuse a CLIP: it is hashed again.
    with suppress(OSError):
        write_json(memo, {"sha256": digest})
    return digest
