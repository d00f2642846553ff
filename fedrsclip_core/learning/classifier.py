"""What images are compared with when answers are counted."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fedrsclip_core.learning.optimal_transport import Transport

_TRANSPORTED_AT_ONCE = 64


@dataclass(frozen=True)
class Classifier:
    """Text features of all classes.

    Attributes
    ----------
    text : NDArray[np.float32]
        Unit rows ``(n_cls, dim)``, or ``(K, n_cls, dim)`` of prompts that are kept apart.
    transport : Transport or None
        How patches are matched to prompts that are kept apart.
    bias : NDArray[np.float32] or None
        Added to each class's similarity ``(n_cls,)``: a bias of the logits over their scale.
    """

    text: NDArray[np.float32]
    transport: "Transport | None" = None
    bias: NDArray[np.float32] | None = None

    def similarities(
        self, features: NDArray[np.float32], patches: NDArray[np.floating] | None = None
    ) -> NDArray[np.float32]:
        """Compare images with classes: ``(N, n_cls)``.

        Parameters
        ----------
        features : NDArray[np.float32]
            Unit image features ``(N, dim)``.
        patches : NDArray or None
            Unit patch features ``(N, V, dim)``; needed under a transport.
        """
        if self.transport is None:
            scores = features @ self.text.T
            return scores if self.bias is None else scores + self.bias
        if patches is None:
            raise ValueError("prompts that are kept apart need patch features")
        return self._transported(patches, self.transport)

    def _transported(
        self, patches: NDArray[np.floating], transport: "Transport"
    ) -> NDArray[np.float32]:
        import torch

        from fedrsclip_core.learning.optimal_transport import transport_logits

        prompts = torch.from_numpy(self.text)  # (K, n_cls, dim)
        scores = np.empty((len(patches), self.text.shape[1]), dtype=np.float32)
        # The plans of a whole part would take much memory at once.
        for start in range(0, len(patches), _TRANSPORTED_AT_ONCE):
            rows = slice(start, start + _TRANSPORTED_AT_ONCE)
            some = torch.from_numpy(patches[rows]).float()
            scores[rows] = transport_logits(some, prompts, 1.0, transport).numpy()
        return scores
