"""Measure the demo stage: ``python -m fedrsclip.demo.measure --model DIR``.

Prints zero-shot accuracy with and without domain shift, per class, and two linear probes: on
colour histograms (colour must not give the classes away) and on the CLIP's own features (prompts
must have something to gain).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedrsclip.demo.captions import plain_words
from fedrsclip.demo.probes import Features, Labels, colour_histograms, linear_probe
from fedrsclip_core.demo.domains import FEDERATION_STRENGTH
from fedrsclip_core.demo.scenes import CLASS_NAMES, FEDERATION, PRETRAINING, render

TEMPLATE = "a satellite photo of a {}."
# Far above any index that pretraining renders.
UNSEEN = 1_000_000


def scene_set(
    per_class: int,
    *,
    seed: int,
    num_domains: int,
    stream: str = FEDERATION,
    strength: float = FEDERATION_STRENGTH,
) -> tuple[npt.NDArray[np.uint8], Labels]:
    """Render ``per_class`` scenes of every class, spread evenly over the domains.

    Returns
    -------
    tuple of numpy.ndarray
        Images ``(N, 64, 64, 3)`` and labels ``(N,)``. ``num_domains`` 0 means no shift.
    """
    images = [
        render(
            number,
            UNSEEN + index,
            seed=seed,
            domain=index % num_domains if num_domains else None,
            stream=stream,
            strength=strength,
        )
        for number in range(len(CLASS_NAMES))
        for index in range(per_class)
    ]
    return np.stack(images), np.repeat(np.arange(len(CLASS_NAMES)), per_class)


def load(folder: Path) -> tuple[Any, Any]:
    """Load the model, in single precision, and its tokenizer."""
    import torch
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model, CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def image_features(model: Any, folder: Path, images: npt.NDArray[np.uint8]) -> Features:
    """Return unit image features ``(N, dim)``, preprocessed as the folder's own file says."""
    import torch

    settings = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    pixels = images.astype(np.float32) * settings["rescale_factor"]
    pixels = (pixels - np.float32(settings["image_mean"])) / np.float32(settings["image_std"])
    batches = torch.split(torch.from_numpy(pixels).permute(0, 3, 1, 2), 128)
    with torch.inference_mode():
        parts = [model.get_image_features(pixel_values=batch).pooler_output for batch in batches]
    return _unit(torch.cat(parts).numpy())


def class_features(model: Any, tokenizer: Any) -> Features:
    """Return unit text features of the classes' plain words in ``TEMPLATE``, ``(n_cls, dim)``."""
    import torch

    prompts = [TEMPLATE.format(plain_words(name)) for name in CLASS_NAMES]
    with torch.inference_mode():
        batch = tokenizer(prompts, padding=True, return_tensors="pt")
        return _unit(model.get_text_features(**batch).pooler_output.numpy())


def _unit(rows: Features) -> Features:
    unit: Features = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def accuracy_per_class(images: Features, texts: Features, labels: Labels) -> Features:
    """Return the zero-shot accuracy of each class, ``(n_cls,)``."""
    hits = (images @ texts.T).argmax(1) == labels
    return np.array([hits[labels == number].mean() for number in range(len(texts))])


def main() -> None:
    """Print the figures of the model the command line names."""
    parser = argparse.ArgumentParser(description="Measure the demo CLIP on demo scenes.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--per-class", type=int, default=60)
    parser.add_argument("--domains", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strength", type=float, default=FEDERATION_STRENGTH)
    args = parser.parse_args()

    model, tokenizer = load(args.model)
    texts = class_features(model, tokenizer)

    def score(stream: str, num_domains: int) -> tuple[npt.NDArray[np.uint8], Features, Labels]:
        images, labels = scene_set(
            args.per_class,
            seed=args.seed,
            num_domains=num_domains,
            stream=stream,
            strength=args.strength,
        )
        return images, image_features(model, args.model, images), labels

    print(f'zero-shot with "{TEMPLATE}", {args.per_class} scenes per class')
    for stream, num_domains in ((PRETRAINING, 0), (FEDERATION, 0), (FEDERATION, args.domains)):
        images, features, labels = score(stream, num_domains)
        per_class = accuracy_per_class(features, texts, labels)
        where = f"{num_domains} domains" if num_domains else "no shift"
        print(f"  {stream:11} {where:10} {per_class.mean():6.1%}")
    print("per class, federation with shift")
    for name, accuracy in zip(CLASS_NAMES, per_class, strict=True):
        print(f"  {name:18} {accuracy:6.1%}")
    print(f"per domain, federation with shift ({args.domains})")
    hits = (features @ texts.T).argmax(1) == labels
    domains = np.tile(np.arange(args.per_class) % args.domains, len(CLASS_NAMES))
    print("  " + "  ".join(f"{hits[domains == k].mean():.0%}" for k in range(args.domains)))
    print("linear probes, federation with shift, 70% train, 30% test")
    print(f"  colour histograms  {linear_probe(colour_histograms(images), labels):6.1%}")
    print(f"  image features     {linear_probe(features, labels):6.1%}")


if __name__ == "__main__":
    main()
