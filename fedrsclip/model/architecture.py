"""Sizes of a CLIP that its tensors do not tell: heads, activation, preprocessing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedrsclip.model.source import OPENCLIP_CONFIG, Source
from fedrsclip_core.errors import ModelError

if TYPE_CHECKING:
    import torch

ACTIVATIONS = {"gelu": "gelu", "quickgelu": "quick_gelu"}
"""Values of ``activation=`` and what HuggingFace calls them."""

_QUICK = "-quickgelu"


@dataclass(frozen=True)
class Architecture:
    """What identifies one of OpenCLIP's architectures, and its numbers of heads."""

    image_size: int
    patch: int
    width: int
    layers: int
    heads: int
    text_width: int
    text_layers: int
    text_heads: int


ARCHITECTURES = {
    "ViT-S-32": Architecture(224, 32, 384, 12, 6, 384, 12, 6),
    "ViT-S-16": Architecture(224, 16, 384, 12, 6, 384, 12, 6),
    "ViT-M-32": Architecture(224, 32, 512, 12, 8, 512, 12, 8),
    "ViT-M-16": Architecture(224, 16, 512, 12, 8, 512, 12, 8),
    "ViT-B-32": Architecture(224, 32, 768, 12, 12, 512, 12, 8),
    "ViT-B-32-256": Architecture(256, 32, 768, 12, 12, 512, 12, 8),
    "ViT-B-16": Architecture(224, 16, 768, 12, 12, 512, 12, 8),
    "ViT-B-16-plus-240": Architecture(240, 16, 896, 12, 14, 640, 12, 10),
    "ViT-B-16-plus": Architecture(224, 16, 896, 12, 14, 640, 12, 10),
    "ViT-B-32-plus-256": Architecture(256, 32, 896, 12, 14, 640, 12, 10),
    "ViT-L-16": Architecture(224, 16, 1024, 24, 16, 768, 12, 12),
    "ViT-L-16-320": Architecture(320, 16, 1024, 24, 16, 768, 12, 12),
    "ViT-L-14": Architecture(224, 14, 1024, 24, 16, 768, 12, 12),
    "ViT-L-14-280": Architecture(280, 14, 1024, 24, 16, 768, 12, 12),
    "ViT-L-14-336": Architecture(336, 14, 1024, 24, 16, 768, 12, 12),
    "ViT-H-14": Architecture(224, 14, 1280, 32, 16, 1024, 24, 16),
    "ViT-H-14-378": Architecture(378, 14, 1280, 32, 16, 1024, 24, 16),
    "ViT-g-14": Architecture(224, 14, 1408, 40, 16, 1024, 24, 16),
    "ViT-bigG-14": Architecture(224, 14, 1664, 48, 16, 1280, 32, 20),
}

_SOURCES = (
    (
        r"RemoteCLIP-ViT-(B-32|L-14)\.pt",
        "quickgelu",
        "its authors evaluate it as OpenAI's",
    ),
    (r"RS5M_ViT-B-32\.pt", "quickgelu", "its authors evaluate it as OpenAI's"),
    (r"RS5M_ViT-H-14\.pt", "gelu", "its authors evaluate it as LAION's"),
    (r"vit_[a-z0-9_]+-quickgelu-laion400m.*\.pt", "quickgelu", "OpenCLIP's name for it"),
    (r"vit_[a-z0-9_]+-laion(400m|2b).*\.pt", "gelu", "OpenCLIP's name for it"),
)
"""Names of published files, their activation, and how it is known."""

_MODEL_KEYS = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text"}
_VISION_KEYS = {
    *("image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"),
    *("patch_dropout", "output_tokens"),
}
_TEXT_KEYS = {
    *("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"),
    *("hf_tokenizer_name", "output_tokens"),
}
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "pool_type": ("tok", "argmax"),
    "pos_embed_type": ("learnable",),
    "tokenizer_kwargs": ({},),
    "proj_type": ("linear",),
    "timm_pool": ("avg",),
    "timm_proj": ("linear",),
}
"""Values that OpenCLIP has by default; what is false, zero or empty is as well."""


def configuration(source: Source, tensors: "Mapping[str, torch.Tensor]", arch: str | None) -> Any:
    """Return HuggingFace's configuration of a CLIP, without its activation.

    Parameters
    ----------
    source : Source
        Where the tensors come from.
    tensors : Mapping[str, torch.Tensor]
        Under HuggingFace's names.
    arch : str or None
        One of :data:`ARCHITECTURES`, if it was named.

    Returns
    -------
    dict
        ``projection_dim``, ``text_config`` and ``vision_config``.

    Raises
    ------
    ModelError
        If tensors are missing, or if the numbers of heads are not known.
    """
    found = _sizes(source, tensors)
    vision_heads, text_heads = _heads(source, found, arch)
    for section, heads in (("vision_config", vision_heads), ("text_config", text_heads)):
        width = found[section]["hidden_size"]
        if type(heads) is not int or heads < 1 or width % heads:
            raise ModelError(f"{source.file.name} has a width of {width}, not for {heads} heads")
        found[section]["num_attention_heads"] = heads
    return found


def activation(source: Source, arch: str | None, given: str | None) -> tuple[str, str]:
    """Return the activation, ``gelu`` or ``quickgelu``, and how it is known.

    Raises
    ------
    ModelError
        If it is not known, or if two things that tell it disagree.
    """
    told: list[tuple[str, str]] = []
    if source.openclip is not None:
        quick = bool(_model_config(source).get("quick_gelu", False))
        told.append(("quickgelu" if quick else "gelu", f"{OPENCLIP_CONFIG} says so"))
    if source.huggingface is not None:
        told.append((_declared(source.huggingface), "config.json says so"))
    if source.quick_gelu_program:
        told.append(("quickgelu", "the archive's program uses it"))
    if arch is not None and arch.endswith(_QUICK):
        told.append(("quickgelu", f"arch={arch} says so"))
    if given is not None:
        told.append((given, f"activation={given} says so"))
    if len({name for name, _ in told}) > 1:
        raise ModelError(
            f"{source.file}: " + ", but ".join(f"{how} ({name})" for name, how in told) + ": wrong "
            "activations give wrong features without a sign; correct the wrong one"
        )
    if told:
        return told[0]
    for pattern, name, how in _SOURCES:
        if re.fullmatch(pattern, source.file.name):
            return name, how
    raise ModelError(
        f"{source.file} does not say whether its CLIP was trained with GELU or QuickGELU, and the "
        "wrong one gives wrong features without a sign: add activation=quickgelu for OpenAI's "
        "CLIPs and what was fine-tuned from them, activation=gelu for most of LAION's"
    )


def architecture_name(config: Mapping[str, Any]) -> str | None:
    """Return OpenCLIP's name for sizes, ``None`` if it has none."""
    vision, text = config["vision_config"], config["text_config"]
    sizes = (
        *(vision["image_size"], vision["patch_size"]),
        *(vision["hidden_size"], vision["num_hidden_layers"]),
        *(text["hidden_size"], text["num_hidden_layers"]),
    )
    for name, one in ARCHITECTURES.items():
        if sizes == (
            *(one.image_size, one.patch, one.width, one.layers),
            *(one.text_width, one.text_layers),
        ):
            return name
    return None


def _sizes(source: Source, tensors: "Mapping[str, torch.Tensor]") -> dict[str, Any]:
    """Return what the tensors tell."""

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in tensors or tensors[name].ndim != dimensions:
            raise ModelError(f"{source.file} lacks {name}: it is no whole CLIP")
        return tuple(tensors[name].shape)

    def layers(tower: str) -> int:
        numbers = {
            int(match[1])
            for name in tensors
            if (match := re.fullmatch(rf"{tower}\.encoder\.layers\.(\d+)\..*", name))
        }
        if numbers != set(range(len(numbers))) or not numbers:
            raise ModelError(f"{source.file} lacks layers of its {tower}: it is no whole CLIP")
        return len(numbers)

    width, _, patch, _ = shape("vision_model.embeddings.patch_embedding.weight", 4)
    positions = shape("vision_model.embeddings.position_embedding.weight", 2)[0]
    grid = round((positions - 1) ** 0.5)
    if grid**2 + 1 != positions:
        raise ModelError(f"{source.file} is for images that are not square: it cannot be converted")
    vocabulary, text_width = shape("text_model.embeddings.token_embedding.weight", 2)
    context = shape("text_model.embeddings.position_embedding.weight", 2)[0]
    inner = "encoder.layers.0.mlp.fc1.weight"
    return {
        "projection_dim": shape("visual_projection.weight", 2)[0],
        "vision_config": {
            "hidden_size": width,
            "intermediate_size": shape(f"vision_model.{inner}", 2)[0],
            "num_hidden_layers": layers("vision_model"),
            "patch_size": patch,
            "image_size": grid * patch,
        },
        "text_config": {
            "hidden_size": text_width,
            "intermediate_size": shape(f"text_model.{inner}", 2)[0],
            "num_hidden_layers": layers("text_model"),
            "max_position_embeddings": context,
            "vocab_size": vocabulary,
            # OpenCLIP pools where the highest id stands; start and end are a vocabulary's last.
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
        },
    }


def _heads(source: Source, config: Mapping[str, Any], arch: str | None) -> tuple[int, int]:
    named = None if arch is None else arch.removesuffix(_QUICK)
    if named is not None and named not in ARCHITECTURES:
        raise ModelError(f"arch is {arch!r}: known are {', '.join(ARCHITECTURES)}")
    found = architecture_name(config)
    if named is not None and named != found:
        raise ModelError(f"arch is {arch} but {source.file} is {_described(config, found)}")
    if source.openclip is not None:
        return _openclip_heads(source, config)
    if source.huggingface is not None:
        return _huggingface_heads(source.huggingface)
    if found is None:
        raise ModelError(
            f"{source.file} is of no architecture that is known here "
            f"({_described(config, None)}), so its attention heads are not known: put its "
            f"{OPENCLIP_CONFIG} beside it and convert the folder"
        )
    return ARCHITECTURES[found].heads, ARCHITECTURES[found].text_heads


def _described(config: Mapping[str, Any], found: str | None) -> str:
    if found is not None:
        return f"a {found}"
    vision, text = config["vision_config"], config["text_config"]
    return (
        f"width {vision['hidden_size']}, {vision['num_hidden_layers']} layers, patches of "
        f"{vision['patch_size']}, images of {vision['image_size']}; text width "
        f"{text['hidden_size']}, {text['num_hidden_layers']} layers"
    )


def _model_config(source: Source) -> Mapping[str, Any]:
    model = (source.openclip or {}).get("model_cfg")
    parts = ("vision_cfg", "text_cfg")
    if not isinstance(model, dict) or not all(isinstance(model.get(p), dict) for p in parts):
        raise ModelError(
            f"{source.folder / OPENCLIP_CONFIG} has no model_cfg with vision_cfg and text_cfg"
        )
    return model


def _openclip_heads(source: Source, config: Mapping[str, Any]) -> tuple[int, int]:
    model = _model_config(source)
    vision, text = model["vision_cfg"], model["text_cfg"]
    for section, known in ((model, _MODEL_KEYS), (vision, _VISION_KEYS), (text, _TEXT_KEYS)):
        for key in section.keys() - known:
            if section[key] and section[key] not in _HARMLESS.get(key, ()):
                raise ModelError(
                    f"{source.folder / OPENCLIP_CONFIG} has {key}={section[key]!r:.60}, which a "
                    "HuggingFace CLIPModel does not have: this model cannot be converted"
                )
    where = source.folder / OPENCLIP_CONFIG
    told = {
        "image_size": (vision.get("image_size", 224), config["vision_config"]["image_size"]),
        "width": (vision.get("width", 768), config["vision_config"]["hidden_size"]),
        "text width": (text.get("width", 512), config["text_config"]["hidden_size"]),
    }
    for name, (said, held) in told.items():
        if said not in (held, [held, held]):
            raise ModelError(
                f"{where} says {name} {said!r:.40} but {source.file.name} has {held}: they are "
                "not of one model"
            )
    head_width = vision.get("head_width", 64)
    if type(head_width) is not int or head_width < 1:
        raise ModelError(f"{source.folder / OPENCLIP_CONFIG} has no head_width that can be")
    return config["vision_config"]["hidden_size"] // head_width, text.get("heads", 8)


def _huggingface_heads(config: Mapping[str, Any]) -> tuple[int, int]:
    vision, text = (config.get(name) or {} for name in ("vision_config", "text_config"))
    return vision.get("num_attention_heads", 12), text.get("num_attention_heads", 8)


def _declared(config: Mapping[str, Any]) -> str:
    sections = [config.get(name) or {} for name in ("vision_config", "text_config")]
    acts = {section.get("hidden_act", "quick_gelu") for section in sections}
    known = {value: key for key, value in ACTIVATIONS.items()}
    if len(acts) != 1 or not acts <= known.keys():
        raise ModelError(f"config.json has hidden_act {sorted(map(str, acts))}: not of a CLIP")
    return known[acts.pop()]
