"""The packed prompt encoder: exact CLIP text features of learned prompts, without repeated work.

The prompts of all classes share ``[SOS] ctx``; causal attention makes that prefix's keys and
values the same for every class. So one sequence holds the prefix once and then every class's
suffix (name, full stop, end), under a tree mask: a suffix token sees the prefix and the earlier
tokens of its own class, at the position it has in the unpacked prompt. Nothing after EOS exists,
and only the EOS rows leave the last layer. Several prompts (shared and private, or several
clients') are a batch dimension over the same frozen tree.

On a GPU a step launches hundreds of kernels, which takes longer than they run. So there the encoder
and its gradient are recorded once for each number of prompts, as CUDA graphs.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fedrsclip_core.clip.quick_gelu import quick_gelu
from fedrsclip_core.clip.text_tower import Affine, TextLayer, TextTower
from fedrsclip_core.clip.tokens import PromptTokens


def unit(tensor: Tensor) -> Tensor:
    """Scale the last dimension to length one."""
    length: Tensor = torch.linalg.vector_norm(tensor, dim=-1, keepdim=True)
    return tensor / length


class PackedTextEncoder:
    """Text features of ``[SOS] prompt name_c . [EOS]`` for all classes at once.

    Parameters
    ----------
    tower : TextTower
        The frozen text tower; its ``token_ids`` must contain the tokens' ids.
    tokens : PromptTokens
        The frozen tokens around the prompts; ``n_ctx`` may be 0 (hand-written templates).
    """

    def __init__(self, tower: TextTower, tokens: PromptTokens) -> None:
        self.n_ctx = tokens.n_ctx
        self.n_cls = len(tokens.suffixes)
        self.logit_scale = tower.logit_scale
        self._tower = tower
        prefix = 1 + tokens.n_ctx
        ids = [tokens.sos, *(i for suffix in tokens.suffixes for i in suffix)]
        places = [0, *(prefix + p for suffix in tokens.suffixes for p in range(len(suffix)))]
        row_of = {token: row for row, token in enumerate(tower.token_ids)}
        rows = torch.tensor([row_of[i] for i in ids], device=tower.token_rows.device)
        frozen = tower.token_rows[rows] + tower.positions[torch.tensor(places, device=rows.device)]
        self._start = frozen[:1]  # (1, width)
        self._suffixes = frozen[1:]  # (n_suffix, width)
        self._context_positions = tower.positions[1:prefix]  # (n_ctx, width)
        self._mask, self._eos_rows = _tree_mask(tokens, frozen)
        self._recorded: dict[int, Callable[[Tensor], Tensor]] = {}

    @property
    def device(self) -> torch.device:
        """Where the frozen tensors are."""
        return self._start.device

    @property
    def dim(self) -> int:
        """The size of a class's text features."""
        return self._tower.projection.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of prompts and of text features: at least that of float32."""
        return torch.promote_types(self._start.dtype, torch.float32)

    def __call__(self, prompts: Tensor) -> Tensor:
        """Encode.

        Parameters
        ----------
        prompts : Tensor
            ``(K, n_ctx, width)``.

        Returns
        -------
        Tensor
            Projected text features, not normalised, ``(K, n_cls, dim)``; they equal
            HuggingFace's ``get_text_features`` on the unpacked prompts. On a GPU those of a call
            with gradients hold until the next one.
        """
        if self.device.type == "cuda" and prompts.requires_grad:
            return self._replayed(prompts)
        return self.encode(prompts)

    def _replayed(self, prompts: Tensor) -> Tensor:
        """Encode by a recorded graph, whose gradient is one, too."""
        count = len(prompts)
        if count not in self._recorded:
            sample = torch.zeros_like(prompts, requires_grad=True)
            recorded: Any = torch.cuda.make_graphed_callables(self.encode, (sample,))
            self._recorded[count] = recorded
        encoded: Tensor = self._recorded[count](prompts)
        return encoded

    def encode(self, prompts: Tensor) -> Tensor:
        """Encode kernel by kernel; arguments and result are those of a call."""
        batch = prompts.shape[0]
        start = self._start.expand(batch, -1, -1)
        suffixes = self._suffixes.expand(batch, -1, -1)
        context = (prompts + self._context_positions).to(start)
        hidden = torch.cat([start, context, suffixes], dim=1)  # (K, T, width)
        layers = self._tower.layers
        for layer in layers[:-1]:
            hidden = self._layer(layer, hidden, None)
        pooled = self._layer(layers[-1], hidden, self._eos_rows)  # (K, n_cls, width)
        pooled = self._normed(pooled, self._tower.final_norm)
        encoded = functional.linear(pooled, self._tower.projection)  # (K, n_cls, dim)
        return encoded.to(self.dtype)

    def _layer(self, layer: TextLayer, hidden: Tensor, rows: Tensor | None) -> Tensor:
        """One transformer layer; with ``rows``, only those rows leave it."""
        attended = self._attention(layer, self._normed(hidden, layer.norm1), rows)
        residual = hidden if rows is None else hidden[:, rows]
        hidden = residual + functional.linear(attended, *layer.out)
        up = functional.linear(self._normed(hidden, layer.norm2), *layer.up)
        return hidden + functional.linear(_activate(up, self._tower.activation), *layer.down)

    def _normed(self, hidden: Tensor, norm: Affine) -> Tensor:
        return functional.layer_norm(hidden, hidden.shape[-1:], *norm, self._tower.eps)

    def _attention(self, layer: TextLayer, normed: Tensor, rows: Tensor | None) -> Tensor:
        """Tree-masked attention; plain products beat masked SDPA's backward on CPU."""
        asking, mask = (normed, self._mask) if rows is None else (normed[:, rows], self._mask[rows])
        # (K * heads, Q, width / heads), and T for Q in the others.
        query = self._heads(functional.linear(asking, *layer.query))
        key = self._heads(functional.linear(normed, *layer.key))
        value = self._heads(functional.linear(normed, *layer.value))
        scale = query.shape[-1] ** -0.5
        scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=scale)  # (K * heads, Q, T)
        attended = torch.bmm(torch.softmax(scores, dim=-1), value)  # (K * heads, Q, width / heads)
        by_head = attended.view(len(normed), self._tower.num_heads, *attended.shape[1:])
        return by_head.transpose(1, 2).flatten(2)  # (K, Q, width)

    def _heads(self, tensor: Tensor) -> Tensor:
        """Turn ``(K, T, width)`` into ``(K * heads, T, width / heads)``."""
        batch, length, width = tensor.shape
        heads = self._tower.num_heads
        split = tensor.view(batch, length, heads, width // heads).transpose(1, 2)
        return split.reshape(batch * heads, length, width // heads)


def _tree_mask(tokens: PromptTokens, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the additive mask ``(T, T)`` and the EOS rows ``(n_cls,)`` of the packed sequence."""
    prefix = 1 + tokens.n_ctx
    lengths = [len(suffix) for suffix in tokens.suffixes]
    branch = torch.tensor(
        [-1] * prefix + [c for c, length in enumerate(lengths) for _ in range(length)]
    )
    earlier = torch.ones(len(branch), len(branch), dtype=torch.bool).tril()
    visible = earlier & ((branch[None, :] == -1) | (branch[None, :] == branch[:, None]))
    mask = torch.zeros(visible.shape).masked_fill(~visible, float("-inf"))
    eos_rows = prefix - 1 + torch.tensor(lengths).cumsum(0)
    return mask.to(like), eos_rows.to(like.device)


def _activate(tensor: Tensor, name: str) -> Tensor:
    if name == "quick_gelu":
        return quick_gelu(tensor)
    if name == "relu":
        return functional.relu(tensor)
    return functional.gelu(tensor, approximate="none" if name == "gelu" else "tanh")
