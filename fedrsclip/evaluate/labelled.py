"""Which labelled images are meant: of a folder, a list or a data set of the hub, and what part."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrsclip.data.specs import squashed
from fedrsclip_core.config.overrides import key_of, quote
from fedrsclip_core.config.reading import Reading, reading_of
from fedrsclip_core.config.schema import DataConfig
from fedrsclip_core.config.texts import composed
from fedrsclip_core.data.sources import ImageSource, open_source
from fedrsclip_core.errors import ConfigError, DataError

ALL, PARTS = "all", ("train", "val", "test")
_KEYS = (
    *("path", "hub_id", "hub_revision", "hub_config", "image_column", "label_column"),
    *("train_splits", "val_splits", "test_splits", "class_aliases", "other_classes"),
    *("bands", "stretch", "nodata", "images_per_class", "max_unreadable"),
)
"""Keys of ``data`` that say which images these are and how they are read."""
_READING = ("bands", "stretch", "nodata")
_SHOWN = 5


@dataclass(frozen=True)
class Labelled:
    """Labelled images.

    Attributes
    ----------
    source : ImageSource
        Where they come from, with labels in the classifier's classes.
    indices : NDArray[np.int64]
        Which of them are meant ``(N,)``.
    part : str
        ``train``, ``val``, ``test`` or ``all``.
    reading : Reading
        How they become RGB.
    max_unreadable : float
        Fraction of them that may be unreadable.
    name : str
        What to call them; no path.
    """

    source: ImageSource
    indices: NDArray[np.int64]
    part: str
    reading: Reading
    max_unreadable: float
    name: str


def open_labelled(
    overrides: Sequence[str], class_names: Sequence[str], reading: Reading, part: str | None
) -> Labelled:
    """Open the images that overrides of ``data`` name.

    Parameters
    ----------
    overrides : Sequence[str]
        ``data=`` and ``data.key=`` as of a run.
    class_names : Sequence[str]
        The classifier's classes.
    reading : Reading
        How its images became RGB, where the overrides do not say it.
    part : str or None
        Which part of the data; by default test where the data have one, else all.

    Raises
    ------
    ConfigError
        If an override is of something else.
    DataError
        If there are no such images, or some are of other classes.
    """
    from fedrsclip.run.preflight import compose_data, refresh_data

    if not overrides:
        raise ConfigError("no images are given: data.path=DIR names a folder of labelled images")
    _check_keys(overrides)
    named = f"data.class_names=[{','.join(map(quote, class_names))}]"
    # The words of a known data set's classes are no concern of this classifier's.
    config = compose_data([*overrides, named, "data.class_words={}"], given=overrides)
    refresh_data(config)
    chosen = _reading_of(config.data, overrides, reading)
    data = replace(
        config.data,
        bands=list(chosen.bands),
        stretch=list(chosen.stretch),
        nodata=chosen.nodata,
    )
    path = Path(data.path) if data.path else None
    try:
        source = open_source(data, path, seed=config.seed, partition_id=0)
    except DataError as error:
        if unknown := _other_classes(data, path):
            raise DataError(_unknown(unknown, class_names)) from error
        raise
    indices, of = _part(source, part)
    if not len(indices):
        raise DataError(f"no image is in the part {of}: choose another by --part")
    return Labelled(source, indices, of, chosen, data.max_unreadable, _name(data, path))


def _check_keys(overrides: Sequence[str]) -> None:
    for text in overrides:
        group, _, name = key_of(text).partition(".")
        if group != "data":
            raise ConfigError(
                f"{text!r} is not understood: evaluate takes data= and data.key= as of a run, and "
                "the options that --help lists"
            )
        if name in ("class_names", "classes"):
            raise ConfigError(
                f"{key_of(text)} is not taken: the classes are the classifier's; what folders "
                "call otherwise is said by data.class_aliases, and --classes asks for others"
            )
        if name and name.partition(".")[0] not in _KEYS:
            raise ConfigError(
                f"{key_of(text)} is not read by evaluate, which splits and deals nothing: leave "
                "it away"
            )


def _reading_of(data: DataConfig, overrides: Sequence[str], own: Reading) -> Reading:
    """Return how a configuration reads images, where it says nothing as the classifier does."""
    given = {key_of(text).removeprefix("data.") for text in overrides}
    default = DataConfig()
    kept = {
        name: getattr(own, name)
        for name in _READING
        if name not in given and getattr(data, name) == getattr(default, name)
    }
    return replace(reading_of(data), **kept)


def _part(source: ImageSource, part: str | None) -> tuple[NDArray[np.int64], str]:
    parts = source.given_parts
    if parts is None:
        if part not in (None, ALL):
            raise DataError(f"the data have no part {part}: leave --part away to take all images")
        return np.arange(len(source)), ALL
    chosen = part or ("test" if (parts == PARTS.index("test")).any() else ALL)
    if chosen == ALL:
        return np.arange(len(source)), ALL
    return np.flatnonzero(parts == PARTS.index(chosen)), chosen


def _other_classes(data: DataConfig, path: Path | None) -> list[str]:
    """Return the classes of a folder or list that the classifier has not."""
    if data.name != "folder" or path is None:
        return []
    try:
        found = open_source(replace(data, class_names=[]), path, seed=0, partition_id=0)
    except DataError:
        return []
    known = set(map(composed, data.class_names))
    return [name for name in found.class_names if composed(name) not in known]


def _unknown(names: Sequence[str], known: Sequence[str]) -> str:
    same = {squashed(name): name for name in known}
    aliases = {name: same[squashed(name)] for name in names if squashed(name) in same}
    shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    sentence = f"the classifier has no class {shown}: "
    if aliases:
        pairs = ",".join(f"{quote(name)}:{quote(other)}" for name, other in aliases.items())
        return f'{sentence}say which are meant by "data.class_aliases={{{pairs}}}"' + (
            ", and leave the others out by data.other_classes=ignore"
            if len(aliases) < len(names)
            else ""
        )
    near = get_close_matches(names[0], list(known), n=1)
    hint = f"data.class_aliases.{names[0]}={near[0]}" if near else "data.class_aliases"
    return (
        f"{sentence}leave such folders out by data.other_classes=ignore, or say which class is "
        f"meant by {hint}"
    )


def _name(data: DataConfig, path: Path | None) -> str:
    if path is not None:
        return path.resolve().name
    return data.hub_id or data.name
