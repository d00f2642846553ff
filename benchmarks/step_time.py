"""Milliseconds per training step against a plain HuggingFace loop that learns the same prompts.

    python benchmarks/step_time.py --classes 21 45 --n-ctx 4 --threads 2

The plain loop does what published prompt-learning code does: the frozen image encoder on every
batch's pixels, and the whole frozen text encoder on 77 tokens per class. Ours trains on cached
image features with the packed text encoder. Model: the size of CLIP ViT-B/32 with random weights
and random tokens, which cost what trained ones cost. Losses, optimizer and batch are the same; the
variants take turns, and medians are printed as a Markdown table.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedrsclip_core.classifier import unit
from fedrsclip_core.clip import ClipFiles
from fedrsclip_core.losses import TextFeatures, combine, loss_terms, total_loss
from fedrsclip_core.schema import LossConfig
from fedrsclip_core.text_encoder import PackedTextEncoder
from fedrsclip_core.text_tower import load_text_tower
from fedrsclip_core.tokens import PromptTokens

NAME_TOKENS = (1, 2, 1, 3, 1, 2)
"""Tokens of the class names, in turn: like those of remote-sensing scenes."""

LOSSES = {
    1: LossConfig(lambda_fused=0.0, lambda_shared=1.0, lambda_dpac=0.0, lambda_cmfac=0.0),
    2: LossConfig(),
}
"""By number of prompts: PromptFL's cross entropy, FedRSCLIP's whole loss."""


@dataclass(frozen=True)
class Task:
    """One batch, one class list, one number of prompts."""

    model: Any
    packed: PackedTextEncoder
    ids: Tensor  # (n_cls, 77)
    start: Tensor  # (K, n_ctx, width)
    pixels: Tensor  # (N, 3, 224, 224)
    features: Tensor  # (N, dim)
    labels: Tensor  # (N,)

    def packed_text(self, prompts: Tensor) -> Tensor:
        """Unit text features ``(K, n_cls, dim)`` of the packed encoder."""
        return unit(self.packed(prompts))

    def plain_text(self, prompts: Tensor) -> Tensor:
        """The same through HuggingFace's own forward, the prompts put into its embeddings."""
        num_prompts, n_ctx, _ = prompts.shape
        context = prompts.repeat_interleave(len(self.ids), dim=0)  # (K * n_cls, n_ctx, width)

        def insert(module: object, inputs: object, output: Tensor) -> Tensor:
            return torch.cat([output[:, :1], context, output[:, 1 + n_ctx :]], dim=1)

        embedding = self.model.text_model.embeddings.token_embedding
        hook = embedding.register_forward_hook(insert)
        try:
            output = self.model.get_text_features(input_ids=self.ids.repeat(num_prompts, 1))
        finally:
            hook.remove()
        features = unit(output.pooler_output)  # (K * n_cls, dim)
        return features.reshape(num_prompts, len(self.ids), -1)


def image_features(model: Any, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return unit(model.get_image_features(pixel_values=pixels).pooler_output)


def stepper(task: Task, *, plain: bool) -> Callable[[], float]:
    """Return a function that takes one optimizer step and says how many seconds it took."""
    prompts = task.start.clone().requires_grad_()
    optimizer = torch.optim.SGD([prompts], lr=0.01, momentum=0.9)
    encode = task.plain_text if plain else task.packed_text
    config = LOSSES[len(task.start)]
    own = torch.ones(len(task.ids), dtype=torch.bool)

    def step() -> float:
        begin = time.perf_counter()
        features = image_features(task.model, task.pixels) if plain else task.features
        loss = total_loss(
            loss_terms(
                features,
                task.labels,
                fused(encode(prompts)),
                task.packed.logit_scale,
                config,
                anchor=None,
                own_classes=own,
            ),
            config,
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return time.perf_counter() - begin

    return step


def fused(text: Tensor) -> TextFeatures:
    return combine(text[0], text[1] if len(text) > 1 else None, 0.5)


def save_random_clip(folder: Path) -> tuple[Any, ClipFiles]:
    """Write a CLIP of ViT-B/32's size (the defaults of its configuration) with random weights."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    model: Any = CLIPModel(CLIPConfig())
    model.eval().requires_grad_(False)
    model.save_pretrained(folder)
    return model, ClipFiles(folder, "random", "none")


def random_tokens(model: Any, n_cls: int, n_ctx: int) -> PromptTokens:
    config = model.config.text_config
    generator = torch.Generator().manual_seed(1)
    names = torch.randint(1000, 40000, (n_cls, max(NAME_TOKENS)), generator=generator).tolist()
    full_stop = 269
    suffixes = tuple(
        (*names[c][: NAME_TOKENS[c % len(NAME_TOKENS)]], full_stop, config.eos_token_id)
        for c in range(n_cls)
    )
    return PromptTokens(n_ctx, config.bos_token_id, suffixes)


def make_task(
    model: Any, files: ClipFiles, *, n_cls: int, n_ctx: int, num_prompts: int, batch_size: int
) -> Task:
    tokens = random_tokens(model, n_cls, n_ctx)
    ids = torch.full((n_cls, files.max_positions), tokens.suffixes[0][-1])
    ids[:, : 1 + n_ctx] = tokens.sos
    for row, suffix in enumerate(tokens.suffixes):
        ids[row, 1 + n_ctx : 1 + n_ctx + len(suffix)] = torch.tensor(suffix)
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randn(batch_size, 3, 224, 224, generator=generator)
    return Task(
        model,
        PackedTextEncoder(load_text_tower(files, tokens.ids), tokens),
        ids,
        0.02 * torch.randn(num_prompts, n_ctx, files.width, generator=generator),
        pixels,
        image_features(model, pixels),
        torch.arange(batch_size) % n_cls,
    )


def measure(task: Task, repeats: int, packed_per_plain: int) -> tuple[float, float]:
    """Return the medians of a plain and of a packed step in ms; the two take turns."""
    plain, packed = stepper(task, plain=True), stepper(task, plain=False)
    plain()
    packed()
    plain_seconds, packed_seconds = [], []
    for _ in range(repeats):
        plain_seconds.append(plain())
        packed_seconds += [packed() for _ in range(packed_per_plain)]
    return 1e3 * statistics.median(plain_seconds), 1e3 * statistics.median(packed_seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[21, 45])
    parser.add_argument("--n-ctx", type=int, nargs="+", default=[4])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5, help="plain steps per row")
    parser.add_argument("--packed-per-plain", type=int, default=5, help="our steps in each turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)

    print(
        f"ViT-B/32 size, random weights, fp32, CPU, {options.threads} threads, torch "
        f"{torch.__version__}, batch {options.batch_size}, medians of {options.repeats} plain and "
        f"{options.repeats * options.packed_per_plain} packed steps, in turns\n"
    )
    print("| classes | n_ctx | prompts | plain loop, ms | ours, ms | ratio | max abs difference |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        model, files = save_random_clip(Path(folder))
        for n_ctx in options.n_ctx:
            for n_cls in options.classes:
                for num_prompts in LOSSES:
                    task = make_task(
                        model,
                        files,
                        n_cls=n_cls,
                        n_ctx=n_ctx,
                        num_prompts=num_prompts,
                        batch_size=options.batch_size,
                    )
                    with torch.no_grad():
                        gap = task.plain_text(task.start) - task.packed_text(task.start)
                    plain, packed = measure(task, options.repeats, options.packed_per_plain)
                    print(
                        f"| {n_cls} | {n_ctx} | {num_prompts} | {plain:.0f} | {packed:.1f} | "
                        f"{plain / packed:.1f} | {gap.abs().max():.1e} |",
                        flush=True,
                    )
    print(
        "\nThe last column compares the unit text features of both paths: it must stay below 1e-5."
    )


if __name__ == "__main__":
    main()
