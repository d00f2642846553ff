"""The packed prompt encoder: exact CLIP text features of learned prompts, without repeated work.

The prompts of all classes share ``[SOS] ctx``; causal attention makes that prefix's keys and
values the same for every class. So one sequence holds the prefix once and then every class's
suffix (name, full stop, end), under a tree mask: a suffix token sees the prefix and the earlier
tokens of its own class, at the position it has in the unpacked prompt. Nothing after EOS exists,
and only the EOS rows leave the last layer. Several prompts (shared and private, or several
clients') are a batch dimension over the same frozen tree.
"""

import torch
from torch import Tensor
from torch.nn import functional

from fedrsclip_core.text_tower import TextLayer, TextTower
from fedrsclip_core.tokens import PromptTokens


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

    @property
    def device(self) -> torch.device:
        """Where the frozen tensors are."""
        return self._start.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of computation."""
        return self._start.dtype

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
            HuggingFace's ``get_text_features`` on the unpacked prompts.
        """
        batch = prompts.shape[0]
        start = self._start.expand(batch, -1, -1)
        suffixes = self._suffixes.expand(batch, -1, -1)
        context = prompts + self._context_positions
        hidden = torch.cat([start, context, suffixes], dim=1)  # (K, T, width)
        layers = self._tower.layers
        for layer in layers[:-1]:
            hidden = self._layer(layer, hidden, None)
        pooled = self._layer(layers[-1], hidden, self._eos_rows)  # (K, n_cls, width)
        pooled = functional.layer_norm(
            pooled,
            pooled.shape[-1:],
            self._tower.final_weight,
            self._tower.final_bias,
            self._tower.eps,
        )
        return functional.linear(pooled, self._tower.projection)  # (K, n_cls, dim)

    def _layer(self, layer: TextLayer, hidden: Tensor, rows: Tensor | None) -> Tensor:
        """One transformer layer; with ``rows``, only those rows leave it."""
        tower, width = self._tower, hidden.shape[-1:]
        normed = functional.layer_norm(
            hidden, width, layer.norm1_weight, layer.norm1_bias, tower.eps
        )
        attended = self._attention(layer, normed, rows)
        residual = hidden if rows is None else hidden[:, rows]
        hidden = residual + functional.linear(attended, layer.out_weight, layer.out_bias)
        normed = functional.layer_norm(
            hidden, width, layer.norm2_weight, layer.norm2_bias, tower.eps
        )
        up = _activate(functional.linear(normed, layer.up_weight, layer.up_bias), tower.activation)
        return hidden + functional.linear(up, layer.down_weight, layer.down_bias)

    def _attention(self, layer: TextLayer, normed: Tensor, rows: Tensor | None) -> Tensor:
        """Tree-masked attention; plain products beat masked SDPA's backward on CPU."""
        width, heads = normed.shape[-1], self._tower.num_heads
        if rows is None:
            joint = functional.linear(normed, layer.qkv_weight, layer.qkv_bias)
            query, key, value = joint.chunk(3, dim=-1)
            mask = self._mask
        else:
            query = functional.linear(
                normed[:, rows], layer.qkv_weight[:width], layer.qkv_bias[:width]
            )
            joint = functional.linear(normed, layer.qkv_weight[width:], layer.qkv_bias[width:])
            key, value = joint.chunk(2, dim=-1)
            mask = self._mask[rows]
        query, key, value = (_split_heads(part, heads) for part in (query, key, value))
        scores = (query * (width // heads) ** -0.5) @ key.transpose(-1, -2)  # (K, heads, Q, T)
        attended = torch.softmax(scores + mask, dim=-1) @ value  # (K, heads, Q, width / heads)
        return attended.transpose(1, 2).flatten(2)  # (K, Q, width)


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


def _split_heads(tensor: Tensor, heads: int) -> Tensor:
    """Turn ``(K, T, width)`` into ``(K, heads, T, width / heads)``."""
    return tensor.reshape(*tensor.shape[:-1], heads, -1).transpose(1, 2)


def _activate(tensor: Tensor, name: str) -> Tensor:
    if name == "quick_gelu":
        return tensor * torch.sigmoid(1.702 * tensor)
    if name == "relu":
        return functional.relu(tensor)
    return functional.gelu(tensor, approximate="none" if name == "gelu" else "tanh")
