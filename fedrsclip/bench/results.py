"""The files of a benchmark, each whole at any moment: rewritten after every cell."""

from collections.abc import Callable, Sequence

from fedrsclip.bench.cells import Cell
from fedrsclip.bench.description import Description
from fedrsclip.bench.figures import Row, class_rows, row_of
from fedrsclip.bench.folder import BenchFolder, csv_text
from fedrsclip.bench.tables import Layout, Table, latex, markdown, sources, tables
from fedrsclip_core.runs import fileio
from fedrsclip_core.runs.records import Results

Extras = Callable[[Cell, Results], Row]


class ResultFiles:
    """The files of one benchmark: ``bench.json``, ``results.csv``, ``classes.csv`` and the tables.

    Parameters
    ----------
    description : Description
        The benchmark.
    cells : Sequence[Cell]
        Its cells in the order of the rows.
    layout : Layout
        What the tables show.
    extras : Callable
        Makes a protocol's own figures of a completed cell.
    """

    def __init__(
        self, description: Description, cells: Sequence[Cell], layout: Layout, extras: Extras
    ) -> None:
        self._description = description
        self._layout = layout
        self._extras = extras
        self._number = len(cells)
        self._rows = {cell.name: row_of(cell, None) for cell in cells}
        self._classes: dict[str, list[Row]] = {cell.name: [] for cell in cells}

    @property
    def rows(self) -> list[Row]:
        """A row per cell, in the order of the grid."""
        return list(self._rows.values())

    @property
    def tables(self) -> list[Table]:
        """The tables as they are now."""
        bench = self._description.bench
        return tables(self.rows, len(bench.seeds), bench.reference, self._layout)

    def enter(self, cell: Cell, results: Results) -> None:
        """Enter a completed cell, without writing."""
        self._rows[cell.name] = row_of(cell, results) | self._extras(cell, results)
        self._classes[cell.name] = class_rows(cell, results)

    def enter_row(self, row: Row) -> None:
        """Enter a row that is of no run, without writing."""
        self._rows[f"{row['setting']} {row['method']} {row['seed']}"] = row

    def write(self) -> None:
        """Replace the files."""
        bench, made = self._description.bench, self.tables
        folder = self._description.folder
        shared = BenchFolder(folder)
        shared.write_description(bench.reference, bench.seeds, self._layout)
        shared.write_rows(self.rows)
        classes = [row for rows in self._classes.values() for row in rows]
        fileio.write_text(folder / "classes.csv", csv_text(classes))
        fileio.write_text(folder / "table.md", markdown(made, self.caption))
        tex = latex(made, self.caption) + sources(self.rows)
        fileio.write_text(folder / "table.tex", tex)

    @property
    def caption(self) -> str:
        """What the tables are of, and how much of it is there."""
        known = [row for row in self.rows if "code_digest" in row]
        caption = (
            f"{self._description.bench.name}: {len(known)} of {self._number} cells, mean ± "
            "deviation over seeds, in per cent; ECE is the expected calibration error"
        )
        versions = len({row["code_digest"] for row in known})
        return caption if versions < 2 else f"{caption}; from {versions} versions of the code"
