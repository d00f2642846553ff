"""What the benchmarks work on: a random CLIP of ViT-B/32's size, and JPEG files of noise."""

import json
import shutil
from pathlib import Path

import numpy as np

from fedrsclip_core.clip import assets

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")


def save_random_clip(folder: Path) -> Path:
    """Write a CLIP of ViT-B/32's size with random weights, which cost what trained ones cost.

    The tokenizer is the demo's: it cuts class names into about as many tokens.
    """
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    demo = assets.demo_clip_folder()
    text = json.loads((demo / "config.json").read_text(encoding="utf-8"))["text_config"]
    special = {name: text[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=special)).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    for name in _TOKENIZER:
        shutil.copyfile(demo / name, folder / name)
    return folder


def save_images(folder: Path, class_names: list[str], per_class: int, side: int) -> Path:
    """Write JPEG files of smooth noise, ``<class>/<number>.jpg``; no two are equal."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for name in class_names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            coarse = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
            image.save(folder / name / f"{number:05d}.jpg", quality=90)
    return folder


def class_names(count: int) -> list[str]:
    """Return names of one or two words, as remote-sensing scenes have them."""
    words = ("forest", "harbor", "river", "dense", "beach", "field", "runway", "golf", "storage")
    pairs = [*words, *(f"{a}_{b}" for a in words for b in words if a != b)]
    return [pairs[k] if k < len(pairs) else f"{pairs[k % len(pairs)]}_{k}" for k in range(count)]
