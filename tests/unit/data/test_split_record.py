"""Equal records for equal splits, other ones for any difference, the run's own digest inside."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedrsclip.data.split_record import split_record
from fedrsclip_core.config.schema import Config, DataConfig, PartitionConfig
from fedrsclip_core.data.federated import open_client_data
from tests.unit.data.helpers import make_folder, save_image

pytestmark = pytest.mark.unit


def config_of(root: Path, scheme: str = "heterogeneous", **values: object) -> Config:
    data = DataConfig("folder", str(root), class_names=["beach", "lake"])
    config = Config(data=data, partition=PartitionConfig(scheme), **values)  # type: ignore[arg-type]
    config.federation.num_clients = 2
    return config


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "images", {"beach": 10, "lake": 20})


def test_it_has_the_digest_of_a_run(root: Path) -> None:
    config = config_of(root)
    client = open_client_data(config, root, partition_id=1, num_partitions=2)
    record = split_record(config)
    assert record["digest"] == client.split_digest
    parts = client.split.parts
    for name, indices in parts.items():
        counts = np.bincount(client.source.labels[indices], minlength=2).tolist()
        assert record["clients"][1][name]["per_class"] == counts


def test_counts_and_what_is_written(root: Path) -> None:
    record = split_record(config_of(root, "uniform"))
    assert json.loads(json.dumps(record)) == record
    assert {name: part["per_class"] for name, part in record["parts"].items()} == {
        "train": [7, 14],
        "val": [1, 2],
        "test": [2, 4],
    }
    assert [client["train"]["count"] for client in record["clients"]] == [10, 11]
    assert (record["num_images"], record["class_names"]) == (30, ["beach", "lake"])


def test_equal_for_equal(root: Path) -> None:
    assert split_record(config_of(root)) == split_record(config_of(root))


def test_another_seed_is_another_split(root: Path) -> None:
    first, second = (split_record(config_of(root, seed=seed)) for seed in (0, 1))
    assert first["digest"] != second["digest"]
    assert first["parts"]["test"]["sha256"] != second["parts"]["test"]["sha256"]
    assert first["images"] == second["images"]


def test_another_partition_deals_the_same_split_otherwise(root: Path) -> None:
    first, second = (split_record(config_of(root, name)) for name in ("uniform", "dirichlet"))
    assert first["digest"] == second["digest"]
    assert first["clients"][0]["train"]["sha256"] != second["clients"][0]["train"]["sha256"]


def test_another_image_is_seen_where_the_split_is_the_same(root: Path) -> None:
    first = split_record(config_of(root))
    save_image(root / "lake" / "lake07.png", seed=99)
    second = split_record(config_of(root))
    assert first["digest"] == second["digest"]
    assert first["images"] != second["images"]


def test_a_site_has_a_split_of_its_own(root: Path) -> None:
    record = split_record(config_of(root, "site"))
    assert (record["digest"], record["clients"]) == (None, [])
    assert record["parts"]["train"]["count"] == 21


def test_demo_scenes() -> None:
    record = split_record(Config())
    assert len(record["clients"]) == 4
    client = open_client_data(Config(), None, partition_id=3, num_partitions=4)
    assert record["digest"] == client.split_digest
