"""The shared and the private prompt of one client, and what they say together.

The one place that knows how a private prompt is made (of its own, or the shared one plus an offset
of low rank), how the text features of both are fused, and which tensors there are. Training and
evaluation use the same.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedrsclip_core.clip.text_encoder import PackedTextEncoder, unit
from fedrsclip_core.config.schema import PromptConfig
from fedrsclip_core.learning.optimal_transport import Transport, transport_logits
from fedrsclip_core.learning.prompts import ClientState


@dataclass(frozen=True)
class TextFeatures:
    """Unit text features of the prompts that exist, and what a client classifies with.

    Attributes
    ----------
    shared, private : Tensor or None
        ``(n_cls, dim)`` of each prompt.
    fused : Tensor
        Their fusion ``(n_cls, dim)``; under a transport both, kept apart, ``(2, n_cls, dim)``.
    transport : Transport or None
        How an image's patches are matched to the prompts that are kept apart.
    """

    shared: Tensor | None
    private: Tensor | None
    fused: Tensor
    transport: Transport | None = None

    def fused_logits(self, features: Tensor, patches: Tensor | None, scale: float) -> Tensor:
        """Classify by the fusion, or by an image's patches where the prompts are kept apart.

        Parameters
        ----------
        features : Tensor
            Unit image features ``(N, dim)``.
        patches : Tensor or None
            Unit patch features ``(N, V, dim)``; needed under a transport.
        scale : float
            Inverse temperature.

        Returns
        -------
        Tensor
            ``(N, n_cls)``.
        """
        if self.transport is None:
            return logits(features, self.fused, scale)
        if patches is None:
            raise ValueError("prompts that are kept apart need patch features")
        return transport_logits(patches, self.fused, scale, self.transport)

    def detached(self) -> "TextFeatures":
        """Return the same numbers without their gradients' history."""
        shared = None if self.shared is None else self.shared.detach()
        private = None if self.private is None else self.private.detach()
        return replace(self, shared=shared, private=private, fused=self.fused.detach())


class DualPrompt:
    """A client's prompts and fusion weights as leaf tensors on the text encoder's device.

    Parameters
    ----------
    encoder : PackedTextEncoder
        The frozen text encoder with the federation's classes.
    shared : NDArray[np.float32] or None
        The shared prompt ``(n_ctx, width)``.
    state : ClientState
        The private part.
    config : PromptConfig
        How the two are fused.

    Attributes
    ----------
    shared, private, weight, offset_u, offset_v : Tensor or None
        Copies of what was given, for gradients.
    """

    def __init__(
        self,
        encoder: PackedTextEncoder,
        shared: NDArray[np.float32] | None,
        state: ClientState,
        config: PromptConfig,
    ) -> None:
        def leaf(value: NDArray[np.float32] | None) -> Tensor | None:
            if value is None:
                return None
            tensor = torch.tensor(value, device=encoder.device, dtype=encoder.dtype)
            return tensor.requires_grad_()

        self._encoder = encoder
        self._config = config
        self.shared = leaf(shared)
        self.private = leaf(state.private)
        self.weight = leaf(state.weight)
        self.offset_u = leaf(state.offset_u)
        self.offset_v = leaf(state.offset_v)

    @property
    def private_prompt(self) -> Tensor | None:
        """The private prompt ``(n_ctx, width)``, if there is one."""
        if self.shared is None or self.offset_u is None or self.offset_v is None:
            return self.private
        return self.shared + self.offset_u @ self.offset_v

    def text_features(self) -> TextFeatures | None:
        """Encode both prompts in one batch and fuse them; ``None`` without a prompt."""
        private_prompt = self.private_prompt
        present = [prompt for prompt in (self.shared, private_prompt) if prompt is not None]
        if not present:
            return None
        encoded = list(unit(self._encoder(torch.stack(present))))  # each (n_cls, dim)
        shared = None if self.shared is None else encoded.pop(0)
        private = None if private_prompt is None else encoded.pop(0)
        return combine(shared, private, self.weight, self._config)

    def shared_array(self) -> NDArray[np.float32] | None:
        """Return the shared prompt, to be sent."""
        return _array(self.shared)

    def state(self) -> ClientState:
        """Return the private part, to be stored."""
        return ClientState(
            _array(self.private), _array(self.weight), _array(self.offset_u), _array(self.offset_v)
        )


def combine(
    shared: Tensor | None, private: Tensor | None, weight: Tensor | None, config: PromptConfig
) -> TextFeatures:
    """Fuse the text features of the prompts that exist; with one only, the fusion is that one.

    Parameters
    ----------
    shared, private : Tensor or None
        Unit text features ``(n_cls, dim)``.
    weight : Tensor or None
        What the client has learned of the fusion, as in :class:`ClientState`.
    config : PromptConfig
        ``fusion`` and ``beta`` are read, under ``transport`` also its parameters.

    Raises
    ------
    ValueError
        If neither exists.
    """
    if shared is not None and private is not None:
        transport = Transport.of(config)
        if transport is not None:
            return TextFeatures(shared, private, torch.stack([shared, private]), transport)
        return TextFeatures(shared, private, fuse(shared, private, private_share(weight, config)))
    alone = private if shared is None else shared
    if alone is None:
        raise ValueError("no prompt to classify with")
    return TextFeatures(shared, private, alone)


def fuse(shared: Tensor, private: Tensor, share: Tensor | float) -> Tensor:
    """Fuse two sets of text features: ``unit((1 - share) * shared + share * private)``.

    A share above 1 goes beyond the private features, away from the shared ones; a negative one
    the other way.

    Parameters
    ----------
    shared, private : Tensor
        Unit text features ``(n_cls, dim)``.
    share : Tensor or float
        Of the private features: a number, ``(1,)`` or one per class ``(n_cls,)``.

    Returns
    -------
    Tensor
        Unit features ``(n_cls, dim)``.
    """
    if isinstance(share, Tensor):
        share = share[:, None]  # (1 or n_cls, 1)
    return unit((1 - share) * shared + share * private)


def private_share(weight: Tensor | None, config: PromptConfig) -> Tensor | float:
    """Return the private features' share: ``beta``, a gate's sigmoid, or the weight itself."""
    if weight is None:
        return config.beta
    return weight if config.fusion == "class_weight" else torch.sigmoid(weight)


def logits(features: Tensor, text: Tensor, scale: float) -> Tensor:
    """Cosine similarities over the temperature: ``(N, dim), (n_cls, dim) -> (N, n_cls)``."""
    return scale * features @ text.T


def _array(tensor: Tensor | None) -> NDArray[np.float32] | None:
    if tensor is None:
        return None
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float32).copy()
