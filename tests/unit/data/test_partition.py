import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedrsclip_core.config.schema import PartitionConfig
from fedrsclip_core.data.partition import partition
from fedrsclip_core.data.splits import Split, make_split
from fedrsclip_core.errors import DataError

pytestmark = pytest.mark.unit

SCHEMES = st.one_of(
    st.builds(PartitionConfig, name=st.just("uniform")),
    st.builds(
        PartitionConfig,
        name=st.just("heterogeneous"),
        num_classes_per_partition=st.one_of(st.none(), st.integers(1, 6)),
    ),
    st.builds(PartitionConfig, name=st.just("dirichlet"), alpha=st.floats(0.05, 50)),
)


def split_of(counts: list[int], seed: int = 0) -> tuple[np.ndarray, Split]:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    return labels, make_split(labels, len(counts), val_fraction=0.1, test_fraction=0.2, seed=seed)


@settings(max_examples=200, deadline=None)
@given(
    counts=st.lists(st.one_of(st.just(0), st.integers(3, 40)), min_size=1, max_size=6),
    config=SCHEMES,
    num_partitions=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_disjoint_complete_deterministic_with_one_assignment(
    counts: list[int], config: PartitionConfig, num_partitions: int, seed: int
) -> None:
    labels, split = split_of(counts, seed)
    try:
        clients = partition(labels, len(counts), split, config, num_partitions, seed)
    except DataError:
        # Evenly dealt, only too few images are a reason; the other schemes have their own tests.
        assert config.name != "uniform" or num_partitions > len(split.train)
        assume(False)
    assert len(clients) == num_partitions
    for name, indices in split.parts.items():
        dealt = np.concatenate([client.parts[name] for client in clients])
        assert sorted(dealt.tolist()) == indices.tolist()  # disjoint and complete
    for client in clients:
        assert len(client.train) >= 1
        held = set(labels[client.train])
        assert set(labels[client.val]) <= held
        assert set(labels[client.test]) <= held
    again = partition(labels, len(counts), split, config, num_partitions, seed)
    for first, second in zip(clients, again, strict=True):
        for name in split.parts:
            np.testing.assert_array_equal(first.parts[name], second.parts[name])


@settings(max_examples=100, deadline=None)
@given(
    num_classes=st.integers(1, 30),
    num_partitions=st.integers(1, 12),
    per_client=st.one_of(st.none(), st.integers(1, 30)),
    seed=st.integers(0, 1000),
)
def test_heterogeneous_clients_hold_their_number_of_classes(
    num_classes: int, num_partitions: int, per_client: int | None, seed: int
) -> None:
    assume(per_client is None or num_classes <= per_client * num_partitions)
    assume(per_client is None or per_client <= num_classes)
    labels, split = split_of([20] * num_classes, seed)
    config = PartitionConfig("heterogeneous", per_client)
    clients = partition(labels, num_classes, split, config, num_partitions, seed)
    expected = per_client or min(num_classes, -(-2 * num_classes // num_partitions))
    holders = np.zeros(num_classes, dtype=int)
    for client in clients:
        held = np.unique(labels[client.train])
        assert len(held) == expected
        holders[held] += 1
    assert holders.min() >= 1
    assert holders.max() - holders.min() <= 1


@settings(max_examples=100, deadline=None)
@given(
    datasets=st.lists(
        st.lists(st.one_of(st.just(0), st.integers(6, 20)), min_size=2, max_size=4).filter(any),
        min_size=1,
        max_size=3,
    ),
    num_partitions=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
def test_by_dataset_is_disjoint_and_complete(
    datasets: list[list[int]], num_partitions: int, seed: int
) -> None:
    labels = np.concatenate([np.repeat(np.arange(len(c)), c) for c in datasets])
    origins = np.repeat(np.arange(len(datasets)), [sum(counts) for counts in datasets])
    split = make_split(labels, 4, val_fraction=0.2, test_fraction=0.2, seed=seed)
    config = PartitionConfig("by_dataset")
    try:
        clients = partition(labels, 4, split, config, num_partitions, seed, origins)
    except DataError as error:
        few = num_partitions < len(datasets)
        assert few or "lower federation.num_clients" in str(error)
        assume(False)
    assert len(clients) == num_partitions
    for name, indices in split.parts.items():
        dealt = np.concatenate([client.parts[name] for client in clients])
        assert sorted(dealt.tolist()) == indices.tolist()
    for number, client in enumerate(clients):
        own = np.concatenate(list(client.parts.values()))
        assert set(origins[own]) == {number % len(datasets)}


def test_by_dataset_needs_a_client_for_each_data_set() -> None:
    labels, split = split_of([10, 10])
    origins = np.arange(20) % 3
    with pytest.raises(DataError, match=r"3 data sets, but there are 2 clients"):
        partition(labels, 2, split, PartitionConfig("by_dataset"), 2, 0, origins)
    with pytest.raises(DataError, match="data=union"):
        partition(labels, 2, split, PartitionConfig("by_dataset"), 2, 0)


def test_uniform_is_even() -> None:
    labels, split = split_of([100] * 21)
    clients = partition(labels, 21, split, PartitionConfig("uniform"), 10, 0)
    for client in clients:
        assert np.bincount(labels[client.train]).tolist() == [7] * 21
        assert np.bincount(labels[client.val]).tolist() == [1] * 21
        assert np.bincount(labels[client.test]).tolist() == [2] * 21


def test_uniform_shares_remainders_out() -> None:
    labels, split = split_of([11] * 7)
    clients = partition(labels, 7, split, PartitionConfig("uniform"), 4, 0)
    sizes = [len(client.train) for client in clients]
    assert max(sizes) - min(sizes) <= 1


def test_seed_changes_who_holds_what() -> None:
    labels, split = split_of([20] * 10)
    config = PartitionConfig("heterogeneous", 2)
    held = [
        [sorted(set(labels[c.train])) for c in partition(labels, 10, split, config, 5, seed)]
        for seed in (0, 1)
    ]
    assert held[0] != held[1]


def test_small_alpha_is_more_uneven() -> None:
    labels, split = split_of([100] * 10)

    def unevenness(alpha: float) -> float:
        config = PartitionConfig("dirichlet", alpha=alpha)
        clients = partition(labels, 10, split, config, 5, 0)
        return float(np.std([np.bincount(labels[c.train], minlength=10) for c in clients]))

    assert unevenness(0.1) > 2 * unevenness(100)


def test_site_keeps_everything() -> None:
    labels, split = split_of([10, 10])
    assert partition(labels, 2, split, PartitionConfig("site"), 5, 0) == [split]


@pytest.mark.parametrize("name", ["uniform", "heterogeneous", "dirichlet"])
def test_more_clients_than_images(name: str) -> None:
    labels, split = split_of([3, 3])
    with pytest.raises(DataError, match="9 clients but only 2 training images"):
        partition(labels, 2, split, PartitionConfig(name), 9, 0)


def test_too_few_classes_per_client_names_the_numbers() -> None:
    labels, split = split_of([10] * 9)
    with pytest.raises(DataError, match=r"2 clients with 3 classes each .* all 9 .* at least 5"):
        partition(labels, 9, split, PartitionConfig("heterogeneous", 3), 2, 0)


def test_too_many_classes_per_client_names_the_numbers() -> None:
    labels, split = split_of([10] * 3)
    with pytest.raises(DataError, match="is 4, but the data has images of 3 classes"):
        partition(labels, 3, split, PartitionConfig("heterogeneous", 4), 2, 0)


def test_dirichlet_gives_up_with_the_numbers() -> None:
    labels, split = split_of([20])
    with pytest.raises(DataError, match=r"alpha=0\.01 some of the 14 clients"):
        partition(labels, 1, split, PartitionConfig("dirichlet", alpha=0.01), 14, 0)


def test_client_whose_classes_are_too_small_is_named() -> None:
    labels, split = split_of([3, 40])
    with pytest.raises(DataError, match="gets no training image"):
        partition(labels, 2, split, PartitionConfig("heterogeneous", 1), 6, 0)
