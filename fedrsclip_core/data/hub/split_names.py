"""Which split of a data set trains, which validates, which tests, and which is left out."""

import re
from collections.abc import Mapping, Sequence

from fedrsclip_core.errors import DataError

TRAIN, VAL, TEST = 0, 1, 2
NO_PART, EQUAL = -2, -1
"""Rows that are left out: of no part, and those of train that val or test has, too."""
PART_NAMES = ("train", "val", "test")

_WORDS = (
    ("train", "training"),
    ("validation", "val", "valid", "dev"),
    ("test", "testing"),
)
_EVALUATION = ("eval", "evaluation")
"""Test where no split is called so, otherwise nobody knows what."""
_TRAIN_AND_VAL = ("trainval", "train_val", "trainvalid", "train_validation")
_WHOLE = ("all", "full", "whole", "complete", "data", "default")
_MOST_NAMED = 8


def parts_of(
    names: Sequence[str], chosen: Mapping[int, Sequence[str]], where: str
) -> dict[str, int]:
    """Return the part of each split that is used; the others are left out.

    A split is used if it is called ``train``, ``val`` or ``test``, or plainly so
    (``validation``, ``train_1`` and ``train_2``); a single split of any other name, or ``all``,
    is the whole data set, which is then split here. Copies of test images that somebody has made
    noisy have names of their own, so whatever has another name is never trained on.

    Parameters
    ----------
    names : Sequence[str]
        The splits that have rows.
    chosen : Mapping[int, Sequence[str]]
        Splits by part as ``data.train_splits``, ``val_splits`` and ``test_splits`` name them; if
        any is named, exactly these are used.
    where : str
        The data set, for error sentences.

    Raises
    ------
    DataError
        If there is nothing to train on, or it cannot be told what a split is for.
    """
    if any(chosen.values()):
        return _chosen(names, chosen, where)
    train = _named(names, TRAIN, where) or [n for n in names if n.lower() in _TRAIN_AND_VAL]
    others = [name for name in names if name not in train]
    val, test = _named(others, VAL, where), _named(others, TEST, where)
    test = test or [name for name in others if name.lower() in _EVALUATION]
    if not train:
        train = _whole(names, [*val, *test], where)
    parts = {TRAIN: train, VAL: val, TEST: test}
    return {name: part for part, found in parts.items() for name in found}


def is_part(name: str) -> bool:
    """Whether a split of this name is plainly for train, val or test."""
    words = "|".join([*(word for part in _WORDS for word in part), *_EVALUATION])
    return re.fullmatch(rf"(.+[._-])?({words})([._-].+)?", name.lower()) is not None


def as_listed(names: Sequence[str]) -> str:
    """Return names for a sentence, the first few if they are many."""
    shown = ", ".join(names[:_MOST_NAMED])
    return f"{shown} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else shown


def _chosen(
    names: Sequence[str], chosen: Mapping[int, Sequence[str]], where: str
) -> dict[str, int]:
    found: dict[str, int] = {}
    for part, wanted in chosen.items():
        for name in wanted:
            key = f"data.{PART_NAMES[part]}_splits"
            if name not in names:
                raise DataError(
                    f"{where} has no split {name!r} with rows, which {key} names: it has "
                    f"{as_listed(names)}"
                )
            if name in found:
                raise DataError(f"{key} names {name!r}, which is named before: take one away")
            found[name] = part
    if TRAIN not in found.values():
        raise DataError(f"data.train_splits is empty: name a split of {where} to train on")
    return found


def _named(names: Sequence[str], part: int, where: str) -> list[str]:
    """Return the splits that are plainly of a part: by its name, numbered, or the only variant."""
    words = "|".join(_WORDS[part])
    names = [name for name in names if name.lower() not in _TRAIN_AND_VAL]
    exact = [name for name in names if re.fullmatch(words, name.lower())]
    numbered = [name for name in names if re.fullmatch(rf"({words})[._-]?[0-9]+", name.lower())]
    variants = [
        name for name in names if re.fullmatch(rf"(.+[._-])?({words})([._-].+)?", name.lower())
    ]
    if len(exact) > 1 or (not exact and not numbered and len(variants) > 1):
        raise _unclear(exact or variants, part, where)
    return exact or numbered or variants


def _whole(names: Sequence[str], held_out: Sequence[str], where: str) -> list[str]:
    """Return the split that is the whole data set, to be split here."""
    whole = [name for name in names if name.lower() in _WHOLE]
    if len(whole) == 1 and not held_out:
        return whole
    if len(names) == 1 and not held_out:
        return list(names)
    raise DataError(
        f"{where} has no split to train on, only {as_listed(names)}: name those to train on in "
        "data.train_splits (what data.val_splits and data.test_splits do not name is then drawn "
        "from them), or take a data set that has a split train"
    )


def _unclear(names: Sequence[str], part: int, where: str) -> DataError:
    return DataError(
        f"{where} has the splits {as_listed(names)}, and it cannot be told which of them is "
        f"{PART_NAMES[part]}: name the splits to use in data.train_splits, data.val_splits and "
        "data.test_splits"
    )
