"""The tables of a benchmark, as Markdown and as LaTeX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedrsclip_core.bench.figures import Row
from fedrsclip_core.bench.summary import paired, summarise, text

MAIN = {
    "zero-shot": "test_zero_shot",
    "global": "test_global",
    "personalized": "test_personalized",
    "worst": "test_personalized_worst",
    "own classes": "test_own",
    "worst, own": "test_own_worst",
}
"""Titles of the main table's columns and the figures below them."""
MORE = {
    "global F1": "test_global_f1",
    "personalized F1": "test_personalized_f1",
    "zero-shot ECE": "test_zero_shot_ece",
    "global ECE": "test_global_ece",
    "personalized ECE": "test_personalized_ece",
    "global, val-best": "best_test_global",
    "personalized, val-best": "best_test_personalized",
}
COMPARED = {title: MAIN[title] for title in ("global", "personalized", "worst", "own classes")}


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(rows: Sequence[Row], num_seeds: int, reference: str | None) -> list[Table]:
    """Make the tables of all settings, in the order of the rows.

    Parameters
    ----------
    rows : Sequence[Row]
        One per cell; those of cells that are not completed have no figures.
    num_seeds : int
        Seeds of the grid.
    reference : str or None
        The method that the others are compared with.
    """
    made = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        methods: dict[str, list[Row]] = {}
        for row in rows:
            if row["setting"] == setting:
                methods.setdefault(label(row), []).append(row)
        made.append(_means(f"{setting}: test images, last round", MAIN, methods, num_seeds))
        made.append(_means(f"{setting}: further figures", MORE, methods, num_seeds))
        if reference in methods:
            made.append(_differences(setting, methods, reference, num_seeds))
    return made


def label(row: Row) -> str:
    """Return the method of a row with its variant."""
    return f"{row['method']} ({row['variant']})" if row["variant"] else str(row["method"])


def markdown(made: Sequence[Table], caption: str) -> str:
    """Return the tables as Markdown."""
    lines = [caption]
    for table in made:
        rule = "|" + "---|" * len(table.header)
        lines += ["", f"**{table.title}**", "", _line(table.header), rule]
        lines += [_line(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def latex(made: Sequence[Table], caption: str) -> str:
    """Return the tables as LaTeX that needs no package."""
    lines = [f"% {caption}"]
    for table in made:
        columns = "l" + "r" * (len(table.header) - 1)
        rows = [" & ".join(map(_tex, row)) + r" \\" for row in (table.header, *table.rows)]
        body = [rows[0], r"\hline", *rows[1:]]
        lines += ["", f"% {table.title}", rf"\begin{{tabular}}{{{columns}}}", *body]
        lines.append(r"\end{tabular}")
    return "\n".join(lines) + "\n"


def _means(
    title: str,
    columns: Mapping[str, str],
    methods: Mapping[str, Sequence[Row]],
    num_seeds: int,
) -> Table:
    rows = [
        (method, *(text(summarise(r.get(f) for r in found), num_seeds) for f in columns.values()))
        for method, found in methods.items()
    ]
    return Table(title, ("method", *columns), tuple(rows))


def _differences(
    setting: str, methods: Mapping[str, Sequence[Row]], reference: str, num_seeds: int
) -> Table:
    rows = [
        (method, *(_difference(found, methods[reference], f, num_seeds) for f in COMPARED.values()))
        for method, found in methods.items()
        if method != reference
    ]
    title = f"{setting}: minus {reference}, paired over seeds"
    return Table(title, ("method", *COMPARED), tuple(rows))


def _difference(rows: Sequence[Row], others: Sequence[Row], figure: str, num_seeds: int) -> str:
    return text(paired(rows, others, figure), num_seeds, signed=True)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _tex(cell: str) -> str:
    for plain, escaped in (("&", r"\&"), ("%", r"\%"), ("_", r"\_"), ("±", r"$\pm$")):
        cell = cell.replace(plain, escaped)
    return f"${cell[0]}${cell[1:]}" if cell[:1] in ("-", "+") else cell
