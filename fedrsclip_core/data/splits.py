"""Seeded train, val and test parts, class by class."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.errors import DataError

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Sorted indices of the images of each part.

    Attributes
    ----------
    train, val, test : NDArray[np.int64]
        Disjoint.
    """

    train: Indices
    val: Indices
    test: Indices

    @property
    def parts(self) -> dict[str, Indices]:
        """The three parts by name."""
        return {"train": self.train, "val": self.val, "test": self.test}


def make_split(
    labels: Indices,
    num_classes: int,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    class_names: Sequence[str] = (),
    fixed_test: NDArray[np.bool_] | None = None,
    groups: Sequence[Sequence[int]] = (),
) -> Split:
    """Split images class by class; how one class falls does not depend on the others.

    Each part with a fraction above 0 gets at least one image of each class, and train always does.

    Parameters
    ----------
    labels : NDArray[np.int64]
        ``(N,)`` class indices.
    num_classes : int
        Classes of the federation; images of some may be absent.
    val_fraction, test_fraction : float
        Of all images of a class.
    seed : int
        Of the draw.
    class_names : Sequence[str]
        For error sentences.
    fixed_test : NDArray[np.bool_] or None
        ``(N,)``, a given test part; ``test_fraction`` then means nothing.
    groups : Sequence[Sequence[int]]
        Near-duplicates. A group stays in one part: in the given test part if one of it is there,
        otherwise where it fits, so that a part may come out smaller than its fraction.

    Raises
    ------
    DataError
        If a class has images, but too few for three parts.
    """
    units = joined(len(labels), groups)
    part_of = np.zeros(len(labels), dtype=np.int64)  # 0 train, 1 val, 2 test
    if fixed_test is not None:
        for unit in units:
            if fixed_test[unit].any():
                part_of[unit] = 2
    names = class_names or [f"number {c}" for c in range(num_classes)]
    room = np.zeros((3, num_classes), dtype=np.int64)
    for c, name in enumerate(names):
        members = part_of[labels == c]
        free = int((members == 0).sum())
        _check_class(name, len(members), free, given=fixed_test is not None)
        if not free:
            continue
        test_share = 0.0 if fixed_test is not None else test_fraction
        wanted = _share(len(members), test_share)
        room[2, c] = min(wanted, free - 1 - (val_fraction > 0))
        room[1, c] = min(_share(len(members), val_fraction), free - 1 - room[2, c])
    for unit in _in_drawn_order(units, labels, num_classes, seed):
        if part_of[unit[0]] == 2:
            continue
        needed = np.bincount(labels[unit], minlength=num_classes)
        part = next((p for p in (2, 1) if (needed <= room[p]).all()), 0)
        room[part] -= needed
        part_of[unit] = part
    train, val, test = (np.flatnonzero(part_of == part) for part in range(3))
    return Split(train, val, test)


def limit_shots(split: Split, labels: Indices, shots: int | None, seed: int) -> Split:
    """Keep at most ``shots`` training images of each class; the other parts stay as they are.

    The images kept for fewer shots are among those kept for more.

    Parameters
    ----------
    split : Split
        The whole federation's, before it is dealt.
    labels : NDArray[np.int64]
        ``(N,)`` class indices.
    shots : int or None
        ``None`` keeps all.
    seed : int
        Of the draw.
    """
    if shots is None:
        return split
    kept = [np.empty(0, dtype=np.int64)]
    for c in np.unique(labels[split.train]):
        members = split.train[labels[split.train] == c]
        order = np.random.default_rng([2, seed, int(c)]).permutation(members)
        kept.append(order[:shots])
    return replace(split, train=np.sort(np.concatenate(kept)))


def split_digest(split: Split, labels: Indices) -> str:
    """sha256 over the parts' indices and the labels: equal at all who deal the same images."""
    digest = hashlib.sha256()
    for array in (*split.parts.values(), labels):
        digest.update(len(array).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()


def _share(count: int, fraction: float) -> int:
    return max(int(count * fraction + 0.5), 1) if fraction > 0 else 0


def _check_class(name: str, count: int, free: int, *, given: bool) -> None:
    if 0 < count < 3:
        raise DataError(
            f"class {name} has {count} image{'s' if count > 1 else ''}: train, val and test need "
            "at least 3; add images or take the class away"
        )
    if given and count > 0 and free < 2:
        raise DataError(
            f"class {name} has {free} image{'s' if free != 1 else ''} outside the test folder: "
            "train and val need at least 2"
        )


def joined(count: int, groups: Sequence[Sequence[int]]) -> list[Indices]:
    """Return what moves together: groups, joined where they share an image, and single images."""
    parent = np.arange(count)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for group in groups:
        for other in group[1:]:
            low, high = sorted((root(group[0]), root(other)))
            parent[high] = low
    members: dict[int, list[int]] = {}
    for i in range(count):
        members.setdefault(root(i), []).append(i)
    return [np.array(unit, dtype=np.int64) for unit in members.values()]


def _in_drawn_order(
    units: list[Indices], labels: Indices, num_classes: int, seed: int
) -> list[Indices]:
    """Class after class; within a class by a seeded draw."""
    rank = np.zeros(len(labels), dtype=np.int64)
    for c in range(num_classes):
        members = np.flatnonzero(labels == c)
        rank[members] = np.random.default_rng([0, seed, c]).permutation(len(members))
    return sorted(units, key=lambda unit: (labels[unit[0]], rank[unit[0]]))
