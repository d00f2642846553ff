"""Bytes to an accuracy, and the sizes of what others would send."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedrsclip.bench.cells import grid
from fedrsclip.bench.description import describe
from fedrsclip.bench.traffic import (
    bytes_to,
    clip_parameters,
    lora_parameters,
    traffic_extras,
    traffic_layout,
)
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.runs.records import RoundRecord
from tests import run_files
from tests.run_files import accuracies, round_record, spread
from tests.tiny_clip import make_tiny_clip

pytestmark = pytest.mark.unit


def record(
    accuracy: float | None, *, personalized: float | None = None, **more: Any
) -> RoundRecord:
    """Return a round in which two clients were asked to train, for 15 bytes."""
    test = accuracies(
        shared=accuracy, personalized=None if personalized is None else spread(personalized)
    )
    traffic = {
        "down": {"payload": 0, "message": 10},
        "up": {"payload": 0, "message": 5},
        "clients": {},
    }
    return round_record(1, **{"test": test, "bytes": traffic} | more)


def test_bytes_are_counted_until_the_accuracy_is_there() -> None:
    records = [record(0.2), record(0.3), record(0.45), record(0.9)]
    assert bytes_to(records, 0.4) == (6, 45)
    assert bytes_to(records, 0.2) == (2, 15)
    assert bytes_to(records, 0.95) is None


def test_the_personalized_accuracy_counts_where_there_is_one() -> None:
    records = [record(0.9, personalized=0.1), record(0.1, personalized=0.5)]
    assert bytes_to(records, 0.4) == (4, 30)


def test_rounds_that_not_all_evaluated_are_passed_over() -> None:
    records = [record(0.9, sampled=True), record(None, test=None), record(0.5)]
    assert bytes_to(records, 0.4) == (6, 45)


def test_sizes_are_those_of_the_model(tmp_path: Path) -> None:
    from transformers import CLIPModel

    folder = make_tiny_clip(tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    model = CLIPModel.from_pretrained(folder)
    assert clip_parameters(config) == sum(p.numel() for p in model.parameters())
    # Two towers of 2 layers and width 32, query and value, each 8 x 32 and 32 x 8.
    assert lora_parameters(config) == 2 * 2 * 2 * (8 * 32 + 32 * 8)


def test_sizes_of_openais_models_are_the_known_ones() -> None:
    b16 = {"vision_config": {"patch_size": 16}, "text_config": {}, "projection_dim": 512}
    assert clip_parameters(b16) == 149_620_737
    assert clip_parameters({}) == 151_277_313  # ViT-B/32
    assert lora_parameters({}) == 12 * 4 * 8 * (768 + 512)


def test_columns_are_there_for_each_accuracy() -> None:
    more = traffic_layout([40, 52.5]).more
    assert more["MB to 40, lora"] == "mb_to_40_lora"
    assert more["MB to 52.5, prompts"] == "mb_to_52.5_prompts"


def test_figures_of_another_clip_are_left_out() -> None:
    description = describe(["bench=demo", "bench.seeds=[0]", "bench.accuracies=[40]"])
    cell = grid(description)[-1]
    cell.folder.mkdir(parents=True)
    model = {"model.name": "demo_clip", "model.hub_id": None, "model.revision": None}
    (cell.folder / "run.json").write_text(json.dumps(run_files.description(cell.name, model)))
    (cell.folder / "metrics.jsonl").write_text(json.dumps(record(0.5)) + "\n")
    files = find_clip(ModelConfig(), None)
    extras = traffic_extras(description)
    row = extras(cell, run_files.results(cell.name, digests={"clip": files.digest}))
    assert row["mb_to_40_prompts"] == 15 / 1e6
    # Two clients, once up and down, 4 bytes a number.
    assert row["mb_to_40_clip"] == 2 * 2 * 4 * clip_parameters(files.config) / 1e6
    assert row["clip_per_round"] == 4 * clip_parameters(files.config)
    assert row["lora_per_round"] == 4 * lora_parameters(files.config)
    other = run_files.results(cell.name, digests={"clip": "another"})
    assert extras(cell, other) == {"mb_to_40_prompts": 15 / 1e6}
