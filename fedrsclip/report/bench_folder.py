"""What a benchmark's folder and its cells' run folders hold, as far as they can be read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path

from fedrsclip.bench.names import run_name
from fedrsclip.bench.tables import STANDARD, Layout, label
from fedrsclip.report.files import Json, Needs, Reader
from fedrsclip.report.state import State, state_of
from fedrsclip_core.runs import run_folder as runs

Curve = tuple[tuple[int, float | None, float | None], ...]
"""Round, and its global and its mean personalized test accuracy in per cent."""

_ROW = ("setting", "method", "variant", "seed")
_ABOUT: Needs = {"reference": (str, type(None)), "seeds": list, "layout": dict}
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
    rows = _rows(reader)
    about = _about(reader)
    cells = [row for row in rows if _is_cell(row)]
    done = [row for row in cells if row.get("code_digest")]
    absent = [_run_of(row, folder.name) for row in cells if not row.get("code_digest")]
    runs_dir = folder.parent.parent / "runs"
    return Bench(
        name=folder.name,
        state=_state(folder, len(absent)),
        rows=tuple(rows),
        layout=Layout(**about["layout"]) if about else STANDARD,
        reference=about["reference"] if about else None,
        num_seeds=len(about["seeds"] if about else {row["seed"] for row in rows}),
        num_cells=len(cells),
        curves=_curves(reader, runs_dir, done),
        missing=tuple((name, _state_of_cell(runs_dir / name)) for name in absent),
        problems=tuple(reader.problems),
    )


def _rows(reader: Reader) -> list[Json]:
    rows = reader.rows("results.csv", meaning="no figure is shown", needs=_ROW)
    whole = [r for r in rows if r["setting"] and r["method"] and isinstance(r["seed"], float)]
    if len(whole) < len(rows):
        reader.problems.append("results.csv is damaged: some cells are left out")
    return [r | {"variant": r["variant"] or "", "seed": int(r["seed"])} for r in whole]


def _about(reader: Reader) -> Json | None:
    meaning = (
        "there are no differences to a reference; the same fedrsclip bench command writes it anew"
    )
    about = reader.json("bench.json", meaning=meaning, needs=_ABOUT)
    if about is None or _is_layout(about["layout"]):
        return about
    reader.problems.append(f"bench.json is damaged: {meaning}")
    return None


def _is_layout(value: Mapping[str, object]) -> bool:
    main, compared = value.get("main"), value.get("compared")
    return (
        value.keys() == {field.name for field in fields(Layout)}
        and isinstance(value["caption"], str)
        and isinstance(value["more"], dict)
        and isinstance(main, dict)
        and isinstance(compared, list)
        and set(compared) <= main.keys()
    )


def _is_cell(row: Json) -> bool:
    """Whether a row is of a run; a linear probe has figures without one."""
    return bool(row.get("code_digest")) or row.get("test_global") is None


def _run_of(row: Json, bench: str) -> str:
    return run_name(bench, row["setting"], row["method"], row["variant"], row["seed"])


def _state(folder: Path, absent: int) -> State:
    if runs.is_held(folder):
        return State("going on", "This benchmark goes on; the cells that are completed are shown.")
    if absent:
        return State(
            "incomplete",
            f"{absent} cells have no results; the same fedrsclip bench command goes on with them.",
        )
    return State("completed")


def _state_of_cell(folder: Path) -> str:
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
    reader: Reader, runs_dir: Path, cells: Sequence[Json]
) -> dict[tuple[str, str], list[Curve]]:
    found: dict[tuple[str, str], list[Curve]] = {}
    unread = []
    for cell in cells:
        name = _run_of(cell, reader.folder.name)
        try:
            curve = _curve(runs_dir / name / "metrics.jsonl")
        except (OSError, ValueError, KeyError, TypeError):
            unread.append(name)
            continue
        found.setdefault((str(cell["setting"]), label(cell)), []).append(curve)
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
