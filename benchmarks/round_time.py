"""Seconds of a client's round by stage, against a plain HuggingFace loop over the same images.

    python -m benchmarks.round_time --threads 2 --json round.json

Ours is the client's own code: features from an empty and from a filled cache, text tower,
evaluation, local epochs, private file. The plain loop (`benchmarks/plain.py`) evaluates the same
images and takes ``--plain-steps`` steps; its round is their median times the steps of a round,
which the output says. To its advantage, its images are decoded before its clock starts. The two
take turns.
``--dtype bfloat16`` is about our towers alone; the difference is then that of the computation.
"""

import argparse
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.inputs import class_names, save_images, save_random_clip
from benchmarks.measuring import Cell, Report, arguments, publish, settings_of
from benchmarks.plain import PlainLoop
from benchmarks.site_steps import steps_in
from client_app.encoders import image_encoder, text_model
from client_app.rounds import Deadline, start_state, train
from client_app.runtime import OpenRun, Runtime
from client_app.site import Site
from client_app.site_log import SiteLog
from fedrsclip_core.clip.tokens import tokenize_prompts
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.schema import DTYPES, Config
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.learning.class_statistics import ClassStatistics
from fedrsclip_core.learning.dual_prompt import Given
from fedrsclip_core.learning.training import batches, train_round
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.messages import RoundRequest

RUN = "timed"
EVALUATION = "evaluation, private file"
STAGES = ("features", "text tower", "steps", EVALUATION, "round")
EVALUATED = ("val", "test")
TRAIN_FRACTION = 0.7
NAME = "client-0"


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begin


@dataclass
class PlainRound:
    """Seconds of the plain loop's steps and of its evaluation, and what it comes to.

    ``correct`` counts evaluated images; ``gap`` is how far its prompts are from ours.
    """

    steps: list[float]
    evaluation: float
    correct: int
    gap: float


def a_round(
    site: Site, config: Config, shared: np.ndarray, number: int
) -> tuple[dict[str, float], int]:
    """Carry out one round as a process does that has just started, without its imports.

    Returns
    -------
    tuple[dict[str, float], int]
        Seconds by stage, and how many images were classified rightly.
    """
    image_encoder.cache_clear()
    text_model.cache_clear()
    runtime, clock = Runtime(OpenRun(config), site), Clock()
    with clock.stage("features"):
        runtime.features("train", SiteLog(NAME))
    with clock.stage("text tower"):
        _ = runtime.text
    request = RoundRequest(1, f"{RUN}-{number}", {SHARED_PROMPT: shared}, False, 0.0)
    with clock.stage("message"):
        reply = train(runtime, request, Deadline(time.time() + 1e6), SiteLog(NAME))
    steps = next(s for s in steps_in(paths.logs_dir()) if s.run == request.run_name)
    clock.seconds["steps"] = steps.step_seconds
    clock.seconds[EVALUATION] = clock.seconds.pop("message") - steps.step_seconds
    clock.seconds["round"] = sum(clock.seconds.values())
    mode = "personalized" if config.prompt.private else "global"
    return clock.seconds, sum(reply.correct[part, mode] for part in EVALUATED)


def plain_round(runtime: Runtime, shared: np.ndarray, steps: int) -> PlainRound:
    """Evaluate and take some steps in the plain loop; take as many in ours and compare."""
    config = replace(runtime.config, optimizer=replace(runtime.config.optimizer, local_epochs=1))
    data = runtime.features("train", SiteLog(NAME))
    size = min(steps * config.optimizer.batch_size, len(data))
    part = replace(data, features=data.features[:size], labels=data.labels[:size])
    state = start_state(runtime, SiteLog(NAME))
    text, name = runtime.text, runtime.site.client_name
    ours = train_round(
        text.encoder,
        {SHARED_PROMPT: shared},
        state,
        ClassStatistics(part, len(runtime.words)),
        config,
        server_round=1,
        client_name=name,
        given=Given(text.zero_shot),
    )
    pixels = all_pixels(runtime, runtime.data.split.train[:size])
    labels = torch.from_numpy(part.labels)
    tokens = tokenize_prompts(runtime.files, runtime.words, config.prompt.n_ctx)
    loop = PlainLoop.start(runtime.files, tokens, torch.from_numpy(shared), state, config, labels)
    sets = list(evaluated(runtime))
    begin = time.perf_counter()
    correct = loop.num_correct(sets)
    evaluation = time.perf_counter() - begin
    optimizer, seconds = loop.optimizer(), []
    for batch in batches(size, config, 1, name):
        begin = time.perf_counter()
        loop.step(optimizer, pixels[batch], labels[batch])
        seconds.append(time.perf_counter() - begin)
    pairs = zip((ours.shared[SHARED_PROMPT], ours.state.private), loop.prompts, strict=False)
    gap = max(float(np.abs(a - b.detach().numpy()).max()) for a, b in pairs)
    return PlainRound(seconds, evaluation, correct, gap)


def evaluated(runtime: Runtime) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Decode and prepare all images that a round evaluates, and their labels, in batches."""
    size = runtime.config.optimizer.batch_size
    for part in EVALUATED:
        indices = getattr(runtime.data.split, part)
        labels = torch.from_numpy(runtime.features(part, SiteLog(NAME)).labels)
        for start in range(0, len(indices), size):
            rows = slice(start, start + size)
            yield all_pixels(runtime, indices[rows]), labels[rows]


def all_pixels(runtime: Runtime, indices: np.ndarray) -> torch.Tensor:
    """Decode and prepare images, ``(N, 3, 224, 224)``."""
    encoder, source = image_encoder(runtime.files, "cpu"), runtime.data.source
    return torch.stack([encoder.prepare(source.image(int(i))) for i in indices])


def measure(
    options: argparse.Namespace, folder: Path
) -> tuple[dict[str, dict[str, float]], float, set[int]]:
    """Return median seconds by variant and stage, the prompts' largest difference, and counts.

    The counts are of rightly classified images: one number if all rounds agree.
    """
    names = class_names(options.classes)
    per_class = math.ceil(options.images / len(names) / TRAIN_FRACTION)
    data = save_images(folder / "images", names, per_class, options.side)
    config = compose(
        [
            f"method={options.method}",
            "data=folder",
            f"data.class_names=[{','.join(names)}]",
            "partition=site",
            "model=local",
            f"model.dtype={options.dtype}",
            f"prompt.n_ctx={options.n_ctx}",
            f"optimizer.local_epochs={options.epochs}",
            f"optimizer.threads={options.threads}",
            "prompt.shared_init=random",
            "prompt.private_init=random",
        ],
        given=(),  # promptfl has no private prompt
    )
    clip = save_random_clip(folder / "clip")
    site = Site(NAME, 0, 1, data_path=data, model_path=clip, device="cpu")
    shared = Runtime(OpenRun(config), site).start_prompt("random", "shared", 0)
    found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    plain: list[PlainRound] = []
    counts: set[int] = set()
    for turn in range(options.repeats):
        shutil.rmtree(paths.features_dir(), ignore_errors=True)
        for number, kind in enumerate(found):
            seconds, correct = a_round(site, config, shared, 2 * turn + number)
            found[kind].append(seconds)
            counts.add(correct)
        plain.append(plain_round(Runtime(OpenRun(config), site), shared, options.plain_steps))
    size = len(Runtime(OpenRun(config), site).features("train", SiteLog(NAME)))
    num_steps = options.epochs * math.ceil(size / config.optimizer.batch_size)
    stages = {
        kind: {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
        for kind, rounds in found.items()
    }
    steps = num_steps * statistics.median(s for turn in plain for s in turn.steps)
    evaluation = statistics.median(turn.evaluation for turn in plain)
    whole = {"steps": steps, EVALUATION: evaluation, "round": steps + evaluation}
    counts |= {turn.correct for turn in plain}
    return {"plain": whole, **stages}, max(turn.gap for turn in plain), counts


def main(arguments_: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--method", choices=["promptfl", "fedrsclip"], default="fedrsclip")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of ours")
    parser.add_argument("--images", type=int, default=320, help="training images, at least")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--n-ctx", type=int, default=4)
    parser.add_argument("--side", type=int, default=256, help="pixels of an image's side")
    parser.add_argument("--plain-steps", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args(arguments_)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FEDRSCLIP_HOME"] = str(Path(folder) / "home")
        stages, gap, counts = measure(options, Path(folder))
    report = Report("round", settings_of(options))
    for kind, seconds in stages.items():
        row: dict[str, Cell] = {"cache": kind}
        row |= {name: seconds.get(name) for name in STAGES}
        row["x plain"] = stages["plain"]["round"] / seconds["round"]
        row["max abs difference"] = None if kind == "plain" else gap
        report.rows.append(row)
    report.notes = [
        f"Seconds; `plain` is extrapolated to a whole round from "
        f"{options.repeats * options.plain_steps} measured steps; cold and warm rounds are whole.",
        f"The difference is of the prompts after the same {options.plain_steps} steps in both. "
        f"Images classified rightly before them: {' or '.join(map(str, sorted(counts)))}"
        f"{', equal in all rounds' if len(counts) == 1 else ', NOT EQUAL'}.",
    ]
    publish(report, options.json)


if __name__ == "__main__":
    main()
