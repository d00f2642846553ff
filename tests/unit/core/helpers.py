"""A tiny text encoder and image features that its classes can be told apart by."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedrsclip_core.clip.files import ClipFiles, find_clip
from fedrsclip_core.clip.text_encoder import PackedTextEncoder
from fedrsclip_core.clip.text_tower import load_text_tower
from fedrsclip_core.clip.tokens import tokenize_prompts
from fedrsclip_core.config.schema import Config, ModelConfig
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT, SharedTensors
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.learning.dual_prompt import Given
from tests.tiny_clip import make_tiny_clip

N_CTX = 4
WORDS = ("harbor", "forest", "golf course", "runway")


def tiny_files(folder: Path) -> ClipFiles:
    return find_clip(ModelConfig(name="tiny"), make_tiny_clip(folder))


def tiny_encoder(
    files: ClipFiles,
    n_ctx: int = N_CTX,
    dtype: torch.dtype = torch.float32,
    words: Sequence[str] = WORDS,
) -> PackedTextEncoder:
    tokens = tokenize_prompts(files, words, n_ctx)
    return PackedTextEncoder(load_text_tower(files, tokens.ids, dtype=dtype), tokens)


def separable(dim: int, per_class: int = 10, seed: int = 0, classes: int = 4) -> FeatureSet:
    """Image features around one random direction per class."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((len(WORDS), dim))
    labels = np.arange(classes).repeat(per_class)
    noisy = centres[labels] + 0.3 * generator.standard_normal((len(labels), dim))
    rows = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    return FeatureSet(rows.astype(np.float32), labels.astype(np.int64))


def prompt(files: ClipFiles, seed: int, std: float = 0.05) -> NDArray[np.float32]:
    draws = np.random.default_rng(seed).standard_normal((N_CTX, files.width))
    return (std * draws).astype(np.float32)


def quiet_config() -> Config:
    """No term but the fused one, a constant learning rate, several batches."""
    config = Config()
    config.loss.lambda_shared = config.loss.lambda_private = 0.0
    config.loss.lambda_dpac = config.loss.lambda_cmfac = 0.0
    config.prompt.beta = 0.5
    config.optimizer.schedule = "constant"
    config.optimizer.batch_size = 16
    config.optimizer.lr = 0.01
    config.optimizer.private_lr = None
    return config


def sharing(prompt: NDArray[np.float32] | None) -> SharedTensors:
    """What is shared by a method that shares this prompt, or nothing."""
    return {} if prompt is None else {SHARED_PROMPT: prompt}


def given(encoder: PackedTextEncoder) -> Given:
    """A template whose text features are axes."""
    return Given(np.eye(encoder.n_cls, encoder.dim, dtype=np.float32))
