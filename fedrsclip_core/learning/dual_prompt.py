"""The shared and the private side of one client, and what they say together.

The one place that knows how a private prompt is made (of its own, or the shared one plus an offset
of low rank), how class offsets move text features, how the features of both sides are fused, and
which tensors there are. Training and evaluation use the same.

With ``g`` the text encoder, ``T_0`` the hand-written template's features and offsets ``R``, ``r``::

    T_s[c] = unit(unit(g(P_s, c)) + R[c])     without P_s: T_0[c] for unit(g(P_s, c))
    T_k[c] = unit(unit(g(P_k, c)) + r[c])     without P_k: T_s[c] for unit(g(P_k, c)), or T_0[c]
    T[c]   = unit((1 - beta_c) T_s[c] + beta_c T_k[c])

Class offsets are TaskRes' (Yu et al., "Task Residual for Tuning Vision-Language Models", CVPR
2023), here on each side.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedrsclip_core.clip.text_encoder import PackedTextEncoder, unit
from fedrsclip_core.config.schema import PromptConfig
from fedrsclip_core.config.shared_tensors import (
    SHARED_COEFFICIENTS,
    SHARED_OFFSETS,
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
    SharedTensors,
)
from fedrsclip_core.learning.optimal_transport import Transport, transport_logits
from fedrsclip_core.learning.prompts import ClientState


@dataclass(frozen=True)
class TextFeatures:
    """Unit text features of the sides that exist, and what a client classifies with.

    Attributes
    ----------
    shared, private : Tensor or None
        ``(n_cls, dim)`` of each side.
    fused : Tensor
        Their fusion ``(n_cls, dim)``; under a transport both, kept apart, ``(2, n_cls, dim)``.
    transport : Transport or None
        How an image's patches are matched to the prompts that are kept apart.
    anchor : Tensor or None
        The shared features that the private side is held to ``(n_cls, dim)``: ``shared``, or under
        ``shared_gradient: decoupled`` those that arrived, without gradient.
    log_prior : Tensor or None
        Added to the logits of the fusion ``(n_cls,)``.
    """

    shared: Tensor | None
    private: Tensor | None
    fused: Tensor
    transport: Transport | None = None
    anchor: Tensor | None = None
    log_prior: Tensor | None = None

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
            scores = logits(features, self.fused, scale)
            return scores if self.log_prior is None else scores + self.log_prior
        if patches is None:
            raise ValueError("prompts that are kept apart need patch features")
        return transport_logits(patches, self.fused, scale, self.transport)

    def detached(self) -> "TextFeatures":
        """Return the same numbers without their gradients' history."""
        shared = None if self.shared is None else self.shared.detach()
        private = None if self.private is None else self.private.detach()
        return replace(
            self, shared=shared, private=private, fused=self.fused.detach(), anchor=shared
        )


@dataclass(frozen=True)
class Given:
    """What a client's text features are made of and is not learned.

    Attributes
    ----------
    template : NDArray[np.float32]
        Unit text features of the hand-written template ``(n_cls, dim)``.
    log_prior : NDArray[np.float32] or None
        Logarithm of each class's frequency at the client ``(n_cls,)``, where
        ``prompt.class_prior`` asks for it.
    basis : NDArray[np.float32] or None
        Directions ``(size, dim)`` of shared class offsets that are coefficients.
    """

    template: NDArray[np.float32]
    log_prior: NDArray[np.float32] | None = None
    basis: NDArray[np.float32] | None = None


class DualPrompt:
    """A client's prompts, offsets and fusion weights as leaf tensors on the encoder's device.

    Parameters
    ----------
    encoder : PackedTextEncoder
        The frozen text encoder with the federation's classes.
    shared : SharedTensors
        The shared side.
    state : ClientState
        The private side.
    config : PromptConfig
        How the two are fused.
    given : Given
        What is not learned.
    decoupled : bool
        Whether the private side sees the shared one as it was at the first call, without gradient.

    Attributes
    ----------
    shared : dict[str, Tensor]
        Copies of the shared tensors, for gradients, by name.
    private, weight, offset_u, offset_v, class_offsets : Tensor or None
        Copies of the private ones.
    """

    def __init__(
        self,
        encoder: PackedTextEncoder,
        shared: SharedTensors,
        state: ClientState,
        config: PromptConfig,
        given: Given,
        *,
        decoupled: bool = False,
    ) -> None:
        def constant(value: NDArray[np.float32]) -> Tensor:
            return torch.tensor(value, device=encoder.device, dtype=encoder.dtype)

        def leaf(value: NDArray[np.float32] | None) -> Tensor | None:
            return None if value is None else constant(value).requires_grad_()

        self._encoder = encoder
        self._config = config
        self._template = constant(given.template)
        self._log_prior = None if given.log_prior is None else constant(given.log_prior)
        self._basis = None if given.basis is None else constant(given.basis)
        self._decoupled = decoupled
        self._arrived: Tensor | None = None
        self.shared = {name: constant(value).requires_grad_() for name, value in shared.items()}
        self.private = leaf(state.private)
        self.weight = leaf(state.weight)
        self.offset_u = leaf(state.offset_u)
        self.offset_v = leaf(state.offset_v)
        self.class_offsets = leaf(state.class_offsets)

    @property
    def private_prompt(self) -> Tensor | None:
        """The private prompt ``(n_ctx, width)``, if there is one."""
        shared = self.shared.get(SHARED_PROMPT)
        if shared is None or self.offset_u is None or self.offset_v is None:
            return self.private
        return shared + self.offset_u @ self.offset_v

    def text_features(self) -> TextFeatures | None:
        """Encode the prompts in one batch, add offsets and fuse; ``None`` if nothing is learned.

        Without a prompt nothing is encoded: class offsets alone cost a sum.
        """
        private_prompt = self.private_prompt
        prompts = (self.shared.get(SHARED_PROMPT), private_prompt)
        present = [prompt for prompt in prompts if prompt is not None]
        encoded = list(unit(self._encoder(torch.stack(present)))) if present else []
        from_shared = encoded.pop(0) if prompts[0] is not None else None  # (n_cls, dim)
        from_private = encoded.pop(0) if private_prompt is not None else None
        shared = with_offsets(from_shared, self._shared_offsets(), self._template)
        anchor = self._seen_by_private(shared)
        base = self._template if anchor is None else anchor
        private = with_offsets(from_private, self.class_offsets, base)
        if shared is None and private is None:
            return None
        found = combine(anchor, private, self.weight, self._config)
        return replace(found, shared=shared, log_prior=self._log_prior)

    def shared_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the shared tensors, to be sent."""
        return {name: _array(tensor) for name, tensor in self.shared.items()}

    def state(self) -> ClientState:
        """Return the private side, to be stored."""
        return ClientState(
            *(
                None if tensor is None else _array(tensor)
                for tensor in (
                    self.private,
                    self.weight,
                    self.offset_u,
                    self.offset_v,
                    self.class_offsets,
                )
            )
        )

    def _shared_offsets(self) -> Tensor | None:
        """Return the shared class offsets ``(n_cls, dim)``, if there are any."""
        tensors = self.shared
        if SHARED_COEFFICIENTS in tensors:
            if self._basis is None:
                raise ValueError("coefficients need the basis")
            return tensors[SHARED_COEFFICIENTS] @ self._basis
        if SHARED_OFFSETS_U in tensors:
            return tensors[SHARED_OFFSETS_U] @ tensors[SHARED_OFFSETS_V]
        return tensors.get(SHARED_OFFSETS)

    def _seen_by_private(self, shared: Tensor | None) -> Tensor | None:
        if shared is None or not self._decoupled:
            return shared
        if self._arrived is None:
            self._arrived = shared.detach()
        return self._arrived


def with_offsets(
    features: Tensor | None, offsets: Tensor | None, otherwise: Tensor
) -> Tensor | None:
    """Move text features by class offsets: ``unit(T + R)``.

    Parameters
    ----------
    features : Tensor or None
        Unit text features of a prompt ``(n_cls, dim)``, if there is one.
    offsets : Tensor or None
        ``(n_cls, dim)``; without them the features are returned as they are.
    otherwise : Tensor
        What is moved where there is no prompt ``(n_cls, dim)``.
    """
    if offsets is None:
        return features
    return unit((otherwise if features is None else features) + offsets)


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
            return TextFeatures(
                shared, private, torch.stack([shared, private]), transport, anchor=shared
            )
        fused = fuse(shared, private, private_share(weight, config))
        return TextFeatures(shared, private, fused, anchor=shared)
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


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float32).copy()
