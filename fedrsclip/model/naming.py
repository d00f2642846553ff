"""OpenCLIP's tensors under the names of HuggingFace's CLIPModel."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from fedrsclip_core.errors import ModelError

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, "torch.Tensor"]

ANCHORS = ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight")
"""A tensor of each form's image tower; what stands before it is a wrapper's prefix."""

_IGNORED = re.compile(
    r"(text\.)?attn_mask|input_resolution|context_length|vocab_size|.*\.position_ids"
)
"""Buffers that hold no learned number."""
_TEXT = ("positional_embedding", "token_embedding.", "transformer.", "ln_final.", "text_projection")
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias|in_proj_\w+)")
_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_RENAMED = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}
_OTHERS = (
    (r"visual\.(layer\d|attnpool)\.", "a ResNet, which HuggingFace's CLIPModel does not have"),
    (r"(visual|image_encoder)\.trunk\.", "an image tower of timm (SigLIP, EVA, ConvNeXt or other)"),
    (r"visual\.(blocks|patch_embed)\.", "an EVA-CLIP"),
    (r"text\.transformer\.(embeddings|encoder|shared)\.", "a text tower of HuggingFace's"),
    (r"text_decoder\.", "a CoCa"),
    (r"visual\.attn_pool\.", "an image tower with attentional pooling (CoCa)"),
    (r"logit_bias$", "a SigLIP"),
    (r"(vision_model\.head\.|text_model\.head\.)", "a SigLIP"),
)
"""Names by which what is no plain CLIP with a vision transformer is known."""


def without_wrapper(tensors: Tensors, source: str) -> "dict[str, torch.Tensor]":
    """Return the tensors of the one CLIP in a state dict, without a wrapper's prefix.

    Raises
    ------
    ModelError
        If there is none, or more than one.
    """
    prefixes = {
        name.removesuffix(anchor)
        for name in tensors
        for anchor in ANCHORS
        if name == anchor or name.endswith(f".{anchor}")
    }
    _refuse_others(tensors, source)
    if not prefixes:
        shown = ", ".join(sorted(tensors)[:3])
        raise ModelError(
            f"{source} holds no CLIP with a vision transformer: it begins with {shown}"
        )
    if len(prefixes) > 1:
        shown = " and ".join(repr(prefix) for prefix in sorted(prefixes)[:2])
        raise ModelError(
            f"{source} holds several CLIPs, under {shown}: save the state dict of the one you want"
        )
    prefix = prefixes.pop()
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def is_huggingface(tensors: Tensors) -> bool:
    """Whether the tensors have HuggingFace's names already."""
    return ANCHORS[1] in tensors


def plain_names(tensors: Tensors) -> "dict[str, torch.Tensor]":
    """Return OpenCLIP's tensors without the ``text.`` of its newer classes and without buffers."""
    found = {}
    for name, tensor in tensors.items():
        inner = name.removeprefix("text.")
        plain = inner if name != inner and inner.startswith(_TEXT) else name
        if not _IGNORED.fullmatch(name):
            found[plain] = tensor
    return found


def huggingface_names(tensors: Tensors, source: str) -> "dict[str, torch.Tensor]":
    """Return OpenCLIP's tensors as HuggingFace's CLIPModel has them.

    Parameters
    ----------
    tensors : Tensors
        With plain names; fused query, key and value, projections ``(width, dim)``.
    source : str
        For messages.

    Raises
    ------
    ModelError
        If there is a tensor that a CLIP does not have.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        translated = {new: value.contiguous() for new, value in _translated(name, tensor)}
        found |= translated
        if not translated:
            raise ModelError(
                f"{source} has a tensor {name[:80]}, which a plain CLIP does not have: this kind "
                "of model cannot be converted"
            )
    return found


def _translated(name: str, tensor: "torch.Tensor") -> "Iterator[tuple[str, torch.Tensor]]":
    if name in _RENAMED:
        yield _RENAMED[name], tensor.reshape(()) if name == "logit_scale" else tensor
    elif name in _TRANSPOSED:
        yield _TRANSPOSED[name], tensor.T
    elif match := _BLOCK.fullmatch(name):
        tower = "vision_model" if match[1] else "text_model"
        layer, part, kind = f"{tower}.encoder.layers.{match[2]}", match[3], match[4]
        if part == "attn" and kind in ("in_proj_weight", "in_proj_bias"):
            for one, third in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{layer}.self_attn.{one}_proj.{kind.removeprefix('in_proj_')}", third
        elif part in _PARTS:
            yield f"{layer}.{_PARTS[part]}.{kind}", tensor


def _refuse_others(tensors: Tensors, source: str) -> None:
    for pattern, what in _OTHERS:
        if any(re.search(rf"(^|\.){pattern}", name) for name in tensors):
            raise ModelError(
                f"{source} holds {what}: only CLIPs with a plain vision transformer and CLIP's own "
                "text transformer can be converted"
            )
