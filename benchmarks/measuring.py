"""What the benchmarks share: the machine's facts, turns, medians, one table and one JSON file."""

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from fedrsclip.machine import cpu_flags, cpu_line, has_bfloat16
from fedrsclip_core import machine
from fedrsclip_core.config.schema import DTYPES
from fedrsclip_core.runs.fileio import write_json

Cell = float | int | str | None
_FLAGS = ("amx_bf16", "amx_tile", "avx512_bf16", "avx512f", "avx2")


@dataclass
class Report:
    """One table: what was measured, where, and how to read it.

    Attributes
    ----------
    name : str
        The benchmark.
    settings : dict
        What was asked for.
    rows : list of dict
        Cells by column; every row has the same columns.
    notes : list of str
        Sentences below the table, e.g. on what was extrapolated.
    """

    name: str
    settings: dict[str, object]
    rows: list[dict[str, Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def arguments(description: str | None, *, threads: int | None = None) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--threads", type=int, default=threads or machine.available_cpus())
    return parser


def add_dtypes(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark take what to measure ours with; see :func:`chosen_dtypes`."""
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=DTYPES,
        help="of ours; by default float32, and bfloat16 where the device computes in it",
    )


def chosen_dtypes(options: argparse.Namespace) -> list[str]:
    """Return what is measured: without bfloat16 where it would be many times slower."""
    has = options.device != "cpu" or has_bfloat16()
    return options.dtypes or [dtype for dtype in DTYPES if dtype == "float32" or has]


def settings_of(options: argparse.Namespace) -> dict[str, object]:
    """Return the options as a report has them; the output file is none of its settings."""
    return {name: value for name, value in vars(options).items() if name != "json"}


def facts() -> dict[str, object]:
    """Return what a figure depends on besides the settings; the load says if others ran, too."""
    return {
        "cpu": _cpu_model(),
        "cpu_flags": [flag for flag in _FLAGS if flag in cpu_flags()],
        "cpus": machine.available_cpus(),
        "gpus": _gpus(),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "flwr", "numpy")},
    }


def in_turns(
    variants: Mapping[str, Callable[[], float]], repeats: int, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Call the variants in turns, so that what disturbs the machine disturbs all of them.

    Parameters
    ----------
    variants : Mapping[str, Callable[[], float]]
        Each returns what it measured, e.g. seconds.
    repeats : int
        Turns that count.
    warm_up : int
        Turns before those, which do not.
    """
    found: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(warm_up + repeats):
        for name, measure in variants.items():
            value = measure()
            if turn >= warm_up:
                found[name].append(value)
    return found


def medians(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return each variant's median."""
    return {name: statistics.median(several) for name, several in values.items()}


def markdown(report: Report) -> str:
    """Return the report as a Markdown table with a line on the machine above it."""
    about = facts()
    lines = [
        f"{report.name}: {about['cpu']}, {about['cpus']} CPUs ({', '.join(_listed(about))}), "
        f"{len(_gpus())} GPUs ({', '.join(_gpus()) or 'none'}), "
        f"torch {about['torch']}, load {about['load_1min']}",
        ", ".join(f"{name}={value}" for name, value in report.settings.items()),
        "",
    ]
    columns = list(report.rows[0])
    lines.append("| " + " | ".join(columns) + " |")
    lines.append("|" + "---|" * len(columns))
    lines += ["| " + " | ".join(_text(row[name]) for name in columns) + " |" for row in report.rows]
    return "\n".join([*lines, *(f"\n{note}" for note in report.notes)])


def publish(report: Report, json_file: Path | None) -> None:
    """Print the table and, if asked for, write the JSON file."""
    print(markdown(report), flush=True)
    if json_file is not None:
        write_json(json_file, {"machine": facts(), **asdict(report)})


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]


def _listed(about: Mapping[str, object]) -> Sequence[str]:
    flags = about["cpu_flags"]
    return flags if isinstance(flags, list) and flags else ["no AVX2"]


def _text(value: Cell) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    # Differences are near 1e-7, milliseconds near 1e3.
    return f"{value:.1e}" if value and abs(value) < 1e-3 else f"{value:.4g}"


def _cpu_model() -> str:
    return cpu_line("model name") or platform.processor() or platform.machine()
