"""Images that a data set has more than once: none may be trained on and tested with."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from fedrsclip_core.data.hub.split_names import TEST, TRAIN, VAL


@dataclass(frozen=True)
class Equal:
    """What is done with equal images.

    Attributes
    ----------
    kept : list[int]
        The rows that are used, in order.
    groups : list[list[int]]
        Of these, equal ones of the training split, from which other parts may be drawn.
    notes : list[str]
        A sentence each.
    """

    kept: list[int]
    groups: list[list[int]]
    notes: list[str]


def find(hashes: Sequence[str | None], parts: Sequence[int], labels: Sequence[int]) -> Equal:
    """Leave images out of train that val or test has too.

    Parameters
    ----------
    hashes : Sequence[str or None]
        Of each row's image; ``None`` if it cannot be read.
    parts : Sequence[int]
        The part of each row: 0 train, 1 val, 2 test, anything below 0 for none.
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
    notes = []
    if left_out:
        notes.append(f"{len(left_out)} images of train are left out: val or test has equal ones")
    if in_both:
        notes.append(f"{in_both} images are in val and in test: choose nothing by val here")
    if groups:
        notes.append(
            f"{sum(map(len, groups))} images of train are not the only ones of their kind: equal "
            "ones stay in one part of the split"
        )
    if torn := sum(len({labels[row] for row in rows}) > 1 for rows in equal):
        notes.append(f"{torn} images occur in more than one class")
    kept = [row for row in range(len(parts)) if parts[row] >= 0 and row not in left_out]
    return Equal(kept, groups, notes)
