"""A partition that folders or a list give: who has which image, and what is refused."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fedrsclip.data.split_record import split_record
from fedrsclip_core.config.schema import Config, DataConfig, PartitionConfig
from fedrsclip_core.data.federated import ClientData, open_client_data
from fedrsclip_core.errors import DataError
from tests.unit.data.helpers import make_folder

pytestmark = pytest.mark.unit

PARTS = ("train", "val", "test")


def config_of(num_clients: int, seed: int = 0, **data: object) -> Config:
    config = Config(
        seed=seed,
        data=DataConfig("folder", **data),  # type: ignore[arg-type]
        partition=PartitionConfig("given"),
    )
    config.federation.num_clients = num_clients
    return config


def clients_of(root: Path, num_clients: int, seed: int = 0, **data: object) -> list[ClientData]:
    config = config_of(num_clients, seed, **data)
    return [
        open_client_data(config, root, partition_id=k, num_partitions=num_clients)
        for k in range(num_clients)
    ]


def shown(client: ClientData, part: str) -> list[str]:
    return [client.source.describe(i) for i in client.split.parts[part].tolist()]


def benchmark(root: Path) -> Path:
    """Three clients with different classes, and a test set of all."""
    make_folder(root / "train_set" / "client_0", {"beach": 10, "lake": 2})
    make_folder(root / "train_set" / "client_1", {"beach": 4})
    make_folder(root / "train_set" / "client_10", {"lake": 6, "river": 1})
    make_folder(root / "test_set", {"beach": 7, "lake": 4, "river": 2})
    return root


def test_each_client_has_its_folder_and_a_share_of_the_common_test_set(tmp_path: Path) -> None:
    clients = clients_of(benchmark(tmp_path), 3)
    for client, name in zip(clients, ("client_0", "client_1", "client_10"), strict=True):
        own = shown(client, "train") + shown(client, "val")
        folder = tmp_path / "train_set" / name
        assert sorted(own) == sorted(str(p.relative_to(tmp_path)) for p in folder.rglob("*.png"))
        assert all(image.startswith("test_set/") for image in shown(client, "test"))
        labels = client.source.labels
        assert {*labels[client.split.test]} <= {*labels[client.split.train]}
    tested = [image for client in clients for image in shown(client, "test")]
    assert len(tested) == len(set(tested)) == 13
    # In proportion to the images that each trains on: 9 and 3 of beach after val is drawn.
    beaches = [sum("beach" in image for image in shown(client, "test")) for client in clients]
    assert beaches == [5, 2, 0]


def test_val_is_drawn_for_each_client_where_it_has_enough(tmp_path: Path) -> None:
    clients = clients_of(benchmark(tmp_path), 3)
    labels = clients[0].source.labels
    counts = [Counter(labels[client.split.val].tolist()) for client in clients]
    assert counts == [{0: 1}, {0: 1}, {1: 1}]  # two lakes and one river are for training


def test_without_a_test_set_each_client_is_split_as_a_site_would_be(tmp_path: Path) -> None:
    for name in ("north", "south"):
        make_folder(tmp_path / name, {"beach": 12, "lake": 9})
    clients = clients_of(tmp_path, 2, class_names=["beach", "lake"])
    site = Config(
        data=DataConfig("folder", class_names=["beach", "lake"]),
        partition=PartitionConfig("site"),
    )
    for client, name in zip(clients, ("north", "south"), strict=True):
        alone = open_client_data(site, tmp_path / name, partition_id=0, num_partitions=1)
        for part in PARTS:
            assert shown(client, part) == [f"{name}/{image}" for image in shown(alone, part)]


def test_parts_that_clients_have_themselves(tmp_path: Path) -> None:
    for k in range(2):
        make_folder(tmp_path / f"client_{k}" / "train", {"beach": 5})
        make_folder(tmp_path / f"client_{k}" / "val", {"beach": 1})
        make_folder(tmp_path / f"client_{k}" / "test", {"beach": 2 + k})
    clients = clients_of(tmp_path, 2)
    assert [[len(c.split.parts[part]) for part in PARTS] for c in clients] == [[5, 1, 2], [5, 1, 3]]


def test_a_list_deals_as_its_column_says(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 8, "lake": 8})
    lines = [
        f"{name}/{name}{i:02d}.png,{name},{'train' if i < 6 else 'test'},{'ab'[i % 2]}"
        for name in ("beach", "lake")
        for i in range(8)
    ]
    file = tmp_path / "list.csv"
    file.write_text("path,label,split,client\n" + "\n".join(lines))
    clients = clients_of(file, 2)
    assert shown(clients[0], "test") == ["beach/beach06.png", "lake/lake06.png"]
    assert shown(clients[1], "test") == ["beach/beach07.png", "lake/lake07.png"]
    assert len(clients[0].split.train) == len(clients[1].split.train) == 4


def test_the_digest_knows_whose_images_are_whose(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 12})
    digests = []
    for clients in ("aabb", "abab", "abab", "acac"):
        lines = [f"beach/beach{i:02d}.png,beach,{clients[i % 4]}" for i in range(12)]
        (tmp_path / "list.csv").write_text("path,label,client\n" + "\n".join(lines))
        first, second = clients_of(tmp_path / "list.csv", 2)
        assert first.split_digest == second.split_digest
        digests.append(first.split_digest)
    assert digests[0] != digests[1] == digests[2] == digests[3]  # names alone deal nothing


def test_the_record_of_the_split_has_the_same_digest(tmp_path: Path) -> None:
    root = benchmark(tmp_path)
    config = config_of(3)
    config.data.path = str(root)
    record = split_record(config)
    assert record["digest"] == clients_of(root, 3)[0].split_digest
    assert [client["test"]["count"] for client in record["clients"]] == [
        len(client.split.test) for client in clients_of(root, 3)
    ]


def test_other_partitions_deal_all_images_together(tmp_path: Path) -> None:
    config = config_of(2)
    config.partition = PartitionConfig("uniform")
    make_folder(benchmark(tmp_path) / "train_set" / "client_1", {"river": 2})
    dealt = [
        open_client_data(config, tmp_path, partition_id=k, num_partitions=2).split for k in (0, 1)
    ]
    assert sum(len(split.test) for split in dealt) == 13


def test_near_duplicates_of_the_test_set_are_not_trained_on(tmp_path: Path) -> None:
    benchmark(tmp_path)
    (tmp_path / "test_set" / "beach" / "beach00.png").rename(
        tmp_path / "test_set" / "beach" / "copy.png"
    )
    group = ["beach/copy", "beach/beach03"]
    clients = clients_of(tmp_path, 3, near_duplicates=[group])
    trained = [i for c in clients for part in ("train", "val") for i in shown(c, part)]
    assert trained
    assert not any(image.endswith("beach/beach03.png") for image in trained)


def test_few_shots_are_of_the_whole_federation(tmp_path: Path) -> None:
    clients = clients_of(benchmark(tmp_path), 3, seed=1, shots=6)
    labels = clients[0].source.labels
    counts = Counter(int(labels[i]) for client in clients for i in client.split.train)
    assert counts == {0: 6, 1: 6, 2: 1}


@pytest.mark.parametrize(
    ("make", "num_clients", "sentence"),
    [
        ({"beach": 9}, 2, "partition=given needs a folder for each client"),
        ({"client_0/beach": 9, "client_1/beach": 9}, 3, r"those of 2 clients .*num_clients to 2"),
        ({"client_0/beach": 9, "client_1/beach": 0}, 2, "client_1 has no training image"),
        (
            {"train/client_0/beach": 9, "train/client_1/beach": 9, "test/lake": 2},
            2,
            "class lake has no image to train on",
        ),
    ],
)
def test_what_cannot_be_dealt(
    tmp_path: Path, make: dict[str, int], num_clients: int, sentence: str
) -> None:
    for folder, count in make.items():
        place = tmp_path / folder
        make_folder(place.parent, {place.name: count})
    with pytest.raises(DataError, match=sentence):
        clients_of(tmp_path, num_clients, class_names=["beach", "lake"])


def test_training_images_of_no_client(tmp_path: Path) -> None:
    make_folder(tmp_path, {"beach": 8})
    lines = [f"beach/beach{i:02d}.png,beach,{'a' if i else ''}" for i in range(8)]
    (tmp_path / "list.csv").write_text("path,label,client\n" + "\n".join(lines))
    with pytest.raises(DataError, match="1 training images are no client's"):
        clients_of(tmp_path / "list.csv", 1)


def test_equal_parts_are_equal_for_every_seed(tmp_path: Path) -> None:
    """Train and val change with the seed, who has them does not."""
    root = benchmark(tmp_path)
    first, again, other = (clients_of(root, 3, seed=s) for s in (1, 1, 2))
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one.split.train, two.split.train)
        together = [np.sort(np.concatenate([c.split.train, c.split.val])) for c in (one, three)]
        np.testing.assert_array_equal(*together)
