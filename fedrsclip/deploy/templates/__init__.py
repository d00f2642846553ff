"""Texts of the rendered files; ``@name`` is filled in, ``@@`` is an ``@``."""

import string
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


class _Template(string.Template):
    # `$` belongs to the shell and to nginx, `%` to systemd.
    delimiter = "@"


def fill(template: str, **values: object) -> str:
    """Return a template with all its names replaced.

    Raises
    ------
    KeyError
        If a name has no value.
    """
    text = (_FOLDER / template).read_text(encoding="utf-8")
    return _Template(text).substitute(values)
