"""Labels, order, split and deal of plain folders are those of runs before layouts were known."""

import hashlib
from pathlib import Path

import pytest

from fedrsclip_core.config.schema import Config, DataConfig, PartitionConfig
from fedrsclip_core.data.federated import open_client_data
from tests.unit.data.helpers import make_folder

pytestmark = pytest.mark.unit

GROUPS = [["beach/beach01", "beach/beach07"]]


def digests(root: Path, config: Config, num_clients: int) -> list[str]:
    """Digest the split, every client's part of it, and the order of the images."""
    dealt = hashlib.sha256()
    for client in range(num_clients):
        data = open_client_data(config, root, partition_id=client, num_partitions=num_clients)
        for indices in data.split.parts.values():
            dealt.update(indices.astype("<i8").tobytes())
    names = "\n".join(data.source.describe(i) for i in range(len(data.source)))
    order = hashlib.sha256(names.encode()).hexdigest()
    return [text[:16] for text in (data.split_digest, dealt.hexdigest(), order)]


@pytest.mark.parametrize(
    ("partition", "dealt"),
    [
        ("uniform", "85ea891f19d81423"),
        ("heterogeneous", "498d0eead788ecef"),
        ("dirichlet", "d05bbb3ec98c2ae6"),
    ],
)
def test_class_folders(tmp_path: Path, partition: str, dealt: str) -> None:
    make_folder(tmp_path, {"river": 11, "beach": 20, "Lake": 7})
    config = Config(
        seed=5,
        data=DataConfig("folder", near_duplicates=GROUPS),
        partition=PartitionConfig(partition),
    )
    assert digests(tmp_path, config, 3) == ["344c8bed663ac5c3", dealt, "ae9021111fc53e87"]


def test_train_and_test(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", {"river": 11, "beach": 20})
    make_folder(tmp_path / "test", {"river": 4, "beach": 3})
    config = Config(seed=5, data=DataConfig("folder"), partition=PartitionConfig("dirichlet"))
    assert digests(tmp_path, config, 2) == [
        "49b2233714c53819", "f1a7b7317469781f", "ed523c73ccde6c39",
    ]  # fmt: skip


def test_data_sets_and_aliases(tmp_path: Path) -> None:
    make_folder(tmp_path / "a", {"golfcourse": 9, "beach": 8})
    make_folder(tmp_path / "b", {"golf_course": 7, "golfcourse": 6})
    data = DataConfig(
        "folder",
        class_names=["beach", "golf_course"],
        class_aliases={"golfcourse": "golf_course"},
    )
    partition = PartitionConfig("by_dataset", datasets=["b", "a"])
    config = Config(seed=5, data=data, partition=partition)
    assert digests(tmp_path, config, 2) == [
        "0c7a0fe324125e75", "2e972ede92292ccc", "04ef24575ec77f0c",
    ]  # fmt: skip
