"""Pretrain the demo CLIP from scratch on generated scenes.

``python -m fedrsclip.demo.pretrain --out DIR --minutes 20 --seed 0`` renders a pool of
pretraining scenes, trains the tokenizer and the model on them, and writes a folder that
``CLIPModel.from_pretrained`` reads. With ``--steps`` instead of ``--minutes`` the result depends
on the seed alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from fedrsclip.demo.captions import NOUNS, VOCABULARY, caption, plain_words
from fedrsclip.demo.tokenizer import train_tokenizer
from fedrsclip_core.demo.canvas import SIZE
from fedrsclip_core.demo.rng import named_generator
from fedrsclip_core.demo.scenes import CLASS_NAMES, Scene, pretraining_scene
from fedrsclip_core.runs.fileio import write_json

MAX_POSITIONS = 77
VOCABULARY_SIZE = 1600
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
MAX_LOGIT_SCALE = math.log(100.0)
HELD_OUT_PER_CLASS = 20
CAPTION_LENGTH = 24


def render_pool(per_class: int, *, seed: int, first: int = 0) -> list[Scene]:
    """Render ``per_class`` pretraining scenes of every class, in all processors."""
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        jobs = [
            pool.submit(_render_class, number, first, per_class, seed)
            for number in range(len(CLASS_NAMES))
        ]
        return [scene for job in jobs for scene in job.result()]


def _render_class(number: int, first: int, count: int, seed: int) -> list[Scene]:
    return [pretraining_scene(number, index, seed=seed) for index in range(first, first + count)]


def build_tokenizer(scenes: list[Scene], folder: Path, *, seed: int) -> Any:
    """Train the tokenizer on captions and general words, and return it as ``CLIPTokenizer``."""
    from transformers import CLIPTokenizer

    rng = named_generator("tokenizer-corpus", seed)
    texts = [caption(scene, rng) for scene in scenes]
    # Often enough that each becomes one token, whatever the captions use most.
    texts += VOCABULARY.split() * 20 + [noun for nouns in NOUNS.values() for noun in nouns] * 20
    train_tokenizer(texts, folder, size=VOCABULARY_SIZE, max_positions=MAX_POSITIONS)
    return CLIPTokenizer.from_pretrained(folder)


def build_model(tokenizer: Any) -> Any:
    """Return a small randomly initialized ``CLIPModel`` that fits ``tokenizer``."""
    from transformers import CLIPConfig, CLIPModel

    common = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4}
    text = {
        **common,
        "num_hidden_layers": 3,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_POSITIONS,
        "hidden_act": "quick_gelu",
        "projection_dim": 128,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        **common,
        "num_hidden_layers": 4,
        "image_size": SIZE,
        "patch_size": 8,
        "hidden_act": "quick_gelu",
        "projection_dim": 128,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


def image_features(model: Any, pixels: torch.Tensor, keep: int | None = None) -> torch.Tensor:
    """Return unit image features ``(B, dim)``, seeing only ``keep`` random patches if given."""
    vision = model.vision_model
    hidden = vision.embeddings(pixels)  # (B, 1 + patches, width)
    if keep is not None:
        patches = torch.rand(hidden.shape[0], hidden.shape[1] - 1).argsort(1)[:, :keep] + 1
        seen = torch.cat([torch.zeros(len(hidden), 1, dtype=torch.long), patches], 1)
        hidden = torch.take_along_dim(hidden, seen[..., None], 1)
    hidden = vision.encoder(inputs_embeds=vision.pre_layrnorm(hidden)).last_hidden_state
    pooled = vision.post_layernorm(hidden[:, 0])
    return functional.normalize(model.visual_projection(pooled).float(), dim=-1)


def text_features(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Return unit text features ``(len(texts), dim)``."""
    batch = tokenizer(
        texts, padding=True, truncation=True, max_length=CAPTION_LENGTH, return_tensors="pt"
    )
    features = model.get_text_features(**batch).pooler_output
    return functional.normalize(features.float(), dim=-1)


def augment(pixels: torch.Tensor) -> torch.Tensor:
    """Turn, mirror and slightly recolour a batch ``(B, 3, H, W)`` in 0..1."""
    if torch.rand(()) < 0.5:
        pixels = pixels.flip(3)
    pixels = pixels.rot90(int(torch.randint(4, ())), (2, 3))
    gain = torch.exp(torch.randn(len(pixels), 3, 1, 1) * 0.08)
    contrast = torch.exp(torch.randn(len(pixels), 1, 1, 1) * 0.12)
    middle = pixels.mean((1, 2, 3), keepdim=True)
    return ((pixels - middle) * contrast + middle).mul(gain).clamp(0, 1)


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Standardize a batch ``(B, 3, H, W)`` in 0..1 as the preprocessor's file says."""
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def to_pixels(scenes: list[Scene]) -> torch.Tensor:
    """Stack scenes to ``(N, 3, H, W)`` uint8."""
    stacked = np.stack([scene.image for scene in scenes])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()


def to_labels(scenes: list[Scene]) -> torch.Tensor:
    """Return the class numbers of scenes, ``(N,)``."""
    return torch.tensor([CLASS_NAMES.index(scene.class_name) for scene in scenes])


def contrastive_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return CLIP's symmetric loss of ``(B, B)`` logits, lenient with pairs of one class.

    With few classes a batch holds many captions that fit an image as well as its own; they share
    half of the target's mass, so that telling them apart is a bonus and not the whole task.
    """
    same = (labels[:, None] == labels[None, :]).float()
    target = 0.5 * torch.eye(len(labels)) + 0.5 * same / same.sum(1, keepdim=True)
    images = functional.cross_entropy(logits, target)
    texts = functional.cross_entropy(logits.T, target)
    return (images + texts) / 2


def train(
    model: Any,
    tokenizer: Any,
    scenes: list[Scene],
    held_out: list[Scene],
    *,
    batch_size: int,
    learning_rate: float,
    seed: int,
    progress: Callable[[int], float],
) -> None:
    """Train in place with the symmetric contrastive loss until ``progress(step)`` reaches 1."""
    torch.manual_seed(seed)
    rng = named_generator("pretraining-order", seed)
    pixels, labels = to_pixels(scenes), to_labels(scenes)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.98),
    )
    model.train()
    step, losses, begun = 0, [], time.monotonic()
    while (done := progress(step)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * _schedule(done)
        picked = rng.integers(len(scenes), size=batch_size)
        texts = [caption(scenes[k], rng) for k in picked]
        batch = normalize(augment(pixels[torch.from_numpy(picked)].float() / 255))
        # Half of the patches suffice for most of the way and cost half.
        keep = 32 if done < 0.75 else None
        images = image_features(model, batch, keep)
        words = text_features(model, tokenizer, texts)
        loss = contrastive_loss(model.logit_scale.exp() * images @ words.T, labels[picked])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.logit_scale.data.clamp_(0, MAX_LOGIT_SCALE)
        losses.append(loss.item())
        step += 1
        if step % 100 == 0:
            accuracy = zero_shot_accuracy(model, tokenizer, held_out)
            print(
                f"step {step}  {done:4.0%}  loss {np.mean(losses[-100:]):.3f}  "
                f"scale {model.logit_scale.exp().item():.1f}  held-out {accuracy:.1%}  "
                f"{time.monotonic() - begun:.0f} s",
                flush=True,
            )
    model.eval()
    print(f"{step} steps, held-out {zero_shot_accuracy(model, tokenizer, held_out):.1%}")


def _schedule(done: float) -> float:
    # Linear warm-up over 4%, then a cosine.
    return min(done / 0.04 + 0.01, 1.0) * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def zero_shot_accuracy(model: Any, tokenizer: Any, scenes: list[Scene]) -> float:
    """Return the share of scenes whose class's plain words match best."""
    prompts = [f"a satellite photo of a {plain_words(name)}." for name in CLASS_NAMES]
    words = text_features(model, tokenizer, prompts)
    images = image_features(model, normalize(to_pixels(scenes).float() / 255))
    hits = (images @ words.T).argmax(1) == to_labels(scenes)
    return float(hits.float().mean())


def save(model: Any, folder: Path) -> None:
    """Write the weights in half precision, the configuration and the preprocessing."""
    model.half().save_pretrained(folder)
    # Half precision is for size only: whoever loads the folder computes in single precision.
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, "dtype": "float32"})
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": SIZE},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": SIZE, "width": SIZE},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(MEAN),
            "image_std": list(STD),
        },
    )


def main() -> None:
    """Pretrain as the command line asks."""
    parser = argparse.ArgumentParser(description="Pretrain the demo CLIP from scratch.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    bound = parser.add_mutually_exclusive_group()
    bound.add_argument("--minutes", type=float, default=20.0, help="time bound of the training")
    bound.add_argument("--steps", type=int, help="step bound, for a reproducible result")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-class", type=int, default=700, help="scenes rendered per class")
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    scenes = render_pool(args.per_class, seed=args.seed)
    held_out = render_pool(HELD_OUT_PER_CLASS, seed=args.seed, first=args.per_class)
    print(f"{len(scenes)} scenes rendered", flush=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer = build_tokenizer(scenes, args.out, seed=args.seed)
    model = build_model(tokenizer)
    begun = time.monotonic()

    def progress(step: int) -> float:
        elapsed: float = (time.monotonic() - begun) / (60 * args.minutes)
        return elapsed if args.steps is None else step / float(args.steps)

    train(
        model,
        tokenizer,
        scenes,
        held_out,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        seed=args.seed,
        progress=progress,
    )
    save(model, args.out)


if __name__ == "__main__":
    main()
