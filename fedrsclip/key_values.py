"""Arguments of the form ``key=value`` of commands that are no Hydra overrides."""

from collections.abc import Sequence

from fedrsclip_core.errors import ConfigError
from fedrsclip_core.printable import printable

_SHOWN = 60


def key_values(words: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """Return the values by key; of several for one key the last counts.

    Raises
    ------
    ConfigError
        If a word is none, has another key, or no value.
    """
    found = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in keys or not value.strip():
            known = ", ".join(f"{name}=" for name in keys)
            raise ConfigError(f"{printable(word, _SHOWN)!r} is not understood: give {known}")
        found[key] = value.strip()
    return found
