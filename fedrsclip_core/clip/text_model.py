"""A CLIP's frozen text side for one list of classes: learned prompts and hand-written templates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.clip.text_encoder import PackedTextEncoder, unit
from fedrsclip_core.clip.text_tower import TextTower, load_text_tower
from fedrsclip_core.clip.tokens import PromptTokens, tokenize_prompts, tokenize_templates


@dataclass(frozen=True)
class TextModel:
    """What encodes prompts, and the zero-shot classifier, in which nothing is learned.

    Attributes
    ----------
    encoder : PackedTextEncoder
        For prompts ``(n_ctx, width)``.
    zero_shot : NDArray[np.float32]
        Unit text features of the templates ``(n_cls, dim)``.
    """

    encoder: PackedTextEncoder
    zero_shot: NDArray[np.float32]


def load_text_model(
    files: ClipFiles, words: Sequence[str], n_ctx: int, templates: Sequence[str], device: str
) -> TextModel:
    """Load the text tower and what it needs for these classes.

    Parameters
    ----------
    files : ClipFiles
        Which CLIP.
    words : Sequence[str]
        The classes as the text encoder reads them.
    n_ctx : int
        Context vectors of a learned prompt.
    templates : Sequence[str]
        Hand-written prompts with ``{}`` for the class.
    device : str
        A torch device.

    Raises
    ------
    ConfigError
        If a prompt is too long for the text encoder.
    ModelError
        If the files cannot be read.
    """
    prompts = tokenize_prompts(files, words, n_ctx)
    written = tokenize_templates(files, words, templates)
    ids = sorted({*prompts.ids, *(token for tokens in written for token in tokens.ids)})
    tower = load_text_tower(files, ids, device=device)
    return TextModel(PackedTextEncoder(tower, prompts), template_features(tower, written))


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
