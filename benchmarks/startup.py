"""A client process that starts with cached features: seconds to the first step, and its memory.

    python -m benchmarks.startup --classes 21 45

As in a deployment, each train message is a new process. A first one fills the caches; then two
measured ones, the second while the first still lives: what they share is counted half in its PSS.
Files are of ViT-B/32's size. Linux only: memory is read from /proc.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.inputs import class_names, save_images, save_random_clip
from benchmarks.measuring import Cell, Report, arguments, publish, settings_of
from benchmarks.memory import pss_mib, rss_mib
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.resolved import to_json

_CLIENT = "benchmarks.startup_client"


@contextmanager
def client(config: str, environment: dict[str, str]) -> Iterator[tuple[int, dict[str, float]]]:
    """Run a client process to the end of its message; it lives until the block ends."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", _CLIENT, config],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        answer = process.stdout.readline()
        seconds = time.perf_counter() - begin
        if not answer:
            raise SystemExit("the client process ended without an answer: see above")
        found: dict[str, float] = json.loads(answer)
        found["python"] = seconds - sum(found.values())
        yield process.pid, found | {"to the reply": seconds}
    finally:
        process.stdin.close()
        process.wait()


def measure(folder: Path, options: argparse.Namespace, classes: int) -> dict[str, Cell]:
    """Return one row: a client of some number of classes."""
    names = class_names(classes)
    here = folder / f"{classes}"
    environment = {
        "FEDRSCLIP_HOME": str(here / "home"),
        "FEDRSCLIP_DATA_PATH": str(save_images(here / "images", names, 3, 64)),
        "FEDRSCLIP_MODEL_PATH": str(folder / "clip"),
        "FEDRSCLIP_DEVICE": "cpu",
    }
    overrides = (
        f"data=folder data.class_names=[{','.join(names)}] partition=site model=local "
        f"federation.num_clients=1 optimizer.threads={options.threads}"
    )
    config = to_json(compose(overrides.split()))
    with client(config, environment):
        pass
    runs: list[dict[str, float]] = []
    for _ in range(options.repeats):
        with (
            client(config, environment) as (first, seconds),
            client(config, environment) as (second, _again),
        ):
            runs.append(
                seconds | {"RSS, MiB": rss_mib(first), "PSS of a second, MiB": pss_mib(second)}
            )
    order = ["python", "import", "configuration", "load", "first message", "to the reply"]
    order += ["RSS, MiB", "PSS of a second, MiB"]
    row: dict[str, Cell] = {"classes": classes}
    return row | {name: statistics.median(run[name] for run in runs) for name in order}


def main(arguments_: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[21])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments_)
    report = Report("startup", settings_of(options))
    with tempfile.TemporaryDirectory() as folder:
        save_random_clip(Path(folder) / "clip")
        for classes in options.classes:
            report.rows.append(measure(Path(folder), options, classes))
    report.notes = [
        "Seconds of wall time, files in the page cache. `first message` evaluates, takes one "
        "epoch's steps and writes the private file. Exactness: none to check, it is the client's "
        "own code.",
    ]
    publish(report, options.json)


if __name__ == "__main__":
    main()
