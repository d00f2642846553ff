"""Reads a folder that may be half written or damaged, and notes what could not be read."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedrsclip_core.runs import paths

Json = dict[str, Any]
Needs = Mapping[str, type | tuple[type, ...]]
"""Of what type an object's values must be."""

HIDDEN = "[path]"
_QUOTED = re.compile(r"""(?<=['"])(?:file:)?(?:~|[A-Za-z]:)?[\\/][^'"]*(?=['"])""")
_PATH = re.compile(r"""(?<![\w./\\])(?:file:/*|~|[A-Za-z]:)?[\\/][^\s'",;)\]}|]+""")


class Reader:
    """Reads files of one folder, without the paths that stand in them.

    Parameters
    ----------
    folder : Path
        The folder.

    Attributes
    ----------
    problems : list[str]
        A sentence for each file that is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []

    def text(self, name: str, *, meaning: str) -> str | None:
        """Return a file's text; ``meaning`` says in a problem what the report lacks without it."""
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            self.problems.append(f"{name} is missing: {meaning}")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            self.problems.append(f"{name} cannot be read ({why}): {meaning}")
        return None

    def json(self, name: str, *, meaning: str, needs: Needs | None = None) -> Json | None:
        """Return a file's object, or ``None`` with a problem if it is not what it ``needs``."""
        text = self.text(name, meaning=meaning)
        if text is None:
            return None
        found = _object(text, needs or {})
        if found is None:
            self.problems.append(f"{name} is damaged: {meaning}")
        return found

    def lines(self, name: str, *, meaning: str, needs: Needs) -> list[Json]:
        """Return the objects of a file that has one on each line."""
        text = self.text(name, meaning=meaning)
        found = [_object(line, needs) for line in (text or "").splitlines()]
        bad = [str(number) for number, value in enumerate(found, 1) if value is None]
        # A process that was killed, or is writing just now, leaves a last line without its end.
        if text and not text.endswith("\n") and bad and bad[-1] == str(len(found)):
            bad.pop()
            self.problems.append(f"the last line of {name} is cut off: its round is left out")
        if bad:
            self.problems.append(
                f"{name} is damaged in line {', '.join(bad)}: these rounds are left out"
            )
        return [value for value in found if value is not None]

    def rows(self, name: str, *, meaning: str, needs: Iterable[str] = ()) -> list[Json]:
        """Return the rows of a CSV file; numbers as numbers, empty fields as ``None``."""
        text = self.text(name, meaning=meaning)
        if text is None:
            return []
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        try:
            found = [dict(row) for row in reader]
        except csv.Error:
            found = []
        columns = set(reader.fieldnames or ())
        whole = [row for row in found if None not in row and None not in row.values()]
        if not set(needs) <= columns or len(whole) < len(found) or not found:
            self.problems.append(f"{name} is damaged: {meaning}")
        if not set(needs) <= columns:
            return []
        return [{key: _value(key, text) for key, text in row.items()} for row in whole]


def without_paths(value: Any) -> Any:
    """Return plain data in which no text names a place on a disk."""
    if isinstance(value, str):
        return _hidden(value)
    if isinstance(value, dict):
        return {_hidden(str(key)): without_paths(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [without_paths(inner) for inner in value]
    return value


def _hidden(text: str) -> str:
    # These may hold blanks, at which a pattern would stop.
    for place in (str(paths.home()), str(Path.home())):
        if len(place) > 1:
            text = text.replace(place, "/home")
    return _PATH.sub(HIDDEN, _QUOTED.sub(HIDDEN, text))


def _object(text: str, needs: Needs) -> Json | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or not needs.keys() <= value.keys():
        return None
    if not all(isinstance(value[key], types) for key, types in needs.items()):
        return None
    return dict(without_paths(value))


def _value(key: str, text: str) -> Any:
    if not text:
        return None
    if key in _TEXTS or key.endswith("_digest"):
        return without_paths(text)
    try:
        return float(text)
    except ValueError:
        return without_paths(text)


_TEXTS = ("setting", "method", "variant", "mode", "class", "partitions", "repeat")
