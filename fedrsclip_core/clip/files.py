"""A frozen HuggingFace CLIP on disk: found and identified."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedrsclip_core.clip import assets, hub
from fedrsclip_core.clip.folder_files import read_object, remembered
from fedrsclip_core.clip.preprocessing import check_image_size, read_preprocessing
from fedrsclip_core.clip.tokens import tokenizer_digest
from fedrsclip_core.clip.weights import digest_of_tensors, tensor_shapes, weight_files
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.errors import ModelError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.fileio import sha256_of

ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
"""Values of ``hidden_act`` that the packed text encoder computes."""

_LAYERS = {
    "num_hidden_layers": 12,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_TEXT = {
    **_LAYERS,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
}
_VISION = {
    **_LAYERS,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}
_PROJECTION = {"projection_dim": 512}
"""What is computed depends on these fields of ``config.json``; transformers' defaults."""
_LARGEST_SIZE = 100_000
_WEIGHTS_OF_OTHERS = (".pt", ".pth", ".bin", ".safetensors", ".ckpt")


@dataclass(frozen=True)
class ClipFiles:
    """A folder with a CLIP inside.

    Attributes
    ----------
    folder : Path
        Where it lies; a site's own business.
    fingerprint : str
        sha256 over the tensors' values, the configuration and the tokenizer, as they are computed
        with: a copy in other files, of another precision or version of transformers has the same.
    preprocessing : str
        sha256 over the image preprocessing settings in their normal form.
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
        return _section(self.config, "text_config", _TEXT)

    @property
    def vision_config(self) -> dict[str, Any]:
        """What counts of the image tower's part of the configuration, with CLIP's defaults."""
        section = _section(self.config, "vision_config", _VISION)
        return {name: section[name] for name in _VISION}

    @property
    def width(self) -> int:
        """The text encoder's width ``w``."""
        return int(self.text_config["hidden_size"])

    @property
    def dim(self) -> int:
        """The projection's size ``d``."""
        return int(_projection(self.config))

    @property
    def num_patches(self) -> int:
        """Patches ``V`` of an image."""
        vision = self.vision_config
        return int(vision["image_size"] // vision["patch_size"]) ** 2

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
    elif model.openclip_file is not None:
        raise ModelError(
            f"{model.name} is on the hub in OpenCLIP's form only: `fedrsclip model convert "
            f"{model.name} out=<folder>` downloads and converts it, then add model.path=<folder>"
        )
    elif model.hub_id is not None:
        folder = hub.snapshot(model.hub_id, model.revision)
        commit = folder.name  # the hub's cache has a folder per commit
    else:
        folder = assets.demo_clip_folder()
    return identify(folder, model.dtype, commit)


def identify(folder: Path, dtype: str = "float32", commit: str | None = None) -> ClipFiles:
    """Return what a model folder holds.

    Raises
    ------
    ModelError
        If it is no complete CLIP.
    """
    config = _read_config(folder)
    text, vision = (
        _section(config, "text_config", _TEXT),
        _section(config, "vision_config", _VISION),
    )
    if text["hidden_act"] not in ACTIVATIONS:
        raise ModelError(
            f"the text tower's hidden_act in {folder / 'config.json'} is {text['hidden_act']!r}, "
            f"known are {', '.join(ACTIVATIONS)}"
        )
    settings = read_preprocessing(folder)
    check_image_size(folder, settings, vision["image_size"])
    shapes = tensor_shapes(text, vision, _projection(config))
    tensors = remembered(
        f"tensors {shapes}", weight_files(folder), lambda: digest_of_tensors(folder, shapes)
    )
    return ClipFiles(
        folder,
        sha256_of(tensors, _canonical(_counted(config)), tokenizer_digest(folder)),
        sha256_of(_canonical(settings)),
        dtype,
        commit,
    )


def _counted(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a configuration that what is computed depends on."""
    found = {}
    for name, defaults in (("text_config", _TEXT), ("vision_config", _VISION)):
        section = _section(config, name, defaults)
        found[name] = {key: section[key] for key in defaults}
    return {**found, "projection_dim": _projection(config)}


def _projection(config: Mapping[str, Any]) -> Any:
    value = config.get("projection_dim")
    return _PROJECTION["projection_dim"] if value is None else value


def _section(config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return one tower's part of a configuration as transformers reads it."""
    # Configurations of 2022 have it under another name, which wins there too.
    older = config.get(f"{name}_dict")
    given = (config.get(name) if older is None else older) or {}
    return {**defaults, **{key: value for key, value in given.items() if value is not None}}


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)


def _read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` and check what is read of it before any weights are."""
    file = folder / "config.json"
    if not file.is_file():
        raise _no_clip(folder)
    config = read_object(file)
    kind = config.get("model_type")
    if kind != "clip":
        raise ModelError(
            f"model folder {folder} holds a {str(kind or 'model without type')[:60]!r}, not a "
            "whole HuggingFace CLIPModel ('clip'): give model.path a folder saved with "
            "CLIPModel.save_pretrained"
        )
    for name, defaults in (("text_config", _TEXT), ("vision_config", _VISION)):
        if any(not isinstance(config.get(part) or {}, dict) for part in (name, f"{name}_dict")):
            raise ModelError(f"{file} has no {name} that a CLIP could have: copy it again")
        _check_fields(file, _section(config, name, defaults), defaults)
    _check_fields(
        file, _PROJECTION | {k: v for k, v in config.items() if v is not None}, _PROJECTION
    )
    return config


def _check_fields(file: Path, section: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    for name, default in defaults.items():
        value = section[name]
        if type(default) is int:
            usable = type(value) is int and 0 < value <= _LARGEST_SIZE
        elif type(default) is float:
            usable = type(value) in (int, float) and 0 <= value < 1
        else:
            usable = isinstance(value, str) and len(value) < 60
        if not usable:
            raise ModelError(f"{file} has no {name} that a CLIP could have: copy it again")


def _no_clip(folder: Path) -> ModelError:
    """Say why a place is no model folder, and what might be meant."""
    if folder.is_file():
        if (folder.parent / "config.json").is_file():
            return ModelError(f"model.path {folder} is a file: give its folder, {folder.parent}")
        if folder.suffix in _WEIGHTS_OF_OTHERS:
            return ModelError(f"model.path {folder} is a file. {_to_convert(folder)}")
        return ModelError(
            f"model.path {folder} is a file: give a folder saved with CLIPModel.save_pretrained"
        )
    if not folder.is_dir():
        return ModelError(
            f"no CLIP at {folder}: there is no such folder; give model.path a folder saved with "
            "CLIPModel.save_pretrained"
        )
    held = sorted(folder.iterdir())
    weights = [file for file in held if file.suffix in _WEIGHTS_OF_OTHERS]
    if (folder / "open_clip_config.json").is_file() or weights:
        described = (folder / "open_clip_config.json").is_file()
        source = weights[0] if len(weights) == 1 and not described else folder
        return ModelError(f"{folder} has weights but no config.json. {_to_convert(source)}")
    inside = [*folder.glob("*/config.json"), *folder.glob("snapshots/*/config.json")]
    hint = f" ({inside[0].parent} has one)" if inside else ""
    return ModelError(
        f"no CLIP at {folder}: config.json is missing{hint}; give model.path a folder saved with "
        "CLIPModel.save_pretrained"
    )


def _to_convert(source: Path) -> str:
    return (
        f"If it is of OpenCLIP, OpenAI, RemoteCLIP or GeoRSCLIP, `fedrsclip model convert {source} "
        "out=<folder>` makes a HuggingFace CLIP of it; then give model.path=<folder>"
    )
