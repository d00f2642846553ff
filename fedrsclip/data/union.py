"""The classes of the three public data sets as one list, by a reviewed table of synonyms."""

from fedrsclip.data.specs import find_spec, read_table
from fedrsclip_core.errors import ConfigError

UNION_NAMES = ("optimal31", "uc_merced", "nwpu_resisc45")
"""Its data sets: those of a metre or less per pixel."""


def class_aliases() -> dict[str, str]:
    """Return the classes that have another name in the union, each with that name."""
    return dict(read_table("union")["same"])


def canonical(dataset: str, class_name: str) -> str:
    """Return the union's name of one data set's class.

    Raises
    ------
    ConfigError
        If there is no such data set, or no such class in it.
    """
    spec = find_spec(dataset)
    if class_name not in spec.class_names:
        raise ConfigError(f"{spec.title} has no class {class_name!r}")
    return class_aliases().get(class_name, class_name)


def union_class_names() -> list[str]:
    """Return the classes of the union, sorted."""
    return sorted({canonical(s, name) for s in UNION_NAMES for name in find_spec(s).class_names})
