"""How seconds and memory grow with clients, classes, images and rounds.

    python -m benchmarks.growth --clients 10 100 --classes 10 100 1000 --images 1000 10000

Each figure is measured in a process of its own, whose peak memory it is. `clients` and `rounds`:
whole runs in one process on the embedded CLIP and scenes. `classes`: optimizer steps of both
prompts, ViT-B/32 size. `images`: split, deal, and the lookup of all features in a filled cache;
the encoder, whose time is linear by nature, is left out. A last row of images is extrapolated from
the two largest measured numbers, and says so.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

from benchmarks.measuring import Cell, Report, arguments, publish, settings_of

_CASE = "benchmarks.growth_case"


def measured(kind: str, size: int, threads: int) -> dict[str, float]:
    """Measure one size in a process of its own, with a home of its own."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", _CASE, kind, str(size), str(threads)],
            env={**os.environ, "FEDRSCLIP_HOME": folder},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def extrapolated(small: dict[str, Cell], large: dict[str, Cell], size: int) -> dict[str, Cell]:
    """Return the row of a larger size on the straight line through two measured ones."""
    row: dict[str, Cell] = {"of": f"{large['of']} (extrapolated)", "number": size}
    for name in ("s", "peak RSS, MiB"):
        ends = [(float(r["number"] or 0), float(r[name] or 0)) for r in (small, large)]
        (x0, y0), (x1, y1) = ends
        row[name] = y1 + (y1 - y0) / (x1 - x0) * (size - x1)
    return row | {"ms each": 1e3 * float(row["s"] or 0) / size, "unit": large["unit"]}


def rows(options: argparse.Namespace) -> Iterator[dict[str, Cell]]:
    """Yield the table, kind by kind and from small to large."""
    for kind, unit in UNITS.items():
        before: list[dict[str, Cell]] = []
        for size in sorted(getattr(options, kind)):
            found = measured(kind, size, options.threads)
            row: dict[str, Cell] = {"of": kind, "number": size, "s": found["seconds"]}
            row |= {"peak RSS, MiB": found["peak_mib"]}
            row |= {"ms each": 1e3 * found["seconds"] / size, "unit": unit}
            before.append(row)
            yield row
        if kind == "images" and len(before) > 1 and options.extrapolate > before[-1]["number"]:
            yield extrapolated(before[-2], before[-1], options.extrapolate)


UNITS = {
    "clients": "a round",
    "classes": "a step",
    "images": "open and look up",
    "rounds": "all rounds",
}
"""What the seconds are of, by what grows."""


def main(arguments_: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--clients", type=int, nargs="*", default=[10, 40])
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--images", type=int, nargs="*", default=[1_000, 10_000, 50_000])
    parser.add_argument("--rounds", type=int, nargs="*", default=[10, 40])
    parser.add_argument("--extrapolate", type=int, default=1_000_000, help="images")
    options = parser.parse_args(arguments_)
    report = Report("growth", settings_of(options), list(rows(options)))
    report.notes = [
        "`ms each`: seconds over number; it must not grow. Memory must not grow with rounds.",
        "Exactness: none to check, these are the product's own functions.",
    ]
    publish(report, options.json)


if __name__ == "__main__":
    main()
