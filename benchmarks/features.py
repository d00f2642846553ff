"""Images per second into an empty feature cache, against the encoder alone and decoding alone.

    python -m benchmarks.features --images 256 --side 256 600 --threads 2

The cache decodes and prepares the next images while a batch is encoded. `encoder` has prepared
images in memory, and so has `plain`, HuggingFace's own; `decode` reads, decodes and prepares images
one by one. They take turns.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.inputs import save_images, save_random_clip
from benchmarks.measuring import Report, arguments, in_turns, medians, publish, settings_of
from fedrsclip_core.clip import ClipFiles, find_clip
from fedrsclip_core.data.features import Encoding, FeatureCache
from fedrsclip_core.data.folder import FolderSource
from fedrsclip_core.image_encoder import ImageEncoder
from fedrsclip_core.schema import ModelConfig

BATCH = 32


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def through_the_cache(
    folder: Path, files: ClipFiles, source: FolderSource, encoder: ImageEncoder
) -> NDArray[np.float32]:
    """Fill an empty cache and return its features."""
    shutil.rmtree(folder, ignore_errors=True)
    cache = FeatureCache(folder, files.encoder_key, files.dim, 2**33)
    features, _ = cache.features(
        source,
        range(len(source)),
        lambda: Encoding(encoder.prepare, encoder.encode),
        batch_size=BATCH,
        max_unreadable=0.0,
        on_event=print,
    )
    return features


def plain_features(files: ClipFiles, source: FolderSource, count: int) -> NDArray[np.float32]:
    """HuggingFace's own preprocessing and model on the first images."""
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil.from_pretrained(files.folder)
    pixels = processor(images=[source.image(i) for i in range(count)], return_tensors="pt")
    features = plain_encode(plain_model(files), pixels["pixel_values"])
    return torch.nn.functional.normalize(features, dim=1).numpy()


def plain_model(files: ClipFiles) -> Any:
    """Load HuggingFace's own model."""
    from transformers import CLIPModel

    model: Any = CLIPModel.from_pretrained(files.folder)
    return model.eval()


def plain_encode(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Encode a batch with it."""
    with torch.inference_mode():
        features: torch.Tensor = model.get_image_features(pixel_values=pixels).pooler_output
    return features


def measure(
    folder: Path, files: ClipFiles, encoder: ImageEncoder, side: int, images: int, repeats: int
) -> dict[str, float | int | str | None]:
    """Return one row: rates for images of one size."""
    source = FolderSource(save_images(folder / f"{side}", ["scene"], images, side))
    prepared = [encoder.prepare(source.image(i)) for i in range(images)]
    batches = [prepared[k : k + BATCH] for k in range(0, images, BATCH)]
    cache, plain = folder / "cache", plain_model(files)
    seconds = medians(
        in_turns(
            {
                "decode": lambda: timed(
                    lambda: [encoder.prepare(source.image(i)) for i in range(images)]
                ),
                "plain": lambda: timed(
                    lambda: [plain_encode(plain, torch.stack(batch)) for batch in batches]
                ),
                "encoder": lambda: timed(lambda: [encoder.encode(batch) for batch in batches]),
                "cache": lambda: timed(lambda: through_the_cache(cache, files, source, encoder)),
            },
            repeats,
            warm_up=0,
        )
    )
    checked = min(BATCH, images)
    ours = through_the_cache(cache, files, source, encoder)[:checked]
    rates = {name: images / value for name, value in seconds.items()}
    return {
        "side": side,
        "decode, images/s": rates["decode"],
        "plain, images/s": rates["plain"],
        "encoder, images/s": rates["encoder"],
        "cold cache, images/s": rates["cache"],
        "% of the encoder": 100 * rates["cache"] / rates["encoder"],
        "one after the other, %": 100
        * seconds["encoder"]
        / (seconds["encoder"] + seconds["decode"]),
        "max abs difference": float(np.abs(ours - plain_features(files, source, checked)).max()),
    }


def main(arguments_: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--side", type=int, nargs="+", default=[256], help="pixels of a side")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments_)
    torch.set_num_threads(options.threads)
    report = Report("features", settings_of(options))
    with tempfile.TemporaryDirectory() as folder:
        files = find_clip(ModelConfig(), save_random_clip(Path(folder) / "clip"))
        encoder = ImageEncoder(files, "cpu")
        for side in options.side:
            row = measure(Path(folder), files, encoder, side, options.images, options.repeats)
            report.rows.append(row)
    report.notes = [
        "ViT-B/32 size, fp32. `one after the other` is what the two rates would give without "
        "overlap. The last column compares with HuggingFace's own features: it must stay below "
        "1e-5.",
    ]
    publish(report, options.json)


if __name__ == "__main__":
    main()
