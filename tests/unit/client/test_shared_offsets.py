"""Real clients in whole runs that share class offsets, with and without a prompt."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.app import app as client_app
from fedrsclip import load_classifier
from fedrsclip.simulation.in_process import InProcessGrid
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.clip.image_encoder import ImageEncoder
from fedrsclip_core.clip.text_model import load_text_model
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import SHARED_OFFSETS
from fedrsclip_core.data.imagery.decoding import decode
from fedrsclip_core.runs.shared_prompt import read_shared_prompt
from server_app import app as server
from server_app.app import RunOutcome
from tests.unit.client.site_folder import CLASSES, OVERRIDES

pytestmark = pytest.mark.unit

DIM = 24
ALONE = (
    "prompt.shared=false",
    "prompt.private=false",
    "loss.lambda_fused=0",
    "loss.lambda_dpac=0",
    "loss.lambda_cmfac=0",
    "optimizer.lr=0.3",
)


def go(
    images: Path, clip: Path, *overrides: str, lines: list[str] | None = None
) -> tuple[Config, RunOutcome]:
    site = {"num-partitions": 2, "data-path": str(images), "model-path": str(clip)}
    nodes: list[dict[str, Any]] = [{"partition-id": number, **site} for number in range(2)]
    named = f"data.class_names=[{','.join(CLASSES)}]"
    config = compose([*OVERRIDES, named, "run.name=offsets", *overrides])
    echo = (lines if lines is not None else []).append
    exchange = server.exchange_of(InProcessGrid(client_app, nodes))
    return config, server.run(exchange, config, run_id=1, echo=echo)


def last_record(folder: Path) -> dict[str, Any]:
    line = (folder / "metrics.jsonl").read_text().splitlines()[-1]
    return dict(json.loads(line))


@pytest.mark.parametrize(
    ("overrides", "shapes"),
    [
        ((*ALONE, "prompt.shared_offsets=full"), {"shared_offsets": (3, DIM)}),
        (
            (*ALONE, "prompt.shared_offsets=rank:2", "prompt.shared_offsets_dtype=int8"),
            {"shared_offsets_u": (3, 2), "shared_offsets_v": (2, DIM)},
        ),
        (
            (*ALONE, "prompt.shared_offsets=basis:5", "prompt.shared_offsets_dtype=float16"),
            {"shared_coefficients": (3, 5)},
        ),
        (
            ("method=promptfl", "prompt.shared_offsets=full"),
            {"shared_prompt": (4, 32), "shared_offsets": (3, DIM)},
        ),
        (
            ("method=fedrsclip_plus", "prompt.shared_offsets=basis:5"),
            {"shared_coefficients": (3, 5)},
        ),
    ],
)
def test_a_run_learns_averages_and_leaves_what_is_shared(
    image_folder: Path,
    clip_folder: Path,
    overrides: tuple[str, ...],
    shapes: dict[str, tuple[int, int]],
) -> None:
    outcome = go(image_folder, clip_folder, *overrides)[1]
    assert {name: tensor.shape for name, tensor in outcome.shared.items()} == shapes
    assert all(tensor.any() for tensor in outcome.shared.values())
    left = read_shared_prompt(outcome.folder / "shared_prompt.safetensors")
    np.testing.assert_equal(left.shared, outcome.shared)
    losses = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").open()]
    means = [record["loss"]["loss_shared"] for record in losses[1:]]
    assert means[-1] < means[0]
    assert outcome.results["dropped"]["total"] == 0


def test_prediction_is_the_global_classifier_of_the_run(
    image_folder: Path, clip_folder: Path
) -> None:
    """``unit(T_0 + R)`` over the templates' features ``T_0``, without any prompt."""
    config, outcome = go(image_folder, clip_folder, *ALONE, "prompt.shared_offsets=full")
    files = find_clip(config.model, clip_folder)
    zero_shot = load_text_model(files, CLASSES, 4, config.prompt.templates, "cpu").zero_shot
    moved = zero_shot + outcome.shared[SHARED_OFFSETS]
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    classifier = load_classifier(outcome.folder / "shared_prompt.safetensors", clip_folder)
    paths = sorted(image_folder.rglob("*.png"))
    scores = classifier.scores(paths)
    encoder = ImageEncoder(files, "cpu")
    features = encoder.encode([encoder.prepare(decode(path)) for path in paths])
    logits = np.exp(3.0) * features @ moved.T
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(scores, powers / powers.sum(axis=1, keepdims=True), atol=1e-4)
    found = scores.argmax(axis=1)
    right = np.mean([CLASSES[c] == p.parent.name for c, p in zip(found, paths, strict=True)])
    assert right > 0.9 and last_record(outcome.folder)["test"]["global"] > 0.6


def test_the_server_says_first_what_travels(image_folder: Path, clip_folder: Path) -> None:
    lines: list[str] = []
    go(
        image_folder,
        clip_folder,
        *ALONE,
        "prompt.shared_offsets=rank:2",
        "prompt.shared_offsets_dtype=int8",
        "federation.num_rounds=1",
        lines=lines,
    )
    (said,) = (line for line in lines if "each way" in line)
    first_round = next(n for n, line in enumerate(lines) if line.startswith("round"))
    assert lines.index(said) < first_round
    numbers = 3 * 2 + 2 * DIM
    assert said.endswith(
        f"shared_offsets_u 3 x 2 as int8, shared_offsets_v 2 x {DIM} as int8 = {numbers} numbers, "
        f"{numbers + 4 * 5} B"
    )
