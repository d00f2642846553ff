"""A benchmark's tables with the best and the second best marked, to look at and to copy."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedrsclip.bench.summary import Summary, paired, summarise, text
from fedrsclip.bench.tables import Table as Plain
from fedrsclip.bench.tables import label, latex
from fedrsclip.report.bench_folder import Bench
from fedrsclip.report.files import Json

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
        (name, [Field(text(one, bench.num_seeds, signed=True)) for one in found.values()])
        for name, found in differences_of(bench, setting, figures).items()
    ]
    title = f"Minus {bench.reference}, paired over seeds"
    return Marked(title, ("method", *figures), rows) if rows else None


def differences_of(
    bench: Bench, setting: str, figures: Mapping[str, str]
) -> dict[str, dict[str, Summary | None]]:
    """Return by method and title the summary of its differences to the reference."""
    methods = bench.of(setting)
    return {
        name: {
            title: paired(rows, methods.get(label(rows[0] | {"method": bench.reference}), []), key)
            for title, key in figures.items()
        }
        for name, rows in methods.items()
        if rows[0]["method"] != bench.reference
    }


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
