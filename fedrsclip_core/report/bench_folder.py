"""What a benchmark's folder and its cells' run folders hold, as far as they can be read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from fedrsclip_core import runs
from fedrsclip_core.bench.tables import STANDARD, Layout, label
from fedrsclip_core.report.files import Json, Reader
from fedrsclip_core.report.state import State, state_of

Curve = tuple[tuple[int, float | None, float | None], ...]
"""Round, and its global and its mean personalized test accuracy in per cent."""

_ROW = ("setting", "method", "variant", "seed")
_NAMED = 3


@dataclass(frozen=True)
class Bench:
    """A benchmark as far as it can be read.

    Attributes
    ----------
    name : str
        Its name.
    state : State
        Whether it goes on.
    rows : tuple of dict
        The lines of ``results.csv``.
    layout : Layout
        What its tables show.
    reference : str or None
        The method that the others are compared with.
    num_seeds : int
        Seeds of the grid.
    num_cells : int
        Cells of the grid.
    curves : Mapping[tuple[str, str], list[Curve]]
        By setting and method, a curve per seed.
    missing : tuple of tuple
        Name and state of each cell without results.
    problems : tuple of str
        A sentence for each file that is missing or damaged.
    """

    name: str
    state: State
    rows: tuple[Json, ...]
    layout: Layout
    reference: str | None
    num_seeds: int
    num_cells: int
    curves: Mapping[tuple[str, str], list[Curve]]
    missing: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]

    @property
    def methods(self) -> list[str]:
        """All methods with their variants, the reference first."""
        found = list(dict.fromkeys(label(row) for row in self.rows))
        return sorted(found, key=lambda name: name != self.reference)

    def of(self, setting: str) -> dict[str, list[Json]]:
        """Return a setting's rows by method."""
        methods: dict[str, list[Json]] = {}
        for row in self.rows:
            if row["setting"] == setting:
                methods.setdefault(label(row), []).append(row)
        return methods


def read_bench(folder: Path) -> Bench:
    """Read the folder of a benchmark that is completed, going on, or was interrupted."""
    reader = Reader(folder)
    rows = [
        _named(row) for row in reader.rows("results.csv", meaning="no figure is shown", needs=_ROW)
    ]
    about = (
        reader.json(
            "bench.json",
            meaning="curves, differences and missing cells are not shown; the same "
            "fedrsclip bench command writes it anew",
            needs=("name", "reference", "seeds", "layout", "cells"),
        )
        or {}
    )
    cells = about.get("cells", ())
    done = {_identity(row) for row in rows if row.get("code_digest")}
    runs_dir = folder.parent.parent / "runs"
    absent = [cell for cell in cells if _identity(cell) not in done]
    return Bench(
        name=str(about.get("name") or folder.name),
        state=_state(folder, len(absent)),
        rows=tuple(rows),
        layout=_layout(about.get("layout")),
        reference=about.get("reference"),
        num_seeds=len(about.get("seeds", ())) or len({row["seed"] for row in rows}),
        num_cells=len(cells) or len(rows),
        curves=_curves(reader, runs_dir, [cell for cell in cells if _identity(cell) in done]),
        missing=tuple((str(cell["name"]), _state_of_cell(runs_dir, cell)) for cell in absent),
        problems=tuple(reader.problems),
    )


def _named(row: Json) -> Json:
    return row | {"variant": row["variant"] or ""}


def _identity(row: Mapping[str, Any]) -> tuple[str, str, str, int]:
    return str(row["setting"]), str(row["method"]), str(row["variant"] or ""), int(row["seed"])


def _layout(found: Mapping[str, Any] | None) -> Layout:
    if found is None:
        return STANDARD
    return Layout(found["caption"], found["main"], found["more"], found["compared"])


def _state(folder: Path, absent: int) -> State:
    if runs.is_held(folder):
        return State("going on", "This benchmark goes on; the cells that are completed are shown.")
    if absent:
        return State(
            "incomplete",
            f"{absent} cells have no results; the same fedrsclip bench command goes on with them.",
        )
    return State("completed")


def _state_of_cell(runs: Path, cell: Mapping[str, Any]) -> str:
    folder = runs / str(cell["name"])
    if not folder.is_dir():
        return "not started"
    try:
        results = dict(json.loads((folder / "results.json").read_text(encoding="utf-8")))
        return state_of(folder, results).word
    except FileNotFoundError:
        return state_of(folder, None).word
    except (OSError, ValueError, KeyError):
        return "results.json is damaged"


def _curves(
    reader: Reader, runs: Path, cells: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, str], list[Curve]]:
    found: dict[tuple[str, str], list[Curve]] = {}
    unread = []
    for cell in cells:
        try:
            curve = _curve(runs / str(cell["name"]) / "metrics.jsonl")
        except (OSError, ValueError, KeyError, TypeError):
            unread.append(str(cell["name"]))
            continue
        found.setdefault((str(cell["setting"]), label(dict(cell))), []).append(curve)
    if unread:
        names = ", ".join(unread[:_NAMED]) + (" and others" if len(unread) > _NAMED else "")
        reader.problems.append(
            f"metrics.jsonl of {len(unread)} cells cannot be read, their curves are left out: "
            f"{names}"
        )
    return found


def _curve(path: Path) -> Curve:
    points = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        test = record["test"]
        if test is not None:
            personal = (test["personalized"] or {}).get("mean")
            points.append((int(record["round"]), _percent(test["global"]), _percent(personal)))
    return tuple(points)


def _percent(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else 100 * value
