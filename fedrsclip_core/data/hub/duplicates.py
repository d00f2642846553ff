"""Images that a data set has more than once: none may be trained on and tested with."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from fedrsclip_core.data.hub.split_names import EQUAL, TEST, TRAIN, VAL


@dataclass(frozen=True)
class Equal:
    """What is done with equal images.

    Attributes
    ----------
    parts : list[int]
        The part of each row, now ``EQUAL`` for those of train that val or test has, too.
    groups : list[list[int]]
        Equal rows of train, from which other parts may be drawn.
    notes : list[str]
        A sentence each.
    """

    parts: list[int]
    groups: list[list[int]]
    notes: list[str]


def find(hashes: Sequence[str | None], parts: Sequence[int], labels: Sequence[int]) -> Equal:
    """Leave images out of train that val or test has too.

    Parameters
    ----------
    hashes : Sequence[str or None]
        Of each row's image; ``None`` if it cannot be read.
    parts : Sequence[int]
        The part of each row: 0 train, 1 val, 2 test, below 0 none.
    labels : Sequence[int]
        The class of each row.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, content in enumerate(hashes):
        if content is not None and parts[row] >= 0:
            rows_of[content].append(row)
    equal = [rows for rows in rows_of.values() if len(rows) > 1]
    leaks = [rows for rows in equal if any(parts[row] > TRAIN for row in rows)]
    left_out = {row for rows in leaks for row in rows if parts[row] == TRAIN}
    groups = [rows for rows in equal if all(parts[row] == TRAIN for row in rows)]
    in_both = sum({parts[row] for row in rows} >= {VAL, TEST} for rows in equal)
    torn = sum(len({labels[row] for row in rows}) > 1 for rows in equal)
    said = {
        "left out of train, since val or test has an equal image": len(left_out),
        "kept in one part of the split, since they are equal": sum(map(len, groups)),
        "both in val and in test, so that nothing should be chosen by val": in_both,
        "in more than one class": torn,
    }
    notes = [f"images {what}: {count}" for what, count in said.items() if count]
    return Equal([EQUAL if r in left_out else part for r, part in enumerate(parts)], groups, notes)
