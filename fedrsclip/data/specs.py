"""What is known of the public data sets: names, classes, counts, licence, citation.

A set's TOML file is the single source; the yaml file of the same name in ``conf/data``, which
travels with a run, is checked against it by a test.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from fedrsclip_core.errors import ConfigError

_FOLDER = Path(__file__).resolve().parent / "sets"

SPEC_NAMES = ("optimal31", "uc_merced", "eurosat", "nwpu_resisc45")
"""The data sets, from the fewest images to the most."""


@dataclass(frozen=True)
class DatasetSpec:
    """One public data set.

    Attributes
    ----------
    name : str
        As in ``data=<name>``.
    title : str
        As its publishers call it.
    images_per_class : Mapping[str, int]
        How many images each class has.
    class_names : tuple[str, ...]
        As the folders of the original archive are called.
    licence : str
        As the publishers state it.
    archive : str
        Where the class folders lie in the original archive.
    citation : Mapping[str, str]
        BibTeX fields, and its ``type`` and ``key``.
    hub_id : str or None
        A copy on the HuggingFace hub, with columns ``image`` and ``label``.
    hub_revision : str or None
        Its commit; ``None`` takes the newest.
    class_words : Mapping[str, str]
        Words for class names that are not read well by themselves.
    near_duplicates : tuple[tuple[str, ...], ...]
        Groups of ``<class>/<file name without suffix>`` that show the same place.
    """

    name: str
    title: str
    images_per_class: Mapping[str, int]
    class_names: tuple[str, ...]
    licence: str
    archive: str
    citation: Mapping[str, str]
    hub_id: str | None = None
    hub_revision: str | None = None
    class_words: Mapping[str, str] = field(default_factory=dict)
    near_duplicates: tuple[tuple[str, ...], ...] = ()

    @property
    def num_images(self) -> int:
        """Images of all classes together."""
        return sum(self.images_per_class.values())

    @property
    def per_class(self) -> str:
        """Images per class in words: ``100``, or ``2000 to 3000``."""
        fewest, most = min(self.images_per_class.values()), max(self.images_per_class.values())
        return str(most) if fewest == most else f"{fewest} to {most}"

    @property
    def cite(self) -> str:
        """The citation in one line."""
        entry = self.citation
        venue = entry.get("journal") or entry["booktitle"]
        return (
            f"{entry['author'].replace(' and ', '; ')}: {entry['title']}. {venue}, {entry['year']}"
        )


@cache
def find_spec(name: str) -> DatasetSpec:
    """Return the data set of this name.

    Raises
    ------
    ConfigError
        If none is known.
    """
    if name not in SPEC_NAMES:
        raise ConfigError(f"there is no data set {name!r}: choose one of {', '.join(SPEC_NAMES)}")
    values = read_table(name)
    values["class_names"] = tuple(values["class_names"])
    per_class = values["images_per_class"]
    if isinstance(per_class, int):
        values["images_per_class"] = dict.fromkeys(values["class_names"], per_class)
    values["near_duplicates"] = tuple(map(tuple, values.get("near_duplicates", ())))
    return DatasetSpec(name=name, **values)


def read_table(name: str) -> dict[str, Any]:
    """Return a packaged TOML file."""
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def squashed(name: str) -> str:
    """Letters and digits of a class name: equal for ``Golf Course`` and ``golf_course``."""
    return "".join(character for character in name.lower() if character.isalnum())
