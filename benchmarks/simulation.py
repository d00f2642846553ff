"""Clients per second of a simulation, its share of overhead, and the memory of all its processes.

    python -m benchmarks.simulation --clients 100 --rounds 3
    python -m benchmarks.simulation --clients 10 100 1000 10000 --images 4 --drivers local
    python -m benchmarks.simulation federation.client_gpus=0.25 --drivers local

All clients take part in every round, with one local epoch, on the embedded CLIP and small JPEG
files. `local` and `flower` are `fedrsclip run`, as users start it, with that `federation.engine`;
`in process` is a worker of `fedrsclip bench`.
Overhead is everything but optimizer steps: the clients' logs have the seconds of their steps, and
a round's seconds count once for each client process that runs at the same time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.inputs import class_names, save_images
from benchmarks.measuring import Cell, Report, arguments, publish, settings_of
from benchmarks.memory import MemoryWatch
from benchmarks.site_steps import steps_in
from fedrsclip import machine
from fedrsclip.bench.workers import Worker
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.resolved import to_json
from fedrsclip_core.runs.records import RoundRecord
from fedrsclip_core.runs.run_folder import RunFolder

DRIVERS = ("local", "flower", "in process")
IN_PROCESS = DRIVERS[-1]
RUN = "timed"
_KEPT = 0.7


def overrides(options: argparse.Namespace, clients: int, rounds: int) -> list[str]:
    """Return the configuration of the run, without the site's folder."""
    names = ",".join(class_names(options.classes))
    return [
        f"run.name={RUN}",
        "data=folder",
        f"data.class_names=[{names}]",
        "partition=uniform",
        f"federation.num_clients={clients}",
        f"federation.num_rounds={rounds}",
        "optimizer.local_epochs=1",
        f"optimizer.threads={options.threads}",
        *options.overrides,
    ]


def processes(driver: str, settings: Sequence[str]) -> int:
    """Return how many clients run at the same time."""
    return 1 if driver == IN_PROCESS else machine.clients_at_once(compose(settings).federation)


def simulate(driver: str, home: Path, images: Path, settings: Sequence[str]) -> float:
    """Carry out a run in a home of its own; return the peak memory of all processes, MiB."""
    home.mkdir(parents=True)
    site = {"FEDRSCLIP_HOME": str(home)}
    with MemoryWatch(f"FEDRSCLIP_HOME={home}") as watch:
        if driver != IN_PROCESS:
            engine = f"federation.engine={driver}"
            command = [sys.executable, "-m", "fedrsclip.cli", "run", *settings, engine]
            done = subprocess.run(
                [*command, f"data.path={images}"],
                env={**os.environ, **site},
                capture_output=True,
                text=True,
                check=False,
            )
            failure = done.stdout + done.stderr if done.returncode else ""
        else:
            worker = Worker(site, home / "worker.log")
            job = {
                "name": RUN,
                "configuration": to_json(compose(settings)),
                "overrides": settings,
                "partitions": [],
                "data_path": str(images),
            }
            failure = worker.run(job)
            worker.end()
    if failure:
        raise SystemExit(f"the simulation by {driver} failed: {failure}")
    return watch.peak_mib


def records(home: Path) -> list[RoundRecord]:
    """Return the run's trained rounds."""
    rounds = RunFolder(home / "runs" / RUN).rounds().read()
    return [record for record in rounds if record["round"] > 0]


def row_of(driver: str, home: Path, clients: int, at_once: int, peak_mib: float) -> dict[str, Cell]:
    """Return a row; the first round is left out, in it processes start to work."""
    rounds = records(home)
    steps = [s for s in steps_in(home / "logs") if s.server_round > 1]
    seconds = [record["seconds"] for record in rounds if record["round"] > 1]
    in_steps = sum(s.step_seconds for s in steps)
    return {
        "driver": driver,
        "clients": clients,
        "processes": at_once,
        "steps a client": sum(s.num_steps for s in steps) / len(steps),
        "s/round": statistics.median(seconds),
        "ms a client": 1e3 * statistics.median(seconds) / clients,
        "overhead, %": 100 * (1 - in_steps / (at_once * sum(seconds))),
        "of that in the client, %": 100
        * (sum(s.seconds for s in steps) - in_steps)
        / (at_once * sum(seconds)),
        "peak PSS, MiB": peak_mib,
        "last loss": rounds[-1]["loss"]["loss"],
    }


def rows_of(options: argparse.Namespace, clients: int) -> list[dict[str, Cell]]:
    """Carry out the run of so many clients by each driver."""
    per_class = round(options.images * clients / options.classes / _KEPT)
    settings = overrides(options, clients, options.rounds)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        names = class_names(options.classes)
        images = save_images(Path(folder) / "images", names, per_class, 64)
        for driver in options.drivers:
            home = Path(folder) / driver.replace(" ", "-")
            peak = simulate(driver, home, images, settings)
            rows.append(row_of(driver, home, clients, processes(driver, settings), peak))
    return rows


def main(arguments_: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, threads=1)
    parser.add_argument("--clients", type=int, nargs="+", default=[100])
    parser.add_argument("--rounds", type=int, default=3, help="at least 2; the first is left out")
    parser.add_argument("--classes", type=int, default=16)
    parser.add_argument("--images", type=int, default=64, help="training images of a client")
    parser.add_argument("--drivers", nargs="+", choices=DRIVERS, default=list(DRIVERS))
    parser.add_argument("overrides", nargs="*", help="e.g. federation.client_cpus=2")
    options = parser.parse_args(arguments_)
    if options.rounds < 2:
        parser.error("--rounds must be at least 2: the first round is left out")
    report = Report("simulation", settings_of(options))
    for clients in sorted(options.clients):
        report.rows += rows_of(options, clients)
    exact = all(
        len({row["last loss"] for row in report.rows if row["clients"] == clients}) == 1
        for clients in options.clients
    )
    report.notes = [
        f"Exactness: the drivers' last losses are {'equal' if exact else 'NOT EQUAL'}. "
        "Memory is the sum of the PSS of all processes of a run.",
    ]
    publish(report, options.json)


if __name__ == "__main__":
    main()
