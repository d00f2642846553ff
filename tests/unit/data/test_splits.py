import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrsclip_core.data.splits import Split, make_split, split_digest
from fedrsclip_core.errors import DataError

pytestmark = pytest.mark.unit


def labels_of(counts: list[int], seed: int = 0) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels).astype(np.int64)


def assert_partition_of(split: Split, count: int) -> None:
    together = np.concatenate(list(split.parts.values()))
    assert sorted(together.tolist()) == list(range(count))


def test_fractions_hold_in_each_class() -> None:
    labels = labels_of([100, 100, 60])
    split = make_split(labels, 3, val_fraction=0.1, test_fraction=0.2, seed=0)
    assert np.bincount(labels[split.test]).tolist() == [20, 20, 12]
    assert np.bincount(labels[split.val]).tolist() == [10, 10, 6]
    assert_partition_of(split, 260)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.one_of(st.just(0), st.integers(3, 40)), min_size=1, max_size=6),
    val_fraction=st.floats(0, 0.5),
    test_fraction=st.floats(0, 0.49),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_part_has_every_class(
    counts: list[int], val_fraction: float, test_fraction: float, seed: int
) -> None:
    labels = labels_of(counts)
    options = {"val_fraction": val_fraction, "test_fraction": test_fraction, "seed": seed}
    split = make_split(labels, len(counts), **options)
    assert_partition_of(split, len(labels))
    held = {c for c, n in enumerate(counts) if n}
    assert set(labels[split.train]) == held
    assert set(labels[split.val]) == (held if val_fraction > 0 else set())
    assert set(labels[split.test]) == (held if test_fraction > 0 else set())
    again = make_split(labels, len(counts), **options)
    assert split_digest(split, labels) == split_digest(again, labels)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(6, 20), min_size=1, max_size=4),
    data=st.data(),
    seed=st.integers(0, 100),
)
def test_groups_stay_in_one_part(counts: list[int], data: st.DataObject, seed: int) -> None:
    labels = labels_of(counts)
    image = st.integers(0, len(labels) - 1)
    groups = data.draw(st.lists(st.lists(image, min_size=2, max_size=4), max_size=4))
    split = make_split(
        labels, len(counts), val_fraction=0.2, test_fraction=0.2, seed=seed, groups=groups
    )
    assert_partition_of(split, len(labels))
    assert set(labels[split.train]) == set(range(len(counts)))
    for group in groups:
        assert sum(bool(np.isin(group, part).any()) for part in split.parts.values()) == 1


def test_a_class_falls_alike_whoever_else_is_there() -> None:
    first = labels_of([20])
    both = np.concatenate([first, np.full(30, 1)])
    alone = make_split(first, 1, val_fraction=0.1, test_fraction=0.2, seed=3)
    together = make_split(both, 2, val_fraction=0.1, test_fraction=0.2, seed=3)
    assert alone.test.tolist() == [i for i in together.test.tolist() if i < 20]


def test_seed_changes_the_draw() -> None:
    labels = labels_of([50])
    tests = [
        make_split(labels, 1, val_fraction=0.1, test_fraction=0.2, seed=s).test for s in (0, 1)
    ]
    assert tests[0].tolist() != tests[1].tolist()


def test_given_test_folder_is_kept() -> None:
    labels = labels_of([20, 20])
    given = np.where(np.arange(40) % 4 == 0, 2, 0).astype(np.int8)
    split = make_split(labels, 2, val_fraction=0.1, test_fraction=0.5, seed=0, given_parts=given)
    assert split.test.tolist() == np.flatnonzero(given).tolist()
    assert np.bincount(labels[split.val]).tolist() == [2, 2]
    assert_partition_of(split, 40)


def test_near_duplicate_of_a_given_test_image_is_no_training_image() -> None:
    labels = np.zeros(10, dtype=np.int64)
    given = np.array([0] * 8 + [1, 2], dtype=np.int8)
    split = make_split(
        labels, 1, val_fraction=0.1, test_fraction=0.2, seed=0, given_parts=given,
        groups=[(0, 9), (1, 8)],
    )  # fmt: skip
    assert split.test.tolist() == [0, 9]
    assert split.val.tolist() == [1, 8]


def test_given_val_and_test_are_kept_whatever_the_fractions() -> None:
    labels = labels_of([20, 20])
    given = (np.arange(40) % 4 % 3).astype(np.int8)
    splits = [
        make_split(labels, 2, val_fraction=f, test_fraction=f, seed=s, given_parts=given)
        for f, s in ((0.0, 0), (0.3, 1))
    ]
    for split in splits:
        for part, indices in enumerate(split.parts.values()):
            assert indices.tolist() == np.flatnonzero(given == part).tolist()


def test_a_test_part_is_drawn_beside_a_given_val_part() -> None:
    labels = labels_of([20, 20])
    given = (np.arange(40) % 4 == 0).astype(np.int8)
    split = make_split(labels, 2, val_fraction=0.5, test_fraction=0.2, seed=0, given_parts=given)
    assert split.val.tolist() == np.flatnonzero(given).tolist()
    assert np.bincount(labels[split.test]).tolist() == [4, 4]
    assert_partition_of(split, 40)


@pytest.mark.parametrize(
    ("given_test", "digest"),
    [
        (False, "5037579f2e2b5e171d362fa8e64b530fa6ec7f9cce83633de3d52e8c187c9eee"),
        (True, "20f1b90c8a24b8d3e902deea85f6b37e88cece75133abad1b113c2d654c936cb"),
    ],
)
def test_splits_of_before_keep_their_bits(given_test: bool, digest: str) -> None:
    labels = np.random.default_rng(5).permutation(np.repeat(np.arange(3), [30, 17, 9]))
    given = np.where(np.arange(56) % 4 == 0, 2, 0).astype(np.int8) if given_test else None
    split = make_split(
        labels, 3, val_fraction=0.15, test_fraction=0.25, seed=7, given_parts=given,
        groups=[(1, 2, 9), (20, 21)],
    )  # fmt: skip
    assert split_digest(split, labels) == digest


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_of_a_class(count: int) -> None:
    labels = labels_of([5, count])
    with pytest.raises(DataError, match=f"class river has {count} image"):
        make_split(
            labels, 2, val_fraction=0.1, test_fraction=0.2, seed=0, class_names=["beach", "river"]
        )


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([0, 2, 2, 2, 2], "1 image outside the given test part: train and val need at least 2"),
        ([0, 1, 1, 1, 1], "1 image outside the given val part: train and test need at least 2"),
        ([1, 2, 2, 2, 2], "0 images outside the given val and test part: train needs at least 1"),
    ],
)
def test_too_few_images_outside_the_given_parts(given: list[int], sentence: str) -> None:
    with pytest.raises(DataError, match=f"class beach has {sentence}"):
        make_split(
            labels_of([5]), 1, val_fraction=0.1, test_fraction=0.2, seed=0, class_names=["beach"],
            given_parts=np.array(given, dtype=np.int8),
        )  # fmt: skip


def test_digest_sees_parts_and_labels() -> None:
    labels = labels_of([10, 10])
    split = make_split(labels, 2, val_fraction=0.1, test_fraction=0.2, seed=0)
    swapped = Split(split.train, split.test, split.val)
    digests = {split_digest(split, labels), split_digest(swapped, labels)}
    digests.add(split_digest(split, labels[::-1]))
    assert len(digests) == 3
