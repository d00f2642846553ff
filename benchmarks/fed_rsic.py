"""Methods, splits and seeds on one data set, through the same handlers and strategy as a run.

Every cell of the grid is a whole run in one process (no Ray): its folder lies under
``$FEDRSCLIP_HOME/runs`` as any run's does, and a cell that is there is not computed again.

    python benchmarks/fed_rsic.py table --data-path DIR --model-path DIR
    python benchmarks/fed_rsic.py tune --data-path DIR --model-path DIR

``tune`` gives each method the same number of trials on validation images with seeds that are not
reported, and records the best on average as ``conf/tuned/<experiment>-<method>.yaml``, which
``table`` and every other run of that experiment and method then use.
"""

import argparse
import csv
import json
import multiprocessing
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

METHODS = (
    "zero_shot",
    "promptfl",
    "promptfl_ft",
    "local",
    "ensemble",
    "fedotp",
    "fedpgp",
    "fedrsclip_frozen_shared",
    "fedrsclip",
)
EXPERIMENTS = ("uc_merced", "uc_merced_uniform")
TUNING_SEEDS = (100, 101, 102)
TRIALS: dict[str, list[list[str]]] = {
    "promptfl": [[f"optimizer.lr={lr}"] for lr in (0.1, 0.3, 1.0, 2.0, 0.5)],
    "promptfl_ft": [[f"prompt.finetune_lr={lr}"] for lr in (0.1, 0.3, 0.6, 1.0, 2.0)],
    "local": [[f"optimizer.lr={lr}"] for lr in (0.03, 0.1, 0.3, 0.6, 1.0)],
    "ensemble": [
        ["optimizer.private_lr=0.03", "prompt.beta=0.8"],
        ["optimizer.private_lr=0.1", "prompt.beta=0.5"],
        ["optimizer.private_lr=0.1", "prompt.beta=0.8"],
        ["optimizer.private_lr=0.3", "prompt.beta=0.8"],
        ["optimizer.private_lr=0.6", "prompt.beta=0.8"],
    ],
    "fedotp": [
        [f"optimizer.lr={lr}", f"optimizer.private_lr={own}", f"prompt.transport_mass={mass}"]
        for lr, own, mass in (
            (0.1, 0.6, 0.8),
            (0.1, 0.6, 1.0),
            (0.3, 0.6, 0.8),
            (0.3, 0.3, 0.8),
            (1.0, 1.0, 0.8),
        )
    ],
    "fedpgp": [
        [f"optimizer.lr={lr}", f"optimizer.private_lr={own}", f"loss.lambda_contrast={mu}"]
        for lr, own, mu in (
            (0.1, 0.1, 1.0),
            (0.3, 0.1, 1.0),
            (0.3, 0.3, 1.0),
            (0.3, 0.1, 0.1),
            (1.0, 0.1, 0.1),
        )
    ],
    "fedrsclip": [
        [f"prompt.beta={beta}", f"loss.lambda_cmfac={cmfac}", f"optimizer.private_lr={lr}"]
        for beta, cmfac, lr in (
            (0.8, 1.0, 0.6),
            (0.8, 0.3, 0.6),
            (0.5, 0.3, 0.6),
            (0.8, 0.3, 0.3),
            (0.8, 0.3, 1.0),
        )
    ],
}
TRIALS["fedrsclip_frozen_shared"] = TRIALS["fedrsclip"]


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    experiment: str
    method: str
    seed: int
    overrides: tuple[str, ...] = ()
    trial: int | None = None
    extra: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        trial = "" if self.trial is None else f"-trial{self.trial}"
        return f"bench-{self.experiment}-{self.method}-seed{self.seed}{trial}"


def run_cell(cell: Cell) -> dict[str, Any]:
    """Run one cell in this process, or read what an earlier call left of it."""
    from client_app.app import app as client_app
    from fedrsclip_core import paths
    from fedrsclip_core.config import from_run_config
    from server_app.app import run
    from server_app.inprocess import InProcessGrid

    results = paths.runs_dir() / cell.name / "results.json"
    if not results.is_file():
        chosen = [f"experiment={cell.experiment}", f"method={cell.method}", f"seed={cell.seed}"]
        overrides = [*chosen, *cell.extra, *cell.overrides, f"run.name={cell.name}"]
        run_config = {"hydra-overrides": " ".join(overrides)}
        config = from_run_config(run_config)
        count = config.federation.num_clients
        nodes = [{"partition-id": k, "num-partitions": count} for k in range(count)]
        grid = InProcessGrid(client_app, nodes, run_config)
        run(grid, config, run_id=1, echo=lambda _line: None)
    return json.loads(results.read_text(encoding="utf-8"))


def run_cells(cells: Sequence[Cell], jobs: int) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Run cells in processes of their own, yielding each when it is done."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = {pool.submit(run_cell, cell): cell for cell in cells}
        for number, future in enumerate(as_completed(futures), start=1):
            cell, results = futures[future], future.result()
            print(
                f"[{number}/{len(cells)}] {cell.name}: {results['seconds']:.0f} s",
                file=sys.stderr,
                flush=True,
            )
            yield cell, results


def figures(results: dict[str, Any], part: str) -> dict[str, float | None]:
    """Read a run's last round: accuracies as percentages."""
    last = results["last"][part]
    found = {"zero_shot": results["zero_shot"][part], "global": last["global"]}
    for mode in ("personalized", "personalized_own"):
        values = last[mode] or {"mean": None, "worst": None}
        found[mode] = values["mean"]
        found[f"{mode}_worst"] = values["worst"]
    return {name: None if value is None else 100 * value for name, value in found.items()}


def tune(args: argparse.Namespace) -> None:
    """Record each method's best trial by its validation accuracy."""
    folder = Path(__file__).resolve().parent.parent / "conf" / "tuned"
    methods = [method for method in args.methods if method in TRIALS]
    # promptfl_ft fine-tunes what promptfl's learning rate gave: its trials come after.
    for wave in ([m for m in methods if m != "promptfl_ft"], methods):
        cells = [
            Cell(experiment, method, seed, tuple(trial), number, tuple(args.override))
            for method in wave
            if not (folder / f"{args.experiments[0]}-{method}.yaml").exists() or args.again
            for experiment in args.experiments
            for number, trial in enumerate(_trials(method, experiment, folder))
            for seed in args.tuning_seeds
        ]
        scores: dict[tuple[str, str], dict[int, list[tuple[float, Cell]]]] = {}
        for cell, results in run_cells(cells, args.jobs):
            val = figures(results, "val")
            mode = "global" if cell.method == "promptfl" else "personalized"
            trials = scores.setdefault((cell.experiment, cell.method), {})
            trials.setdefault(cell.trial or 0, []).append((val[mode] or 0, cell))
        for (experiment, method), trials in sorted(scores.items()):
            means = {n: statistics.mean(score for score, _ in runs) for n, runs in trials.items()}
            for number, mean in sorted(means.items()):
                overrides = " ".join(trials[number][0][1].overrides)
                print(f"{experiment} {method} {overrides}: {mean:.1f}")
            best = max(means, key=lambda number: (means[number], -number))
            _record(folder / f"{experiment}-{method}.yaml", trials[best][0][1])


def _trials(method: str, experiment: str, folder: Path) -> list[list[str]]:
    if method != "promptfl_ft":
        return TRIALS[method]
    base = folder / f"{experiment}-promptfl.yaml"
    line = next((s for s in base.read_text().splitlines() if "  lr:" in s), "  lr: 0.1")
    return [[f"optimizer.lr={line.split(':')[1].strip()}", *trial] for trial in TRIALS[method]]


def _record(path: Path, best: Cell) -> None:
    groups: dict[str, list[str]] = {}
    for override in best.overrides:
        key, value = override.split("=")
        group, name = key.split(".")
        groups.setdefault(group, []).append(f"  {name}: {value}")
    lines = ["# @package _global_", "# Chosen on validation images: benchmarks/fed_rsic.py tune."]
    for group, entries in groups.items():
        lines += ["", f"{group}:", *entries]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def table(args: argparse.Namespace) -> None:
    """Write every cell to a CSV file and print mean and deviation over seeds."""
    cells = [
        Cell(experiment, method, seed, extra=tuple(args.override))
        for experiment in args.experiments
        for seed in range(args.seeds)
        for method in args.methods
    ]
    rows = [
        {"experiment": cell.experiment, "method": cell.method, "seed": cell.seed}
        | figures(results, "test")
        | {"split": results["digests"]["split"], "seconds": round(results["seconds"], 1)}
        for cell, results in run_cells(cells, args.jobs)
    ]
    rows.sort(key=lambda row: (row["experiment"], args.methods.index(row["method"]), row["seed"]))
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for experiment in args.experiments:
        print(f"\n{experiment}, {args.seeds} seeds, test images at the last round\n")
        print("| method | zero-shot | global | personalized | worst | own classes | worst |")
        print("|---|---|---|---|---|---|---|")
        for method in args.methods:
            mine = [r for r in rows if (r["experiment"], r["method"]) == (experiment, method)]
            print(f"| {method} | " + " | ".join(_cells(mine)) + " |")


def _cells(rows: list[dict[str, Any]]) -> Iterator[str]:
    modes = ("personalized", "personalized_worst", "personalized_own", "personalized_own_worst")
    for name in ("zero_shot", "global", *modes):
        values = [row[name] for row in rows if row[name] is not None]
        if not values:
            yield ""
        elif len(values) == 1:
            yield f"{values[0]:.1f}"
        else:
            yield f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def main() -> None:
    """Parse the command line and run the grid."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("command", choices=("table", "tune"))
    parser.add_argument("--data-path", type=Path, required=True)
    parser.add_argument("--model-path", type=Path, required=True)
    parser.add_argument("--experiments", nargs="+", default=list(EXPERIMENTS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tuning-seeds", type=int, nargs="+", default=TUNING_SEEDS)
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--override", action="append", default=[], help="of every cell")
    parser.add_argument("--again", action="store_true", help="tune what was tuned before")
    parser.add_argument("--out", type=Path, default=Path("results.csv"))
    args = parser.parse_args()
    os.environ["FEDRSCLIP_DATA_PATH"] = str(args.data_path.resolve())
    os.environ["FEDRSCLIP_MODEL_PATH"] = str(args.model_path.resolve())
    os.environ["FEDRSCLIP_DEVICE"] = "cpu"
    {"table": table, "tune": tune}[args.command](args)


if __name__ == "__main__":
    main()
