"""Classes that a person names: those a run was trained for, and words that nobody trained."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedrsclip_core.config.class_file import ClassFile, read_class_file
from fedrsclip_core.config.shared_tensors import OFFSETS, SHARED_OFFSETS_V, SharedTensors
from fedrsclip_core.config.texts import composed
from fedrsclip_core.data.names import check_name, class_words
from fedrsclip_core.errors import ConfigError

_FILE_SIGN = "@"
_NEW = -1


@dataclass(frozen=True)
class NamedClasses:
    """What is classified into.

    Attributes
    ----------
    names, words : tuple of str
        Each class as it is shown, and as the text encoder reads it.
    places : tuple of int
        Which of the run's classes each is; -1 of those that nobody trained.
    """

    names: tuple[str, ...]
    words: tuple[str, ...]
    places: tuple[int, ...]

    @property
    def untrained(self) -> tuple[str, ...]:
        """The classes that nobody trained."""
        pairs = zip(self.names, self.places, strict=True)
        return tuple(name for name, place in pairs if place == _NEW)


def all_classes(class_names: Sequence[str], words: Sequence[str]) -> NamedClasses:
    """Return the classes of a run themselves."""
    return NamedClasses(tuple(class_names), tuple(words), tuple(range(len(class_names))))


def find_classes(
    asked: "str | Sequence[str]", class_names: Sequence[str], words: Sequence[str]
) -> NamedClasses:
    """Return the classes that are asked for.

    One of the run's is known by its name or by its words, and keeps what was trained for it.

    Parameters
    ----------
    asked : str or Sequence[str]
        Names, also as one text with commas between them, or ``@FILE``: a file of classes as of
        ``data.classes``, which may give a class other words than its name.
    class_names, words : Sequence[str]
        Those of the run.

    Raises
    ------
    ConfigError
        If there is none, one has no words, or two read the same.
    DataError
        If a name cannot be printed.
    """
    given = _given(asked)
    by_name = {name: place for place, name in enumerate(class_names)}
    by_words = {text: place for place, text in enumerate(words)}
    found: dict[str, tuple[str, int]] = {}
    for name in given.names:
        check_name(name, "classes")
        read = given.words.get(name)
        if read is None and name in by_name:
            read = words[by_name[name]]
        read = read or class_words(name)
        if read in found:
            raise ConfigError(
                f"classes has {found[read][0]!r} and {name!r}, which both read {read!r}: name a "
                "class once"
            )
        found[read] = name, by_words.get(read, _NEW)
    if not found:
        raise ConfigError("classes names no class: give names with commas between them")
    return NamedClasses(
        tuple(name for name, _ in found.values()),
        tuple(found),
        tuple(place for _, place in found.values()),
    )


def of_classes(shared: SharedTensors, classes: NamedClasses) -> SharedTensors:
    """Return shared tensors with a row for each of these classes where each class has one.

    Nothing is added to the text features of those that nobody trained.
    """
    trained = np.array(classes.places) != _NEW
    chosen = dict(shared)
    for name in set(OFFSETS) & shared.keys() - {SHARED_OFFSETS_V}:
        rows = shared[name][list(classes.places)]  # (n_cls, dim, rank or size)
        chosen[name] = np.where(trained[:, None], rows, np.float32(0))
    return chosen


def _given(asked: "str | Sequence[str]") -> ClassFile:
    if isinstance(asked, str) and asked.startswith(_FILE_SIGN):
        read = read_class_file(asked.removeprefix(_FILE_SIGN), "classes")
        words = {composed(name): composed(text) for name, text in read.words.items()}
        return ClassFile([composed(name) for name in read.names], words)
    names = asked.split(",") if isinstance(asked, str) else asked
    return ClassFile([composed(name).strip() for name in names if name.strip()])
