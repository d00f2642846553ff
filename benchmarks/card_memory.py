"""Memory of a GPU that a client process takes, how many fit, and what they train together.

    python -m benchmarks.card_memory --processes 1 4 16

Each process is as a simulated client's: `context` has begun to use the card and no more, `trained`
has recorded and taken the steps of a round, `encoded` has encoded a batch of images before that, as
a client does whose features are not cached. `a process` is what each after the first takes, `fit`
how many of those the card has room for. All then train at the same time: `steps/s` are of all.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from benchmarks.inputs import class_names, save_random_clip
from benchmarks.measuring import Cell, Report, arguments, publish, settings_of
from client_app.encoders import make_repeatable
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.clip.image_encoder import ImageEncoder
from fedrsclip_core.clip.text_encoder import PackedTextEncoder
from fedrsclip_core.clip.text_tower import load_text_tower
from fedrsclip_core.clip.tokens import tokenize_prompts
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.data.names import words_for
from fedrsclip_core.learning.class_statistics import ClassStatistics
from fedrsclip_core.learning.dual_prompt import Given
from fedrsclip_core.learning.prompts import ClientState
from fedrsclip_core.learning.training import train_round

CONTEXT, TRAINED, ENCODED = "context", "trained", "encoded"
BATCH = 32
DEVICE = "cuda"
_MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """What a process says of the card, in MiB: in use by all, in all, and held by its own torch."""

    used: float
    total: float
    own: float


def trainer(clip: Path, classes: int, steps: int) -> Callable[[], object]:
    """Return what carries out a round of `fedrsclip` with two prompts, one batch an epoch."""
    config = compose(["method=fedrsclip", f"optimizer.local_epochs={steps}"])
    files = find_clip(ModelConfig(), clip)
    tokens = tokenize_prompts(files, words_for(class_names(classes), {}), config.prompt.n_ctx)
    encoder = PackedTextEncoder(load_text_tower(files, tokens.ids, device=DEVICE), tokens)
    draw = np.random.default_rng(0).standard_normal
    features = draw((BATCH, files.dim)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    statistics = ClassStatistics(FeatureSet(features, np.arange(BATCH) % classes), classes)
    shared, private = 0.02 * draw((2, config.prompt.n_ctx, files.width)).astype(np.float32)
    state = ClientState(private, np.full(classes, config.prompt.beta, np.float32))
    given = Given(np.zeros((classes, files.dim), np.float32))
    return lambda: train_round(
        encoder,
        {SHARED_PROMPT: shared},
        state,
        statistics,
        config,
        server_round=1,
        client_name="client-0",
        given=given,
    )


def encode(clip: Path) -> None:
    """Encode a batch of images, and let go of the image encoder."""
    encoder = ImageEncoder(find_clip(ModelConfig(), clip), DEVICE)
    encoder.encode([torch.zeros(3, encoder.side, encoder.side)] * BATCH)


def memory() -> Memory:
    """Ask the card and torch."""
    free, total = torch.cuda.mem_get_info()
    return Memory((total - free) / _MIB, total / _MIB, torch.cuda.memory_reserved() / _MIB)


def client(kind: str, clip: Path, classes: int, steps: int, line: Connection) -> None:
    """Get ready, then answer each message: with the memory, or with seconds of a round."""
    make_repeatable(1)
    torch.zeros(1, device=DEVICE)
    if kind == ENCODED:
        encode(clip)
    train = None
    if kind != CONTEXT:
        train = trainer(clip, classes, steps)
        train()
    torch.cuda.synchronize()
    line.send(kind)
    while (asked := line.recv()) is not None:
        started = time.perf_counter()
        if asked == TRAINED and train is not None:
            train()
            torch.cuda.synchronize()
        line.send(memory() if asked == CONTEXT else time.perf_counter() - started)


def measure(kind: str, count: int, clip: Path, options: argparse.Namespace) -> tuple[Memory, float]:
    """Return what the first of ``count`` processes says, and the steps per second of all."""
    context = multiprocessing.get_context("spawn")
    lines, processes = [], []
    for _ in range(count):
        line, other = context.Pipe()
        process = context.Process(
            target=client, args=(kind, clip, options.classes, options.steps, other), daemon=True
        )
        process.start()
        other.close()
        lines.append(line)
        processes.append(process)
    for line in lines:
        line.recv()  # EOFError: the process ended, and has said why
    lines[0].send(CONTEXT)
    found = lines[0].recv()
    for line in lines:
        line.send(TRAINED)
    slowest = max(line.recv() for line in lines)
    for line, process in zip(lines, processes, strict=True):
        line.send(None)
        process.join()
    return found, count * options.steps / slowest


def rows_of(kind: str, clip: Path, options: argparse.Namespace) -> list[dict[str, Cell]]:
    """Measure a kind of process; a row for each number of them."""
    rows: list[dict[str, Cell]] = []
    first: tuple[int, float] | None = None
    for count in options.processes:
        found, rate = measure(kind, count, clip, options)
        first = first or (count, found.used)
        more = count - first[0]
        each = (found.used - first[1]) / more if more else None
        rows.append(
            {
                "what it has done": kind,
                "processes": count,
                "card's memory in use, MiB": found.used,
                "of that by torch in one, MiB": found.own,
                "a process, MiB": each,
                "fit": first[0] + int((found.total - first[1]) / each) if each else None,
                "steps/s": None if kind == CONTEXT else rate,
            }
        )
    return rows


def main(arguments_: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, threads=1)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--classes", type=int, default=45)
    parser.add_argument("--steps", type=int, default=50, help="of a round")
    options = parser.parse_args(arguments_)
    report = Report("card memory", settings_of(options))
    with tempfile.TemporaryDirectory() as folder:
        clip = save_random_clip(Path(folder))
        for kind in (CONTEXT, TRAINED, ENCODED):
            report.rows += rows_of(kind, clip, options)
    report.notes = [
        "ViT-B/32 size with random weights, float32, two prompts, batches of 32. The memory in use "
        "is the card's own figure and counts whatever else runs there.",
    ]
    publish(report, options.json)


if __name__ == "__main__":
    main()
