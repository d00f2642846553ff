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
    given_parts: NDArray[np.int8] | None = None,
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
    given_parts : NDArray[np.int8] or None
        ``(N,)``: 0 train, 1 val, 2 test. If an image is given for val, ``val_fraction`` means
        nothing, if one is given for test, ``test_fraction``; a part without any is drawn from
        train's.
    groups : Sequence[Sequence[int]]
        Near-duplicates. A group stays in one part: in a given test part if one of it is there,
        then in a given val part, otherwise where it fits, so that a part may come out smaller
        than its fraction.

    Raises
    ------
    DataError
        If a class has images, but too few for the parts that are drawn.
    """
    units = joined(len(labels), groups)
    part_of = np.zeros(len(labels), dtype=np.int64)  # 0 train, 1 val, 2 test
    if given_parts is not None:
        for unit in units:
            part_of[unit] = given_parts[unit].max()
    drawn = [name for part, name in ((1, "val"), (2, "test")) if not (part_of == part).any()]
    val_fraction = val_fraction if "val" in drawn else 0.0
    test_fraction = test_fraction if "test" in drawn else 0.0
    names = class_names or [f"number {c}" for c in range(num_classes)]
    room = np.zeros((3, num_classes), dtype=np.int64)
    for c, name in enumerate(names):
        members = part_of[labels == c]
        free = int((members == 0).sum())
        _check_class(name, len(members), free, drawn)
        if not free:
            continue
        wanted = _share(len(members), test_fraction)
        room[2, c] = min(wanted, free - 1 - (val_fraction > 0))
        room[1, c] = min(_share(len(members), val_fraction), free - 1 - room[2, c])
    for unit in _in_drawn_order(units, labels, num_classes, seed):
        if part_of[unit[0]]:
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


def _check_class(name: str, count: int, free: int, drawn: Sequence[str]) -> None:
    """Refuse a class with too few images to train on and to draw the other parts from."""
    if count == 0 or free >= 1 + len(drawn):
        return
    has = f"class {name} has {free} image{'s' if free != 1 else ''}"
    needed = f"at least {1 + len(drawn)}"
    if len(drawn) == 2:
        raise DataError(
            f"{has}: train, val and test need {needed}; add images or take the class away"
        )
    given = "val" if drawn == ["test"] else "test" if drawn else "val and test"
    needing = f"train and {drawn[0]} need" if drawn else "train needs"
    raise DataError(f"{has} outside the given {given} part: {needing} {needed}")


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
