"""The page of one benchmark: its tables and figures, setting by setting."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fedrsclip.report import bench_figures
from fedrsclip.report.bench_folder import Bench, read_bench
from fedrsclip.report.bench_tables import Marked, as_csv, as_latex, differences, means
from fedrsclip.report.panel import Panel, Table, panel
from fedrsclip.report.svg import drawing


@dataclass(frozen=True)
class Setting:
    """What is shown of one setting."""

    anchor: str
    name: str
    tables: list[Marked]
    panels: list[Panel]


def bench_page(folder: Path) -> dict[str, Any]:
    """Return what the template shows of a benchmark."""
    bench = read_bench(folder)
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
        "missing": Table(("cell", "state"), bench.missing),
        "csv": as_csv(tables),
        "latex": as_latex(tables, f"{bench.name}: {caption}"),
        "cells": (bench.num_cells - len(bench.missing), bench.num_cells),
    }


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
        panel(
            f"{anchor}-bytes", "Bytes and accuracy", partial(draw.bytes_and_accuracy, bench, name)
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


def _caption(bench: Bench) -> str:
    methods = {str(row["method"]) for row in bench.rows}
    settings = {str(row["setting"]) for row in bench.rows}
    done = bench.num_cells - len(bench.missing)
    return (
        f"{done} of {bench.num_cells} cells: {len(settings)} settings, {len(methods)} methods, "
        f"{bench.num_seeds} seeds; mean ± deviation over seeds, in per cent"
    )
