"""Class names of folders and data sets as English words that a text encoder has seen."""

import re
from collections.abc import Mapping, Sequence

from fedrsclip_core.config.texts import is_plain
from fedrsclip_core.errors import ConfigError, DataError

_PHRASES = (
    # UC Merced, NWPU-RESISC45, OPTIMAL-31, AID and the demo scenes glue or join these.
    "bare land",
    "baseball diamond",
    "baseball field",
    "basketball court",
    "circular farmland",
    "commercial area",
    "dense residential",
    "golf course",
    "ground track field",
    "industrial area",
    "medium residential",
    "mobile home park",
    "parking lot",
    "railway station",
    "rectangular farmland",
    "sea ice",
    "solar farm",
    "sparse residential",
    "storage tank",
    "storage tanks",
    "tennis court",
    "thermal power station",
    # EuroSAT
    "annual crop",
    "herbaceous vegetation",
    "permanent crop",
)
_WORDS_OF = {phrase.replace(" ", ""): phrase for phrase in _PHRASES} | {"sealake": "sea or lake"}

_SHOWN = 60
_CAMEL_STEP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = re.compile(r"[\s_\-./+&]+")


def class_words(name: str) -> str:
    """Return the words of one class name, in lower case.

    Parameters
    ----------
    name : str
        As a folder or a data set has it: ``denseresidential``, ``StorageTanks``, ``golf_course``.

    Returns
    -------
    str
        ``dense residential``, ``storage tanks``, ``golf course``.

    Raises
    ------
    ConfigError
        If nothing readable is left of the name.
    """
    words = _SEPARATORS.sub(" ", _CAMEL_STEP.sub(" ", name)).lower().strip()
    if not any(map(str.isalpha, words)):
        raise ConfigError(
            f"class {name!r} has no words for CLIP to read: give it some in data.class_words"
        )
    return _WORDS_OF.get(words.replace(" ", ""), words)


def check_name(name: str, where: str) -> None:
    """Refuse a class name that cannot be written to every file and printed anywhere.

    Raises
    ------
    DataError
        If it has control characters or invisible ones, or bytes that are no UTF-8.
    """
    if not is_plain(name):
        raise DataError(
            f"{where} has a class {name[:_SHOWN]!a}: give it a name in UTF-8 without control "
            "characters or invisible ones"
        )


def words_for(class_names: Sequence[str], overrides: Mapping[str, str]) -> list[str]:
    """Return the words of each class, those in ``overrides`` as they stand.

    Raises
    ------
    ConfigError
        If an override names no class, or two classes would read the same: no text encoder
        could tell them apart.
    """
    if unknown := sorted(set(overrides) - set(class_names)):
        raise ConfigError(
            f"data.class_words has {unknown[0]!r}, which is no class of this federation"
        )
    words = [overrides[name] if name in overrides else class_words(name) for name in class_names]
    name_of: dict[str, str] = {}
    for name, text in zip(class_names, words, strict=True):
        if text in name_of:
            raise ConfigError(
                f"classes {name_of[text]!r} and {name!r} both read {text!r}: give one of them "
                "other words in data.class_words"
            )
        name_of[text] = name
    return words
