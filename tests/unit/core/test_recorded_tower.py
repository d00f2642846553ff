"""The image tower's recorded kernels on a CUDA device."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from client_app.encoders import make_repeatable
from fedrsclip_core.clip.image_encoder import ImageEncoder
from tests.unit.core.helpers import tiny_files

pytestmark = [
    pytest.mark.unit,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def batches(encoder: ImageEncoder, sizes: list[int]) -> list[list[torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    shape = (3, encoder.side, encoder.side)
    return [[torch.randn(shape, generator=draw) for _ in range(size)] for size in sizes]


def test_a_recorded_batch_has_the_bits_of_its_kernels(tmp_path: Path) -> None:
    """The third batch of four is the first that is replayed; others go between."""
    make_repeatable(1)
    files = tiny_files(tmp_path / "clip")
    given = batches(ImageEncoder(files, "cuda"), [4, 4, 4, 3, 4, 1, 4])
    recording = ImageEncoder(files, "cuda")
    found = [recording.encode(batch) for batch in given]
    for batch, features in zip(given, found, strict=True):
        never_twice = ImageEncoder(files, "cuda")
        np.testing.assert_array_equal(never_twice.encode(batch), features)


def test_threads_may_encode_at_once(tmp_path: Path) -> None:
    make_repeatable(1)
    encoder = ImageEncoder(tiny_files(tmp_path / "clip"), "cuda")
    given = batches(encoder, [8] * 40)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(encoder.encode, given))
    alone = [encoder.encode(batch) for batch in given]
    np.testing.assert_array_equal(together, alone)
