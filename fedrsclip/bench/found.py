"""What is there of a cell already."""

import json
import time
from collections.abc import Callable
from typing import TypeVar

from fedrsclip.bench.cells import Cell
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.config.validation import flattened
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs.records import Description, Results, UnreadableError
from fedrsclip_core.runs.run_folder import COMPLETED, RunFolder

T = TypeVar("T")

_NOT_LEARNED = {*SITE_KEYS, "run.resume"}


def completed(cell: Cell) -> Results | None:
    """Return the results of a cell that needs no run any more, else ``None``.

    Raises
    ------
    ConfigError
        If another configuration was run under the cell's name.
    """
    folder = RunFolder(cell.folder)
    about = _read(folder.description, cell)
    if about is None:
        return None
    results = _read(folder.results, cell)
    _check_same(cell, about)
    if results is None:
        return None
    _check_clients(cell, results)
    return results if results["status"] == COMPLETED else None


def why_not_counted(cell: Cell, error: str, patience: float = 0.0) -> str:
    """Say why a cell that has ended is not counted; empty if it is.

    Parameters
    ----------
    cell : Cell
        The cell.
    error : str
        Why it failed, as far as who ran it knows.
    patience : float
        Seconds for a shared folder to show here what another machine wrote.
    """
    if error:
        return error
    deadline = time.monotonic() + patience
    while (results := completed(cell)) is None:
        if time.monotonic() >= deadline:
            return "it left no results"
        time.sleep(1.0)
    return lost_replies(cell, results)


def lost_replies(cell: Cell, results: Results) -> str:
    """Say whose replies a completed run lacks; empty if it had all of them.

    A federation does without a late client, as on a machine that slept in the meantime. A
    benchmark must not: it compares what all methods reach with the same clients.
    """
    dropped = results["dropped"]
    if not dropped["total"]:
        return ""
    lost = [
        f"{client} ({', '.join(reasons)})" for client, reasons in sorted(dropped["clients"].items())
    ]
    return (
        f"it lacks {dropped['total']} replies of {', '.join(lost)}, so its figures are not those "
        f"of all clients: remove {cell.folder} and run the benchmark again"
    )


def _check_same(cell: Cell, about: Description) -> None:
    now = json.loads(json.dumps(dict(flattened(cell.config))))
    before = about["config"]
    for key in sorted({*now, *before} - _NOT_LEARNED):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"{cell.folder} holds a run with {key}={before.get(key)}, the benchmark now says "
                f"{now.get(key)}: give it another bench.name, or remove that folder"
            )


def _check_clients(cell: Cell, results: Results) -> None:
    took_part = [client["partition_id"] for client in results["clients"]]
    if cell.partitions and took_part and took_part != list(cell.partitions):
        raise ConfigError(
            f"{cell.folder} holds a run of the clients {took_part}, the benchmark now wants "
            f"{list(cell.partitions)}: give it another bench.name, or remove that folder"
        )


def _read(read: Callable[[], T | None], cell: Cell) -> T | None:
    try:
        return read()
    except UnreadableError as error:
        raise ConfigError(
            f"{cell.folder}: {error}; remove the folder to run the cell again"
        ) from error
