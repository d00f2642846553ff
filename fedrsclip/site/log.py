"""`fedrsclip site log`: what this site answered, from its journals, and whether they are whole."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedrsclip.site.journal import Journal, journals
from fedrsclip_core.errors import RunError
from fedrsclip_core.printable import printable
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.lines import table
from fedrsclip_core.runs.units import size

Echo = Callable[[str], None]
Entries = Sequence[Mapping[str, Any]]

_HEADER = ("time", "run", "message", "round", "code", "in", "out", "seconds", "outcome")


def show(*, echo: Echo, terminal: bool, complain: Echo) -> int:
    """Print each journal of this home: a table on a terminal, else a line of JSON per message.

    Parameters
    ----------
    echo : Callable[[str], None]
        Takes the messages.
    terminal : bool
        Whether that is read by a person.
    complain : Callable[[str], None]
        Takes what is said of each chain of checksums.

    Returns
    -------
    int
        0 if all chains hold, else 1.

    Raises
    ------
    RunError
        If there is no journal.
    """
    found = journals(paths.logs_dir())
    if not found:
        raise RunError(
            f"{paths.logs_dir()} has no journal: set FEDRSCLIP_HOME to the home of a site that "
            "has answered"
        )
    broken = 0
    for journal in found:
        entries, wrong = _read(journal)
        for line in _table(entries) if terminal else _lines(journal, entries):
            echo(line)
        complain(f"{journal.client_name}: {wrong or _whole(entries)}")
        broken |= bool(wrong)
    return broken


def to_terminal(echo: Echo) -> int:
    """Print it to standard output, and what is said of the chains to standard error."""
    return show(
        echo=echo,
        terminal=sys.stdout.isatty(),
        complain=lambda line: print(line, file=sys.stderr, flush=True),
    )


def _read(journal: Journal) -> tuple[list[Mapping[str, Any]], str]:
    """Return the lines up to the first that is wrong, and what is wrong."""
    entries: list[Mapping[str, Any]] = []
    try:
        entries.extend(journal.entries())
    except RunError as error:
        return entries, f"THE JOURNAL WAS CHANGED: {error}"
    return entries, ""


def _whole(entries: Entries) -> str:
    if not entries:
        return "no message was answered"
    first, last = entries[0]["number"], entries[-1]
    older = f"; those before number {first} are in files that are not here" if first > 1 else ""
    return f"{len(entries)} messages, unchanged up to checksum {last['checksum']}{older}"


def _lines(journal: Journal, entries: Entries) -> list[str]:
    return [json.dumps({"client": journal.client_name, **entry}) for entry in entries]


def _table(entries: Entries) -> list[str]:
    return table([_HEADER, *map(_row, entries)])


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    values = (
        str(entry["time"])[:19],
        entry["run"],
        entry["kind"],
        entry["round"] or "",
        str(entry["code"])[:9],
        size(entry["bytes_in"]),
        size(entry["bytes_out"]),
        f"{entry['seconds']:.1f}",
        entry["outcome"],
    )
    return tuple(printable(str(value)) for value in values)
