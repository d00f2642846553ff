"""A CLIP in OpenCLIP's form as a folder that HuggingFace's CLIPModel and this project read."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrsclip.model import architecture, naming
from fedrsclip.model.preprocess import preprocessing
from fedrsclip.model.source import Source, read_source
from fedrsclip.model.tokenizer import write_tokenizer
from fedrsclip_core.clip.files import ClipFiles, identify
from fedrsclip_core.clip.preprocessing import read_preprocessing
from fedrsclip_core.clip.tokens import special_ids
from fedrsclip_core.errors import ModelError
from fedrsclip_core.runs.fileio import whole_folder, write_json

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Converted:
    """What was made, and what was taken for granted.

    Attributes
    ----------
    files : ClipFiles
        The new folder.
    arch : str
        OpenCLIP's name of its architecture, or its sizes.
    activation, images, tokenizer : str
        What was chosen and how it is known.
    """

    files: ClipFiles
    arch: str
    activation: str
    images: str
    tokenizer: str


def convert(
    place: Path,
    out: Path,
    *,
    arch: str | None = None,
    activation: str | None = None,
    tokenizer: Path | None = None,
) -> Converted:
    """Convert a file or folder; ``out`` is then there as a whole, or not at all.

    Parameters
    ----------
    place : Path
        A state dict, a TorchScript archive of OpenAI's, or a folder with one.
    out : Path
        A new folder, or an empty one.
    arch : str or None
        OpenCLIP's name of the architecture, checked against the tensors.
    activation : str or None
        ``gelu`` or ``quickgelu``, where the source does not say.
    tokenizer : Path or None
        A folder with the tokenizer, where the source has none.

    Raises
    ------
    ModelError
        Saying what is missing or wrong.
    """
    _check_target(out)
    if not place.exists():
        raise ModelError(f"there is nothing at {place} to convert")
    source = read_source(place)
    tensors = naming.without_wrapper(source.tensors, str(source.file))
    complete = naming.is_huggingface(tensors)
    if not complete:
        tensors = naming.huggingface_names(naming.plain_names(tensors), str(source.file))
    if complete and source.huggingface is not None:
        config, chosen = dict(source.huggingface), "as config.json says"
    else:
        config = architecture.configuration(source, tensors, arch)
        act, how = architecture.activation(source, arch, activation)
        for section in ("vision_config", "text_config"):
            config[section]["hidden_act"] = architecture.ACTIVATIONS[act]
        chosen = f"{act}: {how}"
    with whole_folder(out) as staged:
        _write_weights(staged, tensors, config)
        images = _write_preprocessing(staged, source)
        text = _text_config(staged)
        words = write_tokenizer(
            staged, text["vocab_size"], tokenizer, source.folder, own=_names_tokenizer(source)
        )
        found = identify(staged)
        special_ids(found)
        _synced(staged)
    files = ClipFiles(out, found.fingerprint, found.preprocessing)
    name = architecture.architecture_name(
        {"vision_config": found.vision_config, "text_config": text}
    )
    return Converted(files, name or "an architecture of its own", chosen, images, words)


def _check_target(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"out={out} is there already: name a new folder, or empty it")


def _write_weights(
    folder: Path, tensors: "Mapping[str, torch.Tensor]", config: Mapping[str, Any]
) -> None:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file
    from transformers import CLIPConfig

    kept = {name: t for name, t in tensors.items() if not name.endswith(".position_ids")}
    dtypes = {tensor.dtype for tensor in kept.values()}
    # A mixture, as OpenAI's archives are, is not what HuggingFace's loader expects.
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    whole = {name: tensor.to(dtype).clone() for name, tensor in kept.items()}
    try:
        save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:
        raise ModelError(f"{folder.parent} cannot hold the weights ({error}): make room") from error
    described = {
        "architectures": ["CLIPModel"],
        **config,
        "dtype": str(dtype).removeprefix("torch."),
    }
    CLIPConfig.from_dict(described).save_pretrained(folder)


def _write_preprocessing(folder: Path, source: Source) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if source.huggingface is not None and source.openclip is None:
        try:
            settings = read_preprocessing(source.folder)
        except ModelError:
            pass
        else:
            write_json(
                folder / "preprocessor_config.json",
                {"image_processor_type": "CLIPImageProcessor", **_switched(settings)},
            )
            return "as the folder says"
    settings, how = preprocessing(source, config["vision_config"]["image_size"])
    write_json(folder / "preprocessor_config.json", settings)
    return how


def _switched(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"do_convert_rgb": True, **settings}


def _text_config(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = config["text_config"]
    return found


def _names_tokenizer(source: Source) -> bool:
    model = (source.openclip or {}).get("model_cfg") or {}
    return bool((model.get("text_cfg") or {}).get("hf_tokenizer_name"))


def _synced(folder: Path) -> None:
    """Let the files that libraries wrote be readable for all, and survive a power cut."""
    for file in folder.iterdir():
        file.chmod(0o644)
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
