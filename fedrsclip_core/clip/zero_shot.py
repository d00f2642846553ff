"""The zero-shot classifier: CLIP with hand-written templates, nothing learned."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedrsclip_core.clip.text_encoder import PackedTextEncoder, unit
from fedrsclip_core.clip.text_tower import TextTower
from fedrsclip_core.clip.tokens import PromptTokens


def template_features(tower: TextTower, templates: Sequence[PromptTokens]) -> NDArray[np.float32]:
    """Return each class's text features: the mean over the templates, as CLIP's authors ensemble.

    Parameters
    ----------
    tower : TextTower
        The frozen text encoder, with the templates' embedding rows.
    templates : Sequence[PromptTokens]
        All classes in each template.

    Returns
    -------
    NDArray[np.float32]
        Unit features ``(n_cls, dim)``: ``unit(mean_t unit(g(t, c)))``.

    References
    ----------
    Radford et al., Learning Transferable Visual Models From Natural Language Supervision, section
    3.1.4.
    """
    rows = tower.token_rows
    empty = rows.new_empty(1, 0, rows.shape[1])
    with torch.inference_mode():
        single = [unit(PackedTextEncoder(tower, tokens)(empty))[0] for tokens in templates]
        return unit(torch.stack(single).mean(dim=0)).cpu().numpy()  # (n_cls, dim)
