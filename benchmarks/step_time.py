"""Milliseconds per training step against a plain HuggingFace loop that learns the same prompts.

    python benchmarks/step_time.py --classes 21 45 --n-ctx 16 --threads 2 --json step.json

The plain loop does what published prompt-learning code does: the frozen image encoder on every
batch's pixels, and the whole frozen text encoder on 77 tokens per class. Ours trains on cached
image features with the packed text encoder. Model: the size of CLIP ViT-B/32 with random weights
and random tokens, which cost what trained ones cost. Losses, optimizer and batch are the same; the
variants and a matrix product that shows what the machine can do take turns, and medians are
printed as a Markdown table. bfloat16 is another computation (model.dtype=bfloat16): its column of
differences says how far off.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fedrsclip_core.classifier import unit
from fedrsclip_core.clip import ClipFiles
from fedrsclip_core.losses import TextFeatures, combine, loss_terms, total_loss
from fedrsclip_core.schema import DTYPES, LossConfig
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


SCALE = 100.0
"""CLIP's ``exp(logit_scale)``."""

GEMM_SIZE = 1024


@dataclass(frozen=True)
class Result:
    """A row; ``of_gemm`` is the part of the product's rate that a step reaches."""

    classes: int
    n_ctx: int
    prompts: int
    dtype: str
    plain_ms: float
    ours_ms: float
    ratio: float
    gflop: float
    gemm_gflops: float
    of_gemm: float
    max_difference: float


@dataclass(frozen=True)
class Task:
    """One batch, one class list, one number of prompts."""

    model: Any
    packed: dict[str, PackedTextEncoder]  # by dtype
    ids: Tensor  # (n_cls, 77)
    start: Tensor  # (K, n_ctx, width)
    pixels: Tensor  # (N, 3, 224, 224)
    features: Tensor  # (N, dim)
    labels: Tensor  # (N,)

    def packed_text(self, prompts: Tensor, dtype: str) -> Tensor:
        """Unit text features ``(K, n_cls, dim)`` of the packed encoder."""
        return unit(self.packed[dtype](prompts))

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


def stepper(task: Task, dtype: str | None) -> Callable[[], float]:
    """Return a function that takes one optimizer step and says how many seconds it took.

    Without a dtype it is the plain loop's.
    """
    prompts = task.start.clone().requires_grad_()
    optimizer = torch.optim.SGD([prompts], lr=0.01, momentum=0.9)
    config = LOSSES[len(task.start)]
    own = torch.ones(len(task.ids), dtype=torch.bool)

    def step() -> float:
        begin = time.perf_counter()
        if dtype is None:
            features, text = image_features(task.model, task.pixels), task.plain_text(prompts)
        else:
            features, text = task.features, task.packed_text(prompts, dtype)
        terms = loss_terms(
            features, task.labels, fused(text), SCALE, config, anchor=None, own_classes=own
        )
        loss = total_loss(terms, config)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return time.perf_counter() - begin

    return step


def multiplier(dtype: str) -> Callable[[], float]:
    """Return a function that multiplies two square matrices and says how long it took."""
    left, right = (torch.randn(GEMM_SIZE, GEMM_SIZE).to(getattr(torch, dtype)) for _ in range(2))

    def multiply() -> float:
        begin = time.perf_counter()
        torch.mm(left, right)
        return time.perf_counter() - begin

    return multiply


def gflop(step: Callable[[], float]) -> float:
    """Count a step's floating-point operations, forward and backward, in 10^9."""
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops()) / 1e9


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
    towers = {dtype: load_text_tower(replace(files, dtype=dtype), tokens.ids) for dtype in DTYPES}
    return Task(
        model,
        {dtype: PackedTextEncoder(tower, tokens) for dtype, tower in towers.items()},
        ids,
        0.02 * torch.randn(num_prompts, n_ctx, files.width, generator=generator),
        pixels,
        image_features(model, pixels),
        torch.arange(batch_size) % n_cls,
    )


def measure(task: Task, repeats: int, ours_per_plain: int) -> list[Result]:
    """Let all variants take turns; return what the medians say, a result per dtype."""
    plain = stepper(task, None)
    ours = {dtype: stepper(task, dtype) for dtype in DTYPES}
    products = {dtype: multiplier(dtype) for dtype in DTYPES}
    counted = {dtype: gflop(step) for dtype, step in ours.items()}
    timed: dict[tuple[str, str], list[float]] = {}
    plain_seconds = []
    plain()
    for _ in range(repeats):
        plain_seconds.append(plain())
        for dtype in DTYPES:
            for kind, call in (("step", ours[dtype]), ("gemm", products[dtype])):
                call()  # warm caches: the variant before it has used others
                taken = [call() for _ in range(ours_per_plain)]
                timed.setdefault((kind, dtype), []).extend(taken)
    plain_ms = 1e3 * statistics.median(plain_seconds)
    found = []
    for dtype in DTYPES:
        seconds, gemm = (statistics.median(timed[kind, dtype]) for kind in ("step", "gemm"))
        gemm_rate = 2 * GEMM_SIZE**3 / gemm / 1e9
        with torch.no_grad():
            gap = (task.plain_text(task.start) - task.packed_text(task.start, dtype)).abs().max()
        found.append(
            Result(
                classes=len(task.ids),
                n_ctx=task.start.shape[1],
                prompts=len(task.start),
                dtype=dtype,
                plain_ms=plain_ms,
                ours_ms=1e3 * seconds,
                ratio=plain_ms / (1e3 * seconds),
                gflop=counted[dtype],
                gemm_gflops=gemm_rate,
                of_gemm=counted[dtype] / seconds / gemm_rate,
                max_difference=float(gap),
            )
        )
    return found


def line(result: Result) -> str:
    r = result
    return (
        f"| {r.classes} | {r.n_ctx} | {r.prompts} | {r.dtype} | {r.plain_ms:.0f} | {r.ours_ms:.1f}"
        f" | {r.ratio:.1f} | {r.gflop:.1f} | {r.gemm_gflops:.0f} | {100 * r.of_gemm:.0f} | "
        f"{r.max_difference:.1e} |"
    )


def dual_lines(found: Sequence[Result]) -> list[str]:
    """Say what two prompts cost beside one."""
    ms = {(r.classes, r.n_ctx, r.dtype, r.prompts): r.ours_ms for r in found}
    return [
        f"{classes} classes, n_ctx {n_ctx}, {dtype}: two prompts take {two / one:.2f} times as long"
        for (classes, n_ctx, dtype, prompts), two in ms.items()
        if prompts == 2 and (one := ms.get((classes, n_ctx, dtype, 1)))
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[21, 45])
    parser.add_argument("--n-ctx", type=int, nargs="+", default=[16])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5, help="plain steps per row")
    parser.add_argument("--ours-per-plain", type=int, default=5, help="our steps in each turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the results there")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)

    print(
        f"ViT-B/32 size, random weights, CPU, {options.threads} threads, torch "
        f"{torch.__version__}, batch {options.batch_size}, medians of {options.repeats} plain and "
        f"{options.repeats * options.ours_per_plain} packed steps, in turns; the plain loop is "
        f"float32; GEMM: {GEMM_SIZE} x {GEMM_SIZE}\n"
    )
    titles = ("classes", "n_ctx", "prompts", "dtype", "plain loop, ms", "ours, ms", "ratio")
    titles += ("GFLOP", "GEMM, GFLOP/s", "% of GEMM", "max abs difference")
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    found: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        model, files = save_random_clip(Path(folder))
        for n_ctx, n_cls, num_prompts in product(options.n_ctx, options.classes, LOSSES):
            task = make_task(
                model,
                files,
                n_cls=n_cls,
                n_ctx=n_ctx,
                num_prompts=num_prompts,
                batch_size=options.batch_size,
            )
            for result in measure(task, options.repeats, options.ours_per_plain):
                print(line(result), flush=True)
                found.append(result)
    print("\n" + "\n".join(dual_lines(found)))
    print(
        "\nThe last column compares the unit text features of both paths: for float32 it must stay "
        "below 1e-5."
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in found], indent=1))


if __name__ == "__main__":
    main()
