"""A baseline's row: figures worked out by hand, computed once, of the images that a run had."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedrsclip.bench.baselines import rows
from fedrsclip.bench.baselines.federation import Classifiers, Outcome, linear
from fedrsclip.bench.baselines.rows import baseline_rows, measured
from fedrsclip.bench.cells import Cell, grid
from fedrsclip.bench.description import Description, describe
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.data.federated import open_client_data
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs.records import Results
from tests.run_files import results
from tests.unit.bench.baselines.clouds import empty, federation

pytestmark = pytest.mark.unit

ASKED = [
    "bench=demo",
    "bench.seeds=[0]",
    "bench.settings=[uniform]",
    "bench.methods=[fedrsclip_plus]",
]
ASKED += ["bench.baselines=[fedncm]", "data.images_per_class=6", "federation.num_clients=2"]


def exact(*labels: int, answers: list[int]) -> FeatureSet:
    """Return images of these classes, whose features name the answers."""
    return FeatureSet(np.eye(6, dtype=np.float32)[answers], np.array(labels))


def test_figures_worked_out_by_hand() -> None:
    train = exact(0, 1, answers=[0, 1])
    parts = federation(
        {"train": train, "val": empty(), "test": exact(0, 1, answers=[0, 2])},
        {"train": train, "val": empty(), "test": exact(0, 0, 1, 1, answers=[0, 0, 1, 1])},
        num_classes=3,
    )
    by_answer = linear(np.eye(3, 6))
    never = linear(np.roll(np.eye(3, 6), 1, axis=0))
    both = Classifiers(by_answer, [by_answer, never])
    row = measured(parts, Outcome([Classifiers(None, [never, never]), both], 2, 84, chosen=0.1))
    assert row["test_global"] == pytest.approx(100 * 5 / 6)
    assert row["test_personalized"] == pytest.approx(25)  # one half and nothing
    assert (row["test_personalized_worst"], row["test_own_worst"]) == (0, 0)
    # Over its own classes, 0 and 1, the first client's answer 2 becomes 0.
    assert row["test_own"] == pytest.approx(25)
    # Nobody has val images.
    assert row["val_global"] is row["val_personalized"] is None
    assert row["last5_test_personalized"] == pytest.approx(12.5)
    # F1 of class 0 is 1, of class 1: three hits of four images, 2 * 2 / (3 + 2)
    assert row["test_global_f1"] == pytest.approx(100 * (1 + 0.8) / 2)
    assert (row["round"], row["bytes_per_round"], row["chosen"]) == (2, 84, 0.1)


def test_what_is_no_probability_has_no_calibration_error() -> None:
    train = exact(0, 1, answers=[0, 1])
    parts = federation({"train": train, "val": train, "test": train}, num_classes=2)
    found = Classifiers(linear(np.eye(2, 6)), [linear(np.eye(2, 6))])
    assert measured(parts, Outcome([found], 1, 8))["test_global_ece"] is not None
    assert measured(parts, Outcome([found], 1, 8, confident=False))["test_global_ece"] is None


@pytest.fixture
def asked() -> tuple[Description, Cell, Results]:
    description = describe(ASKED)
    (cell,) = grid(description)
    split = open_client_data(cell.config, None, partition_id=0, num_partitions=2).split_digest
    digests = {"split": split, "clip": find_clip(ModelConfig(), None).digest}
    return description, cell, results(cell.name, digests=digests)


def test_a_row_is_computed_once(
    asked: tuple[Description, Cell, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    description, cell, done = asked
    (row,) = baseline_rows(description, cell, done)
    assert (row["setting"], row["method"], row["seed"]) == ("uniform", "fedncm", 0)
    assert row["split_digest"] == done["digests"]["split"]
    assert 0 < row["test_global"] <= 100
    kept: list[Path] = list((description.folder / "baselines").iterdir())
    assert [path.name for path in kept] == ["uniform-fedncm-seed0.json"]
    monkeypatch.setattr(rows, "baseline", lambda name: pytest.fail("it is computed again"))
    assert baseline_rows(description, cell, done) == [row]
    # Of another budget it is none of ours.
    about = json.loads(kept[0].read_text())
    about["of"]["optimizer.momentum"] = 0.5
    kept[0].write_text(json.dumps(about))
    with pytest.raises(pytest.fail.Exception):
        baseline_rows(description, cell, done)


@pytest.mark.parametrize("name", ["split", "clip"])
def test_other_images_or_another_clip_are_refused(
    asked: tuple[Description, Cell, Results], name: str
) -> None:
    description, cell, done = asked
    done["digests"][name] = "another"
    with pytest.raises(ConfigError, match="was run with other images or another CLIP"):
        baseline_rows(description, cell, done)
