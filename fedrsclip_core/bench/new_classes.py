"""Held-out images of classes that a run did not know, over the names of these classes."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedrsclip_core import paths
from fedrsclip_core.classifier import unit
from fedrsclip_core.clip import ClipFiles, find_clip
from fedrsclip_core.data.features import FeatureCache
from fedrsclip_core.data.featureset import FeatureSet
from fedrsclip_core.data.federated import open_client_data
from fedrsclip_core.data.names import words_for
from fedrsclip_core.evaluation import text_features
from fedrsclip_core.image_encoder import ImageEncoder
from fedrsclip_core.prompts import ClientState
from fedrsclip_core.schema import Config
from fedrsclip_core.text_encoder import PackedTextEncoder
from fedrsclip_core.text_tower import load_text_tower
from fedrsclip_core.tokens import tokenize_prompts, tokenize_template

_BATCH, _MAX_CACHE_BYTES = 32, 8 * 2**30


def new_accuracies(config: Config, new: list[str], prompt: Path | None) -> dict[str, float | None]:
    """Classify the test images of new classes.

    Parameters
    ----------
    config : Config
        The run's, with site keys, and with all classes, the new ones last.
    new : list[str]
        The new classes.
    prompt : Path or None
        The run's ``shared_prompt.safetensors``; ``None`` for a method without one.

    Returns
    -------
    dict[str, float | None]
        The fraction of right answers by mode.
    """
    files = find_clip(config.model, Path(config.model.path) if config.model.path else None)
    data = _test_images(config, files, len(config.data.class_names) - len(new))
    words = words_for(new, config.data.class_words)
    texts = _texts(config, files, words, prompt)
    return {
        mode: float(((data.features @ text.T).argmax(axis=1) == data.labels).mean())
        for mode, text in texts.items()
    }


def _test_images(config: Config, files: ClipFiles, first: int) -> FeatureSet:
    """Return the test images of the classes from ``first`` on, of all clients."""
    store = FeatureCache(paths.features_dir(), files.encoder_key, files.dim, _MAX_CACHE_BYTES)
    # Loaded only if an image has no feature yet.
    encoder = cache(lambda: ImageEncoder(files, config.federation.device or "cpu"))
    path = Path(config.data.path) if config.data.path else None
    features, labels = [], []
    for client in range(config.federation.num_clients):
        data = open_client_data(
            config, path, partition_id=client, num_partitions=config.federation.num_clients
        )
        test = data.split.test[data.source.labels[data.split.test] >= first]
        rows, kept = store.features(
            data.source,
            test,
            lambda images: encoder().encode(images),
            batch_size=_BATCH,
            max_unreadable=config.data.max_unreadable,
            on_event=lambda _line: None,
        )
        features.append(rows)
        labels.append(data.source.labels[kept] - first)
    return FeatureSet(np.concatenate(features), np.concatenate(labels))


def _texts(
    config: Config, files: ClipFiles, words: list[str], prompt: Path | None
) -> dict[str, NDArray[np.float32]]:
    """Return the classes' unit text features ``(n_cls, dim)`` by mode."""
    from safetensors.numpy import load_file

    shared = None if prompt is None else load_file(prompt)["shared_prompt"]  # (n_ctx, width)
    device = config.federation.device or "cpu"
    prompts = tokenize_prompts(files, words, config.prompt.n_ctx)
    templates = tokenize_template(files, words, config.prompt.template)
    tower = load_text_tower(files, sorted({*prompts.ids, *templates.ids}), device=device)
    with torch.inference_mode():
        empty = torch.empty(1, 0, files.width, device=device)
        zero_shot = unit(PackedTextEncoder(tower, templates)(empty))[0].cpu().numpy()
    texts = {"zero_shot": zero_shot}
    if shared is not None:
        encoder = PackedTextEncoder(tower, prompts)
        found = text_features(encoder, shared, ClientState(None), config.prompt)
        texts["global"] = found["global"]
    return texts
