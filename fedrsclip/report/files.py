"""Plain data without the paths that stand in it."""

import re
from pathlib import Path
from typing import Any, TypeVar

from fedrsclip_core.runs import paths

T = TypeVar("T")
Json = dict[str, Any]

HIDDEN = "[path]"
_QUOTED = re.compile(r"""(?<=['"])(?:file:)?(?:~|[A-Za-z]:)?[\\/][^'"]*(?=['"])""")
_PATH = re.compile(r"""(?<![\w./\\])(?:file:/*|~|[A-Za-z]:)?[\\/][^\s'",;)\]}|]+""")


def without_paths(value: T) -> T:
    """Return plain data in which no text names a place on a disk."""
    found: Any = value
    if isinstance(value, str):
        found = _hidden(value)
    elif isinstance(value, dict):
        found = {_hidden(str(key)): without_paths(inner) for key, inner in value.items()}
    elif isinstance(value, list):
        found = [without_paths(inner) for inner in value]
    return found  # type: ignore[no-any-return]


def _hidden(text: str) -> str:
    # These may hold blanks, at which a pattern would stop.
    for place in (str(paths.home()), str(Path.home())):
        if len(place) > 1:
            text = text.replace(place, "/home")
    return _PATH.sub(HIDDEN, _QUOTED.sub(HIDDEN, text))
