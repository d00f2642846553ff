"""The loop that published prompt-learning code runs, in plain HuggingFace and torch.

Every step encodes the batch's pixels by the frozen image encoder, and the whole context of each
class by the frozen text encoder. Losses, fusion, batches and optimizer are those of the method.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.clip.text_encoder import unit
from fedrsclip_core.clip.tokens import PromptTokens
from fedrsclip_core.config.schema import Config
from fedrsclip_core.learning.dual_prompt import TextFeatures, combine
from fedrsclip_core.learning.losses import Batch, PromptLoss
from fedrsclip_core.learning.prompts import ClientState


@dataclass
class PlainLoop:
    """HuggingFace's own CLIP and the leaf tensors that it trains.

    Attributes
    ----------
    model : CLIPModel
        Whole and frozen.
    ids : Tensor
        ``(n_cls, max_positions)`` tokens; the context's places are filled by the prompt.
    prompts : list of Tensor
        Shared, then private if there is one; each ``(n_ctx, width)``.
    weight : Tensor or None
        Fusion weights.
    """

    model: Any
    ids: Tensor
    prompts: list[Tensor]
    weight: Tensor | None
    config: Config
    own_classes: Tensor

    @classmethod
    def start(
        cls,
        files: ClipFiles,
        tokens: PromptTokens,
        shared: Tensor,
        state: ClientState,
        config: Config,
        labels: Tensor,
        device: str = "cpu",
    ) -> "PlainLoop":
        """Load the model and copy the starts to a device."""
        from transformers import CLIPModel

        model: Any = CLIPModel.from_pretrained(files.folder, dtype=torch.float32)
        starts = [shared] if state.private is None else [shared, torch.from_numpy(state.private)]
        weight = None if state.weight is None else torch.from_numpy(state.weight)
        own = torch.zeros(len(tokens.suffixes), dtype=torch.bool)
        own[labels] = True
        return cls(
            model.eval().requires_grad_(False).to(device),
            padded_ids(tokens, files.max_positions).to(device),
            [_leaf(start, device) for start in starts],
            None if weight is None else _leaf(weight, device),
            config,
            own.to(device),
        )

    def optimizer(self) -> torch.optim.SGD:
        """torch's own, with the method's learning rates."""
        settings = self.config.optimizer
        private_lr = settings.lr if settings.private_lr is None else settings.private_lr
        own = [tensor for tensor in (*self.prompts[1:], self.weight) if tensor is not None]
        groups = [{"params": self.prompts[:1], "lr": settings.lr}]
        groups += [{"params": own, "lr": private_lr}] if own else []
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)

    def step(self, optimizer: torch.optim.SGD, pixels: Tensor, labels: Tensor) -> None:
        """Take one step on ``pixels`` ``(B, 3, size, size)``."""
        scale = float(self.model.logit_scale.double().exp())
        loss = PromptLoss(self.config.loss, scale)
        terms = loss.terms(Batch(self.images(pixels), labels), self.classifier())
        optimizer.zero_grad()
        loss.total(terms).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    @torch.no_grad()
    def num_correct(self, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
        """Classify ``(pixels, labels)``: the text once, the images batch by batch."""
        fused = self.classifier().fused
        return sum(
            int((torch.argmax(self.images(pixels) @ fused.T, dim=1) == labels).sum())
            for pixels, labels in batches
        )

    @torch.no_grad()
    def images(self, pixels: Tensor) -> Tensor:
        """Unit image features ``(B, dim)``."""
        return unit(self.model.get_image_features(pixel_values=pixels).pooler_output)

    def classifier(self) -> TextFeatures:
        """Text features of the prompts and their fusion."""
        text = self.text()
        private = text[1] if len(text) > 1 else None
        return combine(text[0], private, self.weight, self.config.prompt)

    def text(self) -> Tensor:
        """Unit text features ``(K, n_cls, dim)`` of all prompts."""
        context = torch.cat([p.expand(len(self.ids), *p.shape) for p in self.prompts])
        n_ctx = context.shape[1]

        def insert(module: object, inputs: object, output: Tensor) -> Tensor:
            return torch.cat([output[:, :1], context, output[:, 1 + n_ctx :]], dim=1)

        embedding = self.model.text_model.embeddings.token_embedding
        hook = embedding.register_forward_hook(insert)
        try:
            output = self.model.get_text_features(input_ids=self.ids.repeat(len(self.prompts), 1))
        finally:
            hook.remove()
        return unit(output.pooler_output).reshape(len(self.prompts), len(self.ids), -1)


def _leaf(start: Tensor, device: str) -> Tensor:
    return start.detach().clone().to(device).requires_grad_()


def padded_ids(tokens: PromptTokens, length: int) -> Tensor:
    """Return ``(n_cls, length)`` ids as a tokenizer pads them, with end tokens."""
    rows: list[Sequence[int]] = [
        [tokens.sos] * (1 + tokens.n_ctx) + list(suffix) for suffix in tokens.suffixes
    ]
    return torch.tensor([[*row, *[row[-1]] * (length - len(row))] for row in rows])
