"""The page of one benchmark: its tables, to look at and to copy, and its figures."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fedrsclip.bench.summary import Summary, difference_text, summarise, text
from fedrsclip.bench.tables import PAIRED, latex
from fedrsclip.bench.tables import Table as Plain
from fedrsclip.report import bench_figures
from fedrsclip.report.bench_bytes import MODES, bytes_per_round
from fedrsclip.report.bench_folder import Bench
from fedrsclip.report.drawing import drawing
from fedrsclip.report.panel import Panel, Table, panel
from fedrsclip.report.reading import Json

_COMMANDS = {"best": r"\textbf{%s}", "second": r"\underline{%s}", "": "%s"}


@dataclass(frozen=True)
class Field:
    """A field's text, and whether it is the best or the second best of its column."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Marked:
    """A table of fields; the first column names the rows."""

    title: str
    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Field]]]


@dataclass(frozen=True)
class Setting:
    """What is shown of one setting."""

    anchor: str
    name: str
    tables: list[Marked]
    panels: list[Panel]


def bench_page(bench: Bench) -> dict[str, Any]:
    """Return what the template shows of a benchmark."""
    names = list(dict.fromkeys(str(row["setting"]) for row in bench.rows))
    with drawing():
        shown = [_setting(bench, name, f"setting-{i}") for i, name in enumerate(names)]
    tables = {setting.name: setting.tables for setting in shown}
    caption = _caption(bench)
    return {
        "kind": "bench",
        "title": bench.name,
        "about": caption,
        "state": bench.state,
        "problems": bench.problems,
        "layout_caption": bench.layout.caption,
        "settings": shown,
        "splits": _splits(bench),
        "missing": Table(("cell", "state"), bench.missing),
        "csv": as_csv(tables),
        "latex": as_latex(tables, f"{bench.name}: {caption}"),
        "cells": (bench.num_cells - len(bench.missing), bench.num_cells),
    }


def means(bench: Bench, setting: str, columns: Mapping[str, str], title: str) -> Marked | None:
    """Return means over seeds, best and second best marked; ``None`` without any figure."""
    methods = bench.of(setting)
    found = {
        column: [summarise(_known(r, figure) for r in rows) for rows in methods.values()]
        for column, figure in columns.items()
    }
    kept = {column: values for column, values in found.items() if any(values)}
    if not kept:
        return None
    fields = {
        column: [
            Field(text(value, bench.num_seeds), mark)
            for value, mark in zip(values, _marks(values, columns[column]), strict=True)
        ]
        for column, values in kept.items()
    }
    rows = [(name, [fields[column][i] for column in kept]) for i, name in enumerate(methods)]
    return Marked(title, ("method", *kept), rows)


def differences(bench: Bench, setting: str) -> Marked | None:
    """Return each method minus the reference, paired over seeds."""
    if bench.reference is None:
        return None
    figures = {t: bench.layout.main[t] for t in bench.layout.compared if t in bench.layout.main}
    rows = [
        (name, [Field(difference_text(one, bench.num_seeds)) for one in found.values()])
        for name, found in bench.differences(setting, figures).items()
    ]
    title = f"Minus {bench.reference}, {PAIRED}"
    return Marked(title, ("method", *figures), rows) if rows else None


def as_csv(made: Mapping[str, Sequence[Marked]]) -> str:
    """Return tables by setting as CSV, a line per setting, method and figure."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("setting", "table", "method", "figure", "value"))
    for setting, tables in made.items():
        for table in tables:
            for name, fields in table.rows:
                writer.writerows(
                    (setting, table.title, name, title, field.text)
                    for title, field in zip(table.header[1:], fields, strict=True)
                )
    return file.getvalue()


def as_latex(made: Mapping[str, Sequence[Marked]], caption: str) -> str:
    """Return tables by setting as LaTeX: best in bold, second best underlined."""
    tables = [
        Plain(
            f"{setting}: {table.title}",
            tuple(table.header),
            tuple(
                (name, *(_COMMANDS[f.mark] % f.text if f.text else "" for f in fields))
                for name, fields in table.rows
            ),
        )
        for setting, found in made.items()
        for table in found
    ]
    return latex(tables, caption)


def _setting(bench: Bench, name: str, anchor: str) -> Setting:
    layout = bench.layout
    made = (
        means(bench, name, layout.main, layout.caption[:1].upper() + layout.caption[1:]),
        differences(bench, name),
        means(bench, name, layout.more, "Further figures"),
    )
    draw = bench_figures
    panels = [
        panel(f"{anchor}-methods", "Methods", partial(draw.by_method, bench, name)),
        *(
            panel(
                f"{anchor}-sent-{mode}",
                f"Bytes a round and {mode} accuracy",
                partial(bytes_per_round, bench, name, mode),
            )
            for mode in MODES
        ),
        panel(
            f"{anchor}-bytes",
            "Bytes of a run and accuracy",
            partial(draw.bytes_and_accuracy, bench, name),
        ),
        panel(
            f"{anchor}-personalized",
            "Personalized over rounds",
            partial(draw.over_rounds, bench, name, "personalized"),
        ),
        panel(
            f"{anchor}-global",
            "Global over rounds",
            partial(draw.over_rounds, bench, name, "global"),
        ),
        panel(
            f"{anchor}-against",
            f"Against {bench.reference}: ablations and other methods",
            partial(draw.against_reference, bench, name),
        ),
    ]
    return Setting(anchor, name, [table for table in made if table is not None], panels)


def _splits(bench: Bench) -> Table:
    """Return which split of the images each seed of a setting had."""
    keys = ("setting", "seed", "split_digest")
    found = [tuple(str(row[key]) for key in keys) for row in bench.rows if row.get("split_digest")]
    return Table(("setting", "seed", "sha256 of the split"), list(dict.fromkeys(found)))


def _caption(bench: Bench) -> str:
    methods = {str(row["method"]) for row in bench.rows}
    settings = {str(row["setting"]) for row in bench.rows}
    done = bench.num_cells - len(bench.missing)
    return (
        f"{done} of {bench.num_cells} cells: {len(settings)} settings, {len(methods)} methods, "
        f"{bench.num_seeds} seeds; mean ± deviation over seeds, in per cent"
    )


def _known(row: Json, figure: str) -> float | None:
    value = row.get(figure)
    return value if isinstance(value, float) else None


def _marks(values: Sequence[Summary | None], figure: str) -> list[str]:
    """Mark by what is shown: equal texts are equally good."""
    lower = figure.endswith("_ece") or figure.startswith("mb_to_")
    shown = [None if value is None else float(f"{value.mean:.1f}") for value in values]
    order = sorted({value for value in shown if value is not None}, reverse=not lower)
    if len(order) < 2:
        return [""] * len(shown)  # zero-shot, the same for all methods
    marks = {order[0]: "best", order[1]: "second"}
    return ["" if value is None else marks.get(value, "") for value in shown]
