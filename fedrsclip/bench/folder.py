"""The folder of a benchmark: the only place that knows the names of what others read in it."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from fedrsclip.bench.cells import run_name
from fedrsclip.bench.tables import Layout
from fedrsclip_core.runs import fileio, lock
from fedrsclip_core.runs.records import UnreadableError, read_object
from fedrsclip_core.runs.run_folder import RunFolder

_ROWS = "results.csv"
_DESCRIPTION = "bench.json"
_IDENTITY = {"setting", "method", "variant", "seed"}
_PART_OF_NAME = re.compile(r"[A-Za-z0-9._ -]{0,100}")

CsvRow = dict[str, str]
"""A line of ``results.csv``: what names a cell, and its figures; empty text is not known."""


class LayoutRecord(TypedDict):
    """A ``tables.Layout``."""

    caption: str
    main: dict[str, str]
    more: dict[str, str]
    compared: list[str]


class BenchDescription(TypedDict):
    """What the rows do not say, ``bench.json``: what is compared with which method."""

    name: str
    reference: str | None
    seeds: list[int]
    layout: LayoutRecord


@dataclass(frozen=True)
class Rows:
    """The rows that could be read, and what is wrong with the file, as in "is damaged"."""

    rows: Sequence[CsvRow]
    damage: str = ""


class BenchFolder:
    """Reads and writes the table of a benchmark and finds the runs of its cells.

    Parameters
    ----------
    path : Path
        The folder, which need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return self.path.name

    def is_there(self) -> bool:
        """Whether a benchmark has written its table here."""
        return (self.path / _ROWS).is_file()

    def is_held(self) -> bool:
        """Whether a process works on the benchmark."""
        return lock.is_held(self.path)

    def run_of(self, row: Mapping[str, Any]) -> RunFolder:
        """Return the folder of a cell's run, which lies below the same ``FEDRSCLIP_HOME``."""
        names = (row[key] for key in ("setting", "method", "variant", "seed"))
        return RunFolder(self.path.parent.parent / "runs" / run_name(self.name, *names))

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the table."""
        fileio.write_text(self.path / _ROWS, csv_text(rows))

    def write_description(
        self, reference: str | None, seeds: Sequence[int], layout: Layout
    ) -> None:
        """Replace the description."""
        found = {
            "name": self.name,
            "reference": reference,
            "seeds": list(seeds),
            "layout": asdict(layout),
        }
        fileio.write_json(self.path / _DESCRIPTION, found)

    def rows(self) -> Rows:
        """Return the rows in the order of the grid."""
        try:
            text = (self.path / _ROWS).read_text(encoding="utf-8")
        except FileNotFoundError:
            return Rows((), "is missing")
        except OSError as error:
            return Rows((), f"cannot be read ({error.strerror})")
        except UnicodeDecodeError:
            return Rows((), "is damaged")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        try:
            found = list(reader)
        except csv.Error:
            found = []
        whole = []
        if set(reader.fieldnames or ()) >= _IDENTITY:
            whole = [row for row in found if _is_whole(row)]
        return Rows(whole, "" if whole and len(whole) == len(found) else "is damaged")

    def description(self) -> BenchDescription | None:
        """Return what is compared with which method.

        Raises
        ------
        UnreadableError
            If the file is damaged.
        """
        found = read_object(self.path / _DESCRIPTION, BenchDescription)
        if found and not set(found["layout"]["compared"]) <= found["layout"]["main"].keys():
            raise UnreadableError(_DESCRIPTION, "is damaged", "it compares what it does not show")
        return found


def _is_whole(row: CsvRow) -> bool:
    """Whether a row has all its fields, and what names its cell can be a part of a run's name."""
    if None in row or None in row.values():
        return False
    return all(_PART_OF_NAME.fullmatch(row[key]) for key in _IDENTITY)


def is_completed(row: CsvRow) -> bool:
    """Whether a row has the figures of a run."""
    return bool(row.get("code_digest"))


def is_cell(row: CsvRow) -> bool:
    """Whether a row is of a run; a baseline has figures without one."""
    return is_completed(row) or not row.get("test_personalized")


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; the columns are those of all rows, what is unknown is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
