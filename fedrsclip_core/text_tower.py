"""The frozen text tower as plain tensors, and only the token embeddings that are needed."""

import math
from collections.abc import Iterator, Sequence
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
_QUICK_GELU = 1.702


@dataclass(frozen=True)
class TextLayer:
    """One pre-norm transformer layer with all that is frozen folded into its four matrices.

    ``qkv`` (rows: query, key, value) and ``up`` hold the scale and shift of the LayerNorm before
    them; the query's rows also ``1 / sqrt(width / heads)``. QuickGELU's factor of 1.702 is in
    ``up`` and out of ``down`` again, which leaves SiLU between them.
    """

    qkv_weight: Tensor  # (3 * width, width)
    qkv_bias: Tensor  # (3 * width,)
    out_weight: Tensor  # (width, width)
    out_bias: Tensor  # (width,)
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
    dtype: torch.dtype | None = None,
) -> TextTower:
    """Load the text tower of a HuggingFace CLIP.

    Parameters
    ----------
    files : ClipFiles
        Which CLIP.
    ids : Sequence[int]
        Token ids whose embeddings are needed.
    device : str
        Where the tensors are held.
    dtype : torch.dtype or None
        How they are held; by default as ``files.dtype`` says.

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
    num_layers, heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
    tensors = read_tensors(files.folder, _tensor_names(num_layers))
    dtype = dtype or getattr(torch, files.dtype)

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device=device, dtype=dtype)

    def layer(index: int) -> TextLayer:
        return TextLayer(*map(moved, _folded(tensors, index, heads, config["hidden_act"])))

    return TextTower(
        layers=tuple(map(layer, range(num_layers))),
        final_weight=moved(tensors["text_model.final_layer_norm.weight"]),
        final_bias=moved(tensors["text_model.final_layer_norm.bias"]),
        projection=moved(tensors["text_projection.weight"]),
        positions=moved(tensors["text_model.embeddings.position_embedding.weight"]),
        token_rows=moved(torch.from_numpy(load_token_rows(files, ids))),
        token_ids=tuple(ids),
        num_heads=heads,
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


def _folded(
    tensors: dict[str, Tensor], index: int, heads: int, activation: str
) -> Iterator[Tensor]:
    """Yield a layer's tensors in the order of :class:`TextLayer`, folded in double precision."""

    def get(part: str, kind: str) -> Tensor:
        return tensors[f"{_LAYER}.{index}.{part}.{kind}"].double()

    def after_norm(norm: str, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``W diag(scale)`` and ``W shift + b``."""
        return weight * get(norm, "weight"), weight @ get(norm, "bias") + bias

    def qkv(kind: str) -> Tensor:
        query, key, value = (get(f"self_attn.{name}_proj", kind) for name in ("q", "k", "v"))
        return torch.cat([query / math.sqrt(len(query) / heads), key, value])

    factor = _QUICK_GELU if activation == "quick_gelu" else 1.0
    yield from after_norm("layer_norm1", qkv("weight"), qkv("bias"))
    yield from (get("self_attn.out_proj", kind) for kind in ("weight", "bias"))
    up = after_norm("layer_norm2", get("mlp.fc1", "weight"), get("mlp.fc1", "bias"))
    yield from (factor * tensor for tensor in up)
    yield get("mlp.fc2", "weight") / factor
    yield get("mlp.fc2", "bias")
