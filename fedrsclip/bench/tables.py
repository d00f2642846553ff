"""The tables of a benchmark, as Markdown and as LaTeX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedrsclip.bench.figures import Row
from fedrsclip.bench.summary import difference_text, paired, summarise, text


@dataclass(frozen=True)
class Layout:
    """What a protocol's tables show: titles of columns and the figures below them.

    Attributes
    ----------
    caption : str
        Of which images.
    main, more : Mapping[str, str]
        Two tables of means; ``more`` may be empty.
    compared : Sequence[str]
        Titles in ``main`` whose differences to the reference are shown.
    """

    caption: str
    main: Mapping[str, str]
    more: Mapping[str, str]
    compared: Sequence[str]


STANDARD = Layout(
    "test images, last round",
    main={
        "zero-shot": "test_zero_shot",
        "global": "test_global",
        "personalized": "test_personalized",
        "worst": "test_personalized_worst",
        "own classes": "test_own",
        "worst, own": "test_own_worst",
    },
    more={
        "global F1": "test_global_f1",
        "personalized F1": "test_personalized_f1",
        "zero-shot ECE": "test_zero_shot_ece",
        "global ECE": "test_global_ece",
        "personalized ECE": "test_personalized_ece",
        "personalized ECE, calibrated": "test_calibrated_ece",
        "global, last 5": "last5_test_global",
        "personalized, last 5": "last5_test_personalized",
        "worst, last 5": "last5_test_personalized_worst",
        "global, val-best": "best_test_global",
        "personalized, val-best": "best_test_personalized",
    },
    compared=("global", "personalized", "worst", "own classes"),
)


PAIRED = "paired over seeds; seeds up:down, p of a two-sided Wilcoxon test from 6 pairs on"
"""What a table of differences says about them."""


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(
    rows: Sequence[Row], num_seeds: int, reference: str | None, layout: Layout = STANDARD
) -> list[Table]:
    """Make the tables of all settings, in the order of the rows.

    Parameters
    ----------
    rows : Sequence[Row]
        One per cell; those of cells that are not completed have no figures.
    num_seeds : int
        Seeds of the grid.
    reference : str or None
        The method that the others are compared with.
    layout : Layout
        What is shown.
    """
    made = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        methods: dict[str, list[Row]] = {}
        for row in rows:
            if row["setting"] == setting:
                methods.setdefault(label(row), []).append(row)
        made.append(_means(f"{setting}: {layout.caption}", layout.main, methods, num_seeds))
        if layout.more:
            made.append(_means(f"{setting}: further figures", layout.more, methods, num_seeds))
        if reference is not None and any(r["method"] == reference for r in rows):
            made.append(_differences(setting, methods, reference, num_seeds, layout))
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


def sources(rows: Sequence[Row]) -> str:
    """Return LaTeX comments: the split's digest and the command behind each number."""
    lines = ["", "% Where the numbers come from: for each run its split and its command."]
    for setting, seed in dict.fromkeys((row["setting"], row["seed"]) for row in rows):
        of_both = [row for row in rows if (row["setting"], row["seed"]) == (setting, seed)]
        runs = [row for row in of_both if row.get("repeat")]
        # Variants, e.g. with fewer clients, can have splits of their own.
        for digest in dict.fromkeys(row["split_digest"] for row in runs):
            lines.append(f"% {setting}, seed {seed}, split sha256 {digest}")
            lines += [
                f"%   {label(row)}: {row['repeat']}"
                for row in runs
                if row["split_digest"] == digest
            ]
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
    setting: str,
    methods: Mapping[str, Sequence[Row]],
    reference: str,
    num_seeds: int,
    layout: Layout,
) -> Table:
    """Compare each method with the reference, variant by variant."""
    figures = [layout.main[title] for title in layout.compared]
    rows = []
    for name, found in methods.items():
        others = methods.get(label(found[0] | {"method": reference}), [])
        if found[0]["method"] != reference:
            rows.append((name, *(_difference(found, others, f, num_seeds) for f in figures)))
    title = f"{setting}: minus {reference}, {PAIRED}"
    return Table(title, ("method", *layout.compared), tuple(rows))


def _difference(rows: Sequence[Row], others: Sequence[Row], figure: str, num_seeds: int) -> str:
    return difference_text(paired(rows, others, figure), num_seeds)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _tex(cell: str) -> str:
    for plain, escaped in (("&", r"\&"), ("%", r"\%"), ("_", r"\_"), ("±", r"$\pm$")):
        cell = cell.replace(plain, escaped)
    return f"${cell[0]}${cell[1:]}" if cell[:1] in ("-", "+") else cell
