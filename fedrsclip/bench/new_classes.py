"""Held-out images of classes that a run did not know, over the names of these classes."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedrsclip.bench.images import clients_features, joined
from fedrsclip_core.clip.files import ClipFiles, find_clip
from fedrsclip_core.clip.text_model import load_text_model
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.data.names import words_for
from fedrsclip_core.learning.dual_prompt import Given
from fedrsclip_core.learning.evaluation import shared_features
from fedrsclip_core.runs.shared_prompt import read_shared_prompt


def new_accuracies(config: Config, new: list[str], prompt: Path | None) -> dict[str, float | None]:
    """Classify the test images of new classes.

    Parameters
    ----------
    config : Config
        The run's, with site keys, and with all classes, the new ones last.
    new : list[str]
        The new classes.
    prompt : Path or None
        The run's ``shared_prompt.safetensors``; ``None`` for a method that shares nothing.

    Returns
    -------
    dict[str, float | None]
        The fraction of right answers by mode.
    """
    torch.set_num_threads(config.optimizer.threads)
    files = find_clip(config.model, Path(config.model.path) if config.model.path else None)
    first = len(config.data.class_names) - len(new)
    clients = clients_features(config, files, parts=("test",), first_class=first)
    data = joined([client["test"] for client in clients])
    words = words_for(new, config.data.class_words)
    texts = _texts(config, files, words, prompt)
    return {
        mode: float(((data.features @ text.T).argmax(axis=1) == data.labels - first).mean())
        for mode, text in texts.items()
    }


def _texts(
    config: Config, files: ClipFiles, words: list[str], prompt: Path | None
) -> dict[str, NDArray[np.float32]]:
    """Return the classes' unit text features ``(n_cls, dim)`` by mode."""
    saved = {} if prompt is None else read_shared_prompt(prompt).shared
    device = config.federation.device or "cpu"
    model = load_text_model(files, words, config.prompt.n_ctx, config.prompt.templates, device)
    texts = {"zero_shot": model.zero_shot}
    if SHARED_PROMPT in saved:
        tensors = {SHARED_PROMPT: saved[SHARED_PROMPT]}
        texts["global"] = shared_features(model.encoder, tensors, Given(model.zero_shot))
    elif saved:
        texts["global"] = model.zero_shot  # class offsets say nothing of other classes
    return texts
