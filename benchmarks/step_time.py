"""Milliseconds of a training step against a plain HuggingFace loop that learns the same prompts.

    python -m benchmarks.step_time --classes 21 45 --n-ctx 16 --threads 2 --json step.json
    python -m benchmarks.step_time --device cuda --steps 50
    python -m benchmarks.step_time --device cuda --compile default reduce-overhead

The plain loop (`benchmarks/plain.py`) does what published prompt-learning code does: the frozen
image encoder on every batch's pixels, and the whole frozen text encoder on 77 tokens per class.
Ours trains on cached image features with the packed text encoder. Losses, optimizer and batch are
the same. The variants take turns with a matrix product, which shows what the machine can do.
bfloat16 is another computation (``model.dtype=bfloat16``): the last column says how far off.
`% in products` is from torch's profiler: what remains are activations, norms, softmax and copies.
On a GPU it is of the time of all kernels, `kernels, ms`: less than `ours, ms`, the card waits in
between. There `graphs` is how a client trains; `eager` launches kernel by kernel.
A round has one step, or ``--steps``, which share what is made once for each round.
``--compile`` adds rows with the text encoder compiled by torch, which takes a minute each on a CPU.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.gemm import gflop, gflops_of_product, multiplier, seconds_of
from benchmarks.inputs import class_names, save_random_clip
from benchmarks.measuring import (
    Report,
    add_dtypes,
    arguments,
    chosen_dtypes,
    in_turns,
    medians,
    publish,
    settings_of,
)
from benchmarks.plain import PlainLoop
from fedrsclip_core.clip.files import ClipFiles, find_clip
from fedrsclip_core.clip.text_encoder import PackedTextEncoder, unit
from fedrsclip_core.clip.text_tower import load_text_tower
from fedrsclip_core.clip.tokens import PromptTokens, tokenize_prompts
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.schema import Config, ModelConfig
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.data.names import words_for
from fedrsclip_core.learning.class_statistics import ClassStatistics
from fedrsclip_core.learning.dual_prompt import Given
from fedrsclip_core.learning.prompts import ClientState
from fedrsclip_core.learning.training import train_round

METHODS = {1: "promptfl", 2: "fedrsclip"}
"""By number of prompts."""

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
PRODUCT_KERNELS = ("gemm", "nvjet", "cutlass", "xmma")
"""Parts of the names that cuBLAS's kernels have: those of a CUDA graph belong to no operation."""

EAGER = "eager"
GRAPHS = "graphs"
COMPILED = ("default", "reduce-overhead", "max-autotune")

Measure = Callable[[], float]
Kind = tuple[str, str]
"""The dtype of our text encoder, and how it runs."""


class OtherEncoder(PackedTextEncoder):
    """The same text encoder, carried out in another way."""

    def __init__(self, encoder: PackedTextEncoder, encode: Callable[[Tensor], Tensor]) -> None:
        self.__dict__.update(encoder.__dict__)
        self._how = encode

    def __call__(self, prompts: Tensor) -> Tensor:
        return self._how(prompts)


@dataclass(frozen=True)
class Task:
    """One batch, one class list, one method."""

    plain: PlainLoop
    encoders: dict[Kind, PackedTextEncoder]
    config: Config
    shared: Tensor  # (n_ctx, width)
    state: ClientState
    pixels: Tensor  # (N, 3, 224, 224)
    labels: Tensor  # (N,)
    data: FeatureSet
    device: str

    def plain_step(self) -> float:
        """Take one step of the plain loop; return its seconds."""
        optimizer = self.plain.optimizer()
        return seconds_of(lambda: self.plain.step(optimizer, self.pixels, self.labels), self.device)

    def our_round(self, kind: Kind) -> float:
        """Carry out a client's training; return its seconds."""
        encoder = self.encoders[kind]
        given = Given(torch.zeros(encoder.n_cls, encoder.dim).numpy())
        return seconds_of(
            lambda: train_round(
                encoder,
                {SHARED_PROMPT: self.shared.numpy()},
                self.state,
                ClassStatistics(self.data, encoder.n_cls),
                self.config,
                server_round=1,
                client_name="client-0",
                given=given,
            ),
            self.device,
        )

    def difference(self, kind: Kind) -> float:
        """Return the largest difference of unit text features between both paths."""
        private = [] if self.state.private is None else [torch.from_numpy(self.state.private)]
        starts = [self.shared, *private]
        with torch.no_grad():
            for leaf, start in zip(self.plain.prompts, starts, strict=True):
                leaf.copy_(start)
            ours = unit(self.encoders[kind](torch.stack(starts).to(self.device)))
            return float((self.plain.text() - ours).abs().max())


def make_encoders(
    files: ClipFiles, tokens: PromptTokens, options: argparse.Namespace
) -> dict[Kind, PackedTextEncoder]:
    device = options.device
    encoders: dict[Kind, PackedTextEncoder] = {}
    for dtype in options.dtypes:
        tower = load_text_tower(replace(files, dtype=dtype), tokens.ids, device=device)
        encoder = PackedTextEncoder(tower, tokens)
        encoders[dtype, EAGER] = OtherEncoder(encoder, encoder.encode)
        if device.startswith("cuda"):
            encoders[dtype, GRAPHS] = encoder
        for mode in options.compile:
            compiled = torch.compile(encoder.encode, mode=mode)
            encoders[dtype, mode] = OtherEncoder(encoder, compiled)
    return encoders


def make_task(
    files: ClipFiles, n_cls: int, n_ctx: int, prompts: int, options: argparse.Namespace
) -> Task:
    device, batch_size = options.device, options.batch_size
    overrides = [f"method={METHODS[prompts]}", f"prompt.n_ctx={n_ctx}"]
    # An epoch is one batch.
    overrides.append(f"optimizer.local_epochs={options.steps}")
    config = compose([*overrides, f"optimizer.batch_size={batch_size}"])
    tokens = tokenize_prompts(files, words_for(class_names(n_cls), {}), n_ctx)
    generator = torch.Generator().manual_seed(2)
    starts = 0.02 * torch.randn(prompts, n_ctx, files.width, generator=generator)
    weight = torch.full((n_cls,), config.prompt.beta).numpy()
    state = ClientState(starts[1].numpy(), weight) if prompts == 2 else ClientState(None)
    labels = torch.arange(batch_size) % n_cls
    pixels = torch.randn(batch_size, 3, 224, 224, generator=generator).to(device)
    plain = PlainLoop.start(files, tokens, starts[0], state, config, labels, device)
    with torch.no_grad():
        features = unit(plain.model.get_image_features(pixel_values=pixels).pooler_output)
    return Task(
        plain,
        make_encoders(files, tokens, options),
        config,
        starts[0],
        state,
        pixels,
        labels.to(device),
        FeatureSet(features.cpu().numpy(), labels.numpy()),
        device,
    )


def several(measure: Measure, times: int) -> Measure:
    """Return the median of several calls, after one that finds the caches of another variant."""

    def call() -> float:
        measure()
        return statistics.median(measure() for _ in range(times))

    return call


def time_by_kind(action: Measure, device: str) -> tuple[float, float]:
    """Return the seconds in all of torch's operations, on a GPU in its kernels, and in products.

    Products are those of frozen matrices and of heads.
    """
    cuda = device.startswith("cuda")
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] * cuda)]) as profiled:
        action()
    spent = products = 0.0
    for event in profiled.key_averages():
        if cuda and (event.device_type.name != "CUDA" or event.is_user_annotation):
            continue
        microseconds = event.self_device_time_total if cuda else event.self_cpu_time_total
        named = any(name in event.key for name in PRODUCT_KERNELS)
        spent += microseconds
        products += microseconds * (named if cuda else event.key in PRODUCTS)
    return spent / 1e6, products / 1e6


def add_rows(report: Report, task: Task, repeats: int, times: int) -> None:
    """Measure a task and add a row for each dtype."""
    rounds: dict[Kind, Measure] = {kind: partial(task.our_round, kind) for kind in task.encoders}
    steps, cuda = task.config.optimizer.local_epochs, task.device.startswith("cuda")
    variants: dict[str, Measure] = {"plain": task.plain_step}
    for dtype, how in rounds:
        variants[f"{dtype} {how}"] = several(rounds[dtype, how], times)
    for dtype in {dtype for dtype, _ in rounds}:
        variants[f"gemm {dtype}"] = several(multiplier(dtype, task.device), times)
    seconds = medians(in_turns(variants, repeats))
    for dtype, how in rounds:
        ours, gemm = seconds[f"{dtype} {how}"] / steps, seconds[f"gemm {dtype}"]
        count, rate = gflop(rounds[dtype, EAGER]) / steps, gflops_of_product(task.device) / gemm
        # On a CPU the operations of a compiled step have no names.
        spent, products = time_by_kind(rounds[dtype, how], task.device)
        report.rows.append(
            {
                "classes": task.encoders[dtype, how].n_cls,
                "n_ctx": len(task.shared),
                "prompts": len(task.plain.prompts),
                "dtype": dtype,
                "encoder": how,
                "plain loop, ms": 1e3 * seconds["plain"],
                "ours, ms": 1e3 * ours,
                "ratio": seconds["plain"] / ours,
                "GFLOP": count,
                "GEMM, GFLOP/s": rate,
                "kernels, ms": 1e3 * spent / steps if cuda else None,
                "% in products": 100 * products / spent if cuda or how == EAGER else None,
                "% of GEMM": 100 * count / ours / rate,
                "max abs difference": task.difference((dtype, how)),
            }
        )


def dual_notes(report: Report) -> list[str]:
    """Say what two prompts cost beside one."""
    kind = ("classes", "n_ctx", "dtype", "encoder")
    ms = {(*(r[name] for name in kind), r["prompts"]): r["ours, ms"] for r in report.rows}
    return [
        f"{classes} classes, n_ctx {n_ctx}, {dtype}, {how}: two prompts take "
        f"{float(two or 0) / float(one):.2f} times as long as one."
        for (classes, n_ctx, dtype, how, prompts), two in ms.items()
        if prompts == 2 and (one := ms.get((classes, n_ctx, dtype, how, 1)))
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[21, 45])
    parser.add_argument("--n-ctx", type=int, nargs="+", default=[16])
    parser.add_argument("--device", default="cpu", help="cpu, or e.g. cuda")
    parser.add_argument("--compile", nargs="+", choices=COMPILED, default=[], help="torch's modes")
    add_dtypes(parser)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1, help="of a round of ours")
    parser.add_argument("--repeats", type=int, default=5, help="plain steps per row")
    parser.add_argument("--ours-per-plain", type=int, default=5, help="our rounds in each turn")
    options = parser.parse_args(argv)
    options.dtypes = chosen_dtypes(options)
    torch.set_num_threads(options.threads)
    report = Report("step", settings_of(options))
    with tempfile.TemporaryDirectory() as folder:
        files = find_clip(ModelConfig(), save_random_clip(Path(folder)))
        for n_ctx, n_cls, prompts in product(options.n_ctx, options.classes, METHODS):
            task = make_task(files, n_cls, n_ctx, prompts, options)
            add_rows(report, task, options.repeats, options.ours_per_plain)
    report.notes = dual_notes(report)
    report.notes.append(
        "ViT-B/32 size with random weights; the plain loop is float32. The last column compares "
        "unit text features: for float32 it must stay below 1e-5."
    )
    publish(report, options.json)


if __name__ == "__main__":
    main()
