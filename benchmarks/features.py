"""Images per second into an empty feature cache, against the encoder alone and decoding alone.

    python -m benchmarks.features --images 256 --side 256 600 --threads 2
    python -m benchmarks.features --images 4096 --device cuda

The cache decodes and prepares the next images while batches are encoded. `encoder` has prepared
images in memory and encodes as many batches side by side as the cache does; `plain`, HuggingFace's
own, has them, too. `decode` reads, decodes and prepares images one by one, `without an encoder` is
the cache whose encoder is one that does nothing: what threads of one Python can prepare. They take
turns.
"""

import argparse
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gemm import gflop, gflops_of_product, multiplier, seconds_of
from benchmarks.inputs import save_images, save_random_clip
from benchmarks.measuring import (
    Cell,
    Report,
    add_dtypes,
    arguments,
    chosen_dtypes,
    in_turns,
    medians,
    publish,
    settings_of,
)
from fedrsclip_core.clip.files import ClipFiles, find_clip
from fedrsclip_core.clip.image_encoder import ImageEncoder
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.data.features.encoding import Encoding
from fedrsclip_core.data.features.pipeline import image_threads, in_order, shared_out
from fedrsclip_core.data.folders.source import FolderSource

BATCH = 32


def through_the_cache(
    folder: Path, files: ClipFiles, source: FolderSource, encoding: Encoding, device: str
) -> NDArray[np.float32]:
    """Fill an empty cache and return its features."""
    shutil.rmtree(folder, ignore_errors=True)
    cache = FeatureCache(folder, files.encoder_key, files.dim, 2**33)
    features, _ = cache.features(
        source,
        range(len(source)),
        lambda: encoding,
        batch_size=BATCH,
        max_unreadable=0.0,
        on_event=print,
        device=device,
    )
    return features


class Plain:
    """HuggingFace's own preprocessing and model, in float32."""

    def __init__(self, files: ClipFiles, device: str) -> None:
        from transformers import CLIPImageProcessorPil, CLIPModel

        model: Any = CLIPModel.from_pretrained(files.folder)
        self._processor = CLIPImageProcessorPil.from_pretrained(files.folder)
        self._model, self._device = model.eval().to(device), device

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features of a batch, on the CPU."""
        with torch.inference_mode():
            output = self._model.get_image_features(pixel_values=pixels.to(self._device))
        features: torch.Tensor = output.pooler_output.cpu()
        return features

    def features(self, source: FolderSource, count: int) -> NDArray[np.float32]:
        """Return the unit features of the first images."""
        images = [source.image(i) for i in range(count)]
        pixels = self._processor(images=images, return_tensors="pt")["pixel_values"]
        return torch.nn.functional.normalize(self.encode(pixels), dim=1).numpy()


def measure(
    folder: Path, files: ClipFiles, source: FolderSource, options: argparse.Namespace
) -> dict[str, Cell]:
    """Return a row: rates for images of one size and an encoder of one dtype."""
    device, images = options.device, len(source)
    encoder, plain = ImageEncoder(files, device), Plain(files, device)
    prepared = [encoder.prepare(source.image(i)) for i in range(images)]
    batches = [prepared[k : k + BATCH] for k in range(0, images, BATCH)]

    def read() -> None:
        for i in range(images):
            encoder.prepare(source.image(i))

    def side_by_side() -> None:
        with shared_out(device) as count, image_threads(count) as pool:
            deque(in_order(pool, encoder.encode, batches, count), maxlen=0)

    def cached(encode: Callable[[list[Any]], NDArray[Any]]) -> NDArray[np.float32]:
        encoding = Encoding(encoder.prepare, encode)
        return through_the_cache(folder / "cache", files, source, encoding, device)

    actions: dict[str, Callable[[], object]] = {
        "decode": read,
        "plain": lambda: [plain.encode(torch.stack(batch)) for batch in batches],
        "encoder": side_by_side,
        "without": lambda: cached(lambda given: np.ones((len(given), files.dim), np.float32)),
        "cache": lambda: cached(encoder.encode),
    }
    variants: dict[str, Callable[[], float]] = {
        "gemm": multiplier(files.dtype, device),
        **{name: partial(seconds_of, action, device) for name, action in actions.items()},
    }
    seconds = medians(in_turns(variants, options.repeats, warm_up=0 if device == "cpu" else 1))
    checked = min(BATCH, images)
    ours = cached(encoder.encode)[:checked]
    rates = {name: images / seconds[name] for name in actions}
    gemm = gflops_of_product(device) / seconds["gemm"]
    counted = batches[0][:-1]  # what is recorded on a GPU, batches of another length, cannot be
    count = gflop(lambda: encoder.encode(counted)) / len(counted)
    return {
        "dtype": files.dtype,
        "decode, images/s": rates["decode"],
        "plain, images/s": rates["plain"],
        "encoder, images/s": rates["encoder"],
        "% of GEMM": 100 * count * rates["encoder"] / gemm,
        "without an encoder, images/s": rates["without"],
        "cold cache, images/s": rates["cache"],
        "% of the encoder": 100 * rates["cache"] / rates["encoder"],
        "max abs difference": float(np.abs(ours - plain.features(source, checked)).max()),
    }


def main(arguments_: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--side", type=int, nargs="+", default=[256], help="pixels of a side")
    add_dtypes(parser)
    parser.add_argument("--device", default="cpu", help="cpu, or e.g. cuda")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments_)
    options.dtypes = chosen_dtypes(options)
    torch.set_num_threads(options.threads)
    report = Report("features", settings_of(options))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = find_clip(ModelConfig(), save_random_clip(folder / "clip"))
        for side, dtype in product(options.side, options.dtypes):
            images = folder / f"{side}"
            if not images.exists():
                save_images(images, ["scene"], options.images, side)
            row = measure(folder, replace(files, dtype=dtype), FolderSource(images), options)
            report.rows.append({"side": side, **row})
    report.notes = [
        "ViT-B/32 size; plain is float32. The last column compares with HuggingFace's own "
        "features: for float32 it must stay below 1e-5.",
    ]
    publish(report, options.json)


if __name__ == "__main__":
    main()
