from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrsclip_core.config.schema import Config, DataConfig, PartitionConfig
from fedrsclip_core.data import federated
from fedrsclip_core.data.federated import open_client_data
from fedrsclip_core.data.sources import open_source
from fedrsclip_core.errors import DataError
from tests.unit.data.helpers import make_folder

pytestmark = pytest.mark.unit


def config_of(scheme: str, **data: object) -> Config:
    return Config(data=DataConfig(**data), partition=PartitionConfig(scheme))  # type: ignore[arg-type]


def test_clients_share_out_a_folder(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 10, "lake": 10, "river": 10})
    config = config_of("heterogeneous", name="folder")
    clients = [
        open_client_data(config, tmp_path, partition_id=k, num_partitions=3) for k in range(3)
    ]
    dealt = [np.concatenate(list(client.split.parts.values())) for client in clients]
    assert sorted(np.concatenate(dealt).tolist()) == list(range(30))
    assert len({client.split_digest for client in clients}) == 1
    assert clients[0].split_digest
    assert clients[0].class_names == ["beach", "lake", "river"]


def test_the_split_is_dealt_once_for_all_clients_of_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(tmp_path / "images", {"beach": 12, "forest": 12})
    dealt = []
    deal = federated.deal

    def counted(config: Config, *arguments: Any) -> Any:
        dealt.append(config.seed)
        return deal(config, *arguments)

    monkeypatch.setattr(federated, "deal", counted)

    def train_of(client: int, seed: int) -> list[int]:
        config = replace(config_of("uniform", name="folder"), seed=seed)
        data = open_client_data(config, root, partition_id=client, num_partitions=3)
        return [int(i) for i in data.split.train]

    first = [train_of(client, seed=70) for client in range(3)]
    assert dealt == [70]
    other = [train_of(client, seed=71) for client in range(3)]
    assert dealt == [70, 71]
    assert first != other
    make_folder(root, {"lake": 12})
    assert [train_of(client, seed=71) for client in range(3)] != other
    assert dealt == [70, 71, 71]


def test_site_keeps_its_folder_to_itself(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 10})
    config = config_of("site", name="folder", class_names=["beach", "lake"])
    client = open_client_data(config, tmp_path, partition_id=1, num_partitions=2)
    assert [len(part) for part in client.split.parts.values()] == [7, 1, 2]
    assert client.split_digest == ""
    assert client.class_names == ["beach", "lake"]


def test_a_client_of_a_data_set_has_what_a_site_with_it_has(tmp_path: Path) -> None:
    make_folder(tmp_path / "a", {"beach": 12, "golfcourse": 9})
    make_folder(tmp_path / "b", {"golf_course": 11, "lake": 10})
    shared: dict[str, object] = {
        "name": "folder",
        "class_names": ["beach", "golf_course", "lake"],
        "class_aliases": {"golfcourse": "golf_course"},
        "near_duplicates": [["golfcourse/golfcourse00", "golfcourse/golfcourse01"]],
    }
    simulated, real = config_of("by_dataset", **shared), config_of("site", **shared)
    simulated.partition.datasets = ["a", "b"]
    for k, name in enumerate(simulated.partition.datasets):
        client = open_client_data(simulated, tmp_path, partition_id=k, num_partitions=2)
        site = open_client_data(real, tmp_path / name, partition_id=k, num_partitions=2)
        for part in ("train", "val", "test"):
            dealt, own = client.split.parts[part], site.split.parts[part]
            names = [client.source.describe(i) for i in dealt.tolist()]
            assert names == [f"{name}/{site.source.describe(i)}" for i in own.tolist()]
            np.testing.assert_array_equal(client.source.labels[dealt], site.source.labels[own])


def test_near_duplicates_stay_together(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 10})
    group = ["beach/beach00", "beach/beach01"]
    for seed in range(10):
        config = config_of("site", name="folder", class_names=["beach"], near_duplicates=[group])
        config.seed = seed
        client = open_client_data(config, tmp_path, partition_id=0, num_partitions=1)
        assert sum(0 in part for part in client.split.parts.values()) == 1
        assert any({0, 1} <= set(part.tolist()) for part in client.split.parts.values())


def test_demo_scenes_differ_between_clients(tmp_path: Path) -> None:
    config = config_of("uniform", images_per_class=10)
    clients = [open_client_data(config, None, partition_id=k, num_partitions=2) for k in (0, 1)]
    assert clients[0].split_digest == clients[1].split_digest
    assert clients[0].source.stat_key(0) != clients[1].source.stat_key(0)
    # A scene is one client's only, also where each client has a whole set of its own.
    config = config_of("site", images_per_class=10)
    sites = [open_client_data(config, None, partition_id=k, num_partitions=2) for k in (0, 1)]
    names = [{site.source.describe(i) for i in range(len(site.source))} for site in sites]
    assert not names[0] & names[1]


def test_class_with_one_image_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 10, "river": 1})
    with pytest.raises(DataError, match="class river has 1 image"):
        open_client_data(
            config_of("uniform", name="folder"), tmp_path, partition_id=0, num_partitions=2
        )


def test_more_clients_than_images(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 5})
    with pytest.raises(DataError, match="20 clients but only 3 training images"):
        open_client_data(
            config_of("uniform", name="folder"), tmp_path, partition_id=0, num_partitions=20
        )


def test_partition_that_does_not_exist() -> None:
    with pytest.raises(DataError, match="partition 4 does not exist"):
        open_client_data(config_of("uniform"), None, partition_id=4, num_partitions=4)


@pytest.mark.parametrize(("name", "key"), [("folder", "data.path"), ("hub", "data.hub_id")])
def test_nothing_given(name: str, key: str) -> None:
    with pytest.raises(DataError, match=f"set {key}"):
        open_source(DataConfig(name=name), None, seed=0, partition_id=0)


@pytest.mark.parametrize("seed", [0, 1])
def test_shots_limit_training_images_only(tmp_path: Path, seed: int) -> None:
    make_folder(tmp_path, {"beach": 10, "lake": 20})

    def dealt(shots: int | None) -> dict[str, set[int]]:
        config = config_of("uniform", name="folder", shots=shots)
        config.seed = seed
        clients = [
            open_client_data(config, tmp_path, partition_id=k, num_partitions=2) for k in (0, 1)
        ]
        return {
            part: {int(i) for client in clients for i in client.split.parts[part]}
            for part in ("train", "val", "test")
        }

    whole, two, four, many = (dealt(shots) for shots in (None, 2, 4, 1000))
    assert many == whole
    assert two["train"] < four["train"] < whole["train"]
    assert len([i for i in four["train"] if i < 10]) == len([i for i in four["train"] if i >= 10])
    assert len(four["train"]) == 8
    assert two["val"] == four["val"] == whole["val"]
    assert two["test"] == four["test"] == whole["test"]
    assert dealt(2) == two
