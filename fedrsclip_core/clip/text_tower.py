"""The frozen text tower as plain tensors, and only the token embeddings that are needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from fedrsclip_core.clip.weights import (
    LAYER_PARTS,
    load_token_rows,
    read_tensors,
    text_tensor_names,
)

if TYPE_CHECKING:
    from fedrsclip_core.clip.files import ClipFiles

_LAYER = "text_model.encoder.layers"


class Affine(NamedTuple):
    """A matrix (or a LayerNorm's scale) and what is added, as a checkpoint has them."""

    weight: Tensor  # (out, in), of a norm (width,)
    bias: Tensor  # (out,)


@dataclass(frozen=True)
class TextLayer:
    """One pre-norm transformer layer.

    Its tensors stay the ones that were read, which processes on one machine share in memory.
    Folding norms, scales and activations into matrices makes a step 2 to 5 per cent faster, but
    gives each process 150 MiB of its own (ViT-B).
    """

    norm1: Affine
    query: Affine
    key: Affine
    value: Affine
    out: Affine
    norm2: Affine
    up: Affine
    down: Affine


@dataclass(frozen=True)
class TextTower:
    """What ``g`` needs, on one device and in one dtype.

    Attributes
    ----------
    layers : tuple[TextLayer, ...]
        The transformer.
    final_norm : Affine
        Last LayerNorm.
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
        One of :data:`fedrsclip_core.clip.files.ACTIVATIONS`.
    eps : float
        LayerNorm's epsilon.
    logit_scale : float
        ``exp(logit_scale)``, the inverse temperature.
    """

    layers: tuple[TextLayer, ...]
    final_norm: Affine
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
        If tensors are missing.
    """
    config = files.text_config
    num_layers = int(config["num_hidden_layers"])
    tensors = read_tensors(files.folder, text_tensor_names(num_layers))
    dtype = dtype or getattr(torch, files.dtype)

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device=device, dtype=dtype)

    def affine(name: str) -> Affine:
        return Affine(moved(tensors[f"{name}.weight"]), moved(tensors[f"{name}.bias"]))

    def layer(index: int) -> TextLayer:
        return TextLayer(*(affine(f"{_LAYER}.{index}.{part}") for part in LAYER_PARTS))

    return TextTower(
        layers=tuple(map(layer, range(num_layers))),
        final_norm=affine("text_model.final_layer_norm"),
        projection=moved(tensors["text_projection.weight"]),
        positions=moved(tensors["text_model.embeddings.position_embedding.weight"]),
        token_rows=moved(torch.from_numpy(load_token_rows(files.folder, ids))),
        token_ids=tuple(ids),
        num_heads=int(config["num_attention_heads"]),
        activation=str(config["hidden_act"]),
        eps=float(config["layer_norm_eps"]),
        logit_scale=float(tensors["logit_scale"].double().exp()),
    )
