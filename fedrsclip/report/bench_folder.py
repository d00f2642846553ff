"""What a benchmark's folder and its cells' run folders hold, as far as they can be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from fedrsclip.bench.folder import BenchDescription, BenchFolder, CsvRow, is_cell, is_completed
from fedrsclip.bench.summary import Difference, paired
from fedrsclip.bench.tables import STANDARD, Layout, label
from fedrsclip.report.reading import Json, State, without_paths
from fedrsclip_core.runs.records import UnreadableError
from fedrsclip_core.runs.run_folder import COMPLETED, RUNNING, RunFolder

Curve = tuple[tuple[int, float | None, float | None], ...]
"""Round, and its global and its mean personalized test accuracy in per cent."""

_TEXTS = ("setting", "method", "variant", "mode", "class", "partitions", "repeat")
_NAMED = 3


@dataclass(frozen=True)
class Bench:
    """A benchmark as far as it can be read.

    Attributes
    ----------
    name : str
        Its name.
    state : State
        Whether it is running.
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

    def differences(
        self, setting: str, figures: Mapping[str, str]
    ) -> dict[str, dict[str, Difference | None]]:
        """Return by method and title the summary of its differences to the reference."""
        methods = self.of(setting)
        return {
            name: {
                title: paired(
                    rows, methods.get(label(rows[0] | {"method": self.reference}), []), key
                )
                for title, key in figures.items()
            }
            for name, rows in methods.items()
            if rows[0]["method"] != self.reference
        }


def read_bench(path: Path) -> Bench:
    """Read the folder of a benchmark that is completed, running, or was interrupted."""
    folder, problems = BenchFolder(path), list[str]()
    held, found = folder.is_held(), folder.rows()
    if found.damage:
        problems.append(f"results.csv {found.damage}: no figure is shown, or some are left out")
    known = [row for row in found.rows if row["setting"] and row["method"] and _is_int(row["seed"])]
    if len(known) < len(found.rows):
        problems.append("results.csv is damaged: some cells are left out")
    cells = [row for row in known if is_cell(row)]
    absent = [folder.run_of(row) for row in cells if not is_completed(row)]
    rows = tuple(_figures(row) for row in known)
    about = _description(folder, problems)
    return Bench(
        name=folder.name,
        state=_state(held, len(absent)),
        rows=rows,
        layout=Layout(**about["layout"]) if about else STANDARD,
        reference=about["reference"] if about else None,
        num_seeds=len(about["seeds"] if about else {row["seed"] for row in rows}),
        num_cells=len(cells),
        curves=_curves(folder, [row for row in cells if is_completed(row)], problems),
        missing=tuple((run.name, _state_of_cell(run)) for run in absent),
        problems=tuple(problems),
    )


def _is_int(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _figures(row: CsvRow) -> Json:
    """Return a row with its numbers as numbers; empty fields are ``None``."""
    return {key: _value(key, text) for key, text in row.items()} | {
        "variant": without_paths(row["variant"]),
        "seed": int(row["seed"]),
    }


def _value(key: str, text: str) -> str | float | None:
    if not text:
        return None
    if key in _TEXTS or key.endswith("_digest"):
        return without_paths(text)
    try:
        return float(text)
    except ValueError:
        return without_paths(text)


def _description(folder: BenchFolder, problems: list[str]) -> BenchDescription | None:
    meaning = (
        "there are no differences to a reference; the same fedrsclip bench command writes it again"
    )
    try:
        found = folder.description()
    except UnreadableError as error:
        problems.append(f"{error}: {meaning}")
        return None
    if found is None:
        problems.append(f"bench.json is missing: {meaning}")
    return without_paths(found)


def _state(held: bool, absent: int) -> State:
    if held:
        return State(RUNNING, "This benchmark is running; the cells that are completed are shown.")
    if absent:
        return State(
            "incomplete",
            f"{absent} cells have no results; the same fedrsclip bench command resumes it.",
        )
    return State(COMPLETED)


def _state_of_cell(folder: RunFolder) -> str:
    return folder.state().word if folder.path.is_dir() else "not started"


def _curves(
    folder: BenchFolder, cells: Sequence[CsvRow], problems: list[str]
) -> dict[tuple[str, str], list[Curve]]:
    found: dict[tuple[str, str], list[Curve]] = {}
    unread = []
    for cell in cells:
        run = folder.run_of(cell)
        curve = _curve(run)
        if curve is None:
            unread.append(run.name)
        else:
            found.setdefault((cell["setting"], label(cell)), []).append(curve)
    if unread:
        names = ", ".join(unread[:_NAMED]) + (" and others" if len(unread) > _NAMED else "")
        problems.append(
            f"metrics.jsonl of {len(unread)} cells cannot be read, their curves are left out: "
            f"{names}"
        )
    return found


def _curve(folder: RunFolder) -> Curve | None:
    """Return the curve of a completed cell, ``None`` if a round of it is missing."""
    log = folder.rounds()
    try:
        records = log.read()
    except UnreadableError:
        return None
    if log.damaged or log.cut or not records:
        return None
    points = []
    for record in records:
        test = record["test"]
        if test is not None:
            personal = test["personalized"]
            mean = personal["mean"] if personal else None
            points.append((record["round"], _percent(test["global"]), _percent(mean)))
    return tuple(points)


def _percent(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else 100 * value
