"""The frozen text tower as plain tensors, and only the token embeddings that are needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedrsclip_core.clip import load_token_rows, read_tensors
from fedrsclip_core.errors import ModelError

if TYPE_CHECKING:
    from fedrsclip_core.clip import ClipFiles

ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
"""Values of ``hidden_act`` that the packed encoder computes."""

_LAYER = "text_model.encoder.layers"


@dataclass(frozen=True)
class TextLayer:
    """One pre-norm transformer layer; ``qkv`` rows are query, key, value."""

    norm1_weight: Tensor  # (width,)
    norm1_bias: Tensor  # (width,)
    qkv_weight: Tensor  # (3 * width, width)
    qkv_bias: Tensor  # (3 * width,)
    out_weight: Tensor  # (width, width)
    out_bias: Tensor  # (width,)
    norm2_weight: Tensor  # (width,)
    norm2_bias: Tensor  # (width,)
    up_weight: Tensor  # (mlp, width)
    up_bias: Tensor  # (mlp,)
    down_weight: Tensor  # (width, mlp)
    down_bias: Tensor  # (width,)


@dataclass(frozen=True)
class TextTower:
    """What ``g`` needs, on one device and in one dtype.

    Attributes
    ----------
    layers : tuple[TextLayer, ...]
        The transformer.
    final_weight, final_bias : Tensor
        Last LayerNorm, ``(width,)``.
    projection : Tensor
        ``(dim, width)``.
    positions : Tensor
        ``(max_positions, width)``.
    token_rows : Tensor
        Embeddings of ``token_ids``, ``(len(token_ids), width)``.
    token_ids : tuple[int, ...]
        Which rows of the vocabulary these are.
    num_heads : int
        Attention heads.
    activation : str
        One of :data:`ACTIVATIONS`.
    eps : float
        LayerNorm's epsilon.
    logit_scale : float
        ``exp(logit_scale)``, the inverse temperature.
    """

    layers: tuple[TextLayer, ...]
    final_weight: Tensor
    final_bias: Tensor
    projection: Tensor
    positions: Tensor
    token_rows: Tensor
    token_ids: tuple[int, ...]
    num_heads: int
    activation: str
    eps: float
    logit_scale: float


def load_text_tower(
    files: "ClipFiles",
    ids: Sequence[int],
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TextTower:
    """Load the text tower of a HuggingFace CLIP.

    Parameters
    ----------
    files : ClipFiles
        Which CLIP.
    ids : Sequence[int]
        Token ids whose embeddings are needed.
    device, dtype
        Where and how the tensors are held.

    Raises
    ------
    ModelError
        If tensors are missing or the activation is unknown.
    """
    config = files.text_config
    if config["hidden_act"] not in ACTIVATIONS:
        raise ModelError(
            f"the text tower's hidden_act is {config['hidden_act']!r}, "
            f"known are {', '.join(ACTIVATIONS)}"
        )
    num_layers = int(config["num_hidden_layers"])
    tensors = read_tensors(files.folder, _tensor_names(num_layers))
    moved = {name: t.to(device=device, dtype=dtype) for name, t in tensors.items()}
    rows = torch.from_numpy(load_token_rows(files, ids)).to(device=device, dtype=dtype)
    return TextTower(
        layers=tuple(_layer(moved, index) for index in range(num_layers)),
        final_weight=moved["text_model.final_layer_norm.weight"],
        final_bias=moved["text_model.final_layer_norm.bias"],
        projection=moved["text_projection.weight"],
        positions=moved["text_model.embeddings.position_embedding.weight"],
        token_rows=rows,
        token_ids=tuple(ids),
        num_heads=int(config["num_attention_heads"]),
        activation=str(config["hidden_act"]),
        eps=float(config["layer_norm_eps"]),
        logit_scale=float(tensors["logit_scale"].double().exp()),
    )


def _tensor_names(num_layers: int) -> list[str]:
    parts = ["layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"]
    parts += [f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
    names = [
        f"{_LAYER}.{index}.{part}.{kind}"
        for index in range(num_layers)
        for part in parts
        for kind in ("weight", "bias")
    ]
    names += [f"text_model.final_layer_norm.{kind}" for kind in ("weight", "bias")]
    names += ["text_model.embeddings.position_embedding.weight"]
    return [*names, "text_projection.weight", "logit_scale"]


def _layer(tensors: dict[str, Tensor], index: int) -> TextLayer:
    def get(part: str, kind: str) -> Tensor:
        return tensors[f"{_LAYER}.{index}.{part}.{kind}"]

    def qkv(kind: str) -> Tensor:
        return torch.cat([get(f"self_attn.{name}_proj", kind) for name in ("q", "k", "v")])

    return TextLayer(
        get("layer_norm1", "weight"),
        get("layer_norm1", "bias"),
        qkv("weight"),
        qkv("bias"),
        get("self_attn.out_proj", "weight"),
        get("self_attn.out_proj", "bias"),
        get("layer_norm2", "weight"),
        get("layer_norm2", "bias"),
        get("mlp.fc1", "weight"),
        get("mlp.fc1", "bias"),
        get("mlp.fc2", "weight"),
        get("mlp.fc2", "bias"),
    )
