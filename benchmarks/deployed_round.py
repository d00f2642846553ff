"""Seconds per round of a deployed federation, and where they go.

    python -m benchmarks.deployed_round --clients 3 --rounds 12

Renders a federation of the embedded demo by `fedrsclip deploy`, with TLS, node keys and nginx,
starts every host's scripts on this machine and submits a run. Every site's programs, which would
have a machine of their own, share this machine's processors. This is done twice: with Flower's own
SuperExec at the sites, which starts a ClientApp cold, and with ours. All rounds but the first two
count. Needs nginx and /proc.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import Cell, Report, arguments, publish, settings_of
from tests.integration.deployed import Deployment, free_port, pids_of

EXECUTORS = {"cold": "flower-superexec", "warm": "fedrsclip-superexec"}
WARM_UP = 2
LOOK_EVERY = 0.1
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Life:
    """One client process, as seen from outside: wall times and CPU seconds."""

    start: float
    end: float
    cpu: float


class Watch:
    """Looks at all client processes again and again."""

    def __init__(self, out: Path) -> None:
        self._places = list((out / "clients").iterdir())
        self._known: dict[int, Life] = {}

    def look(self) -> None:
        """Note what has started, and the CPU time of what runs."""
        now = time.time()
        for place in self._places:
            for pid in pids_of(place, "flwr-clientapp"):
                life = self._known.setdefault(pid, Life(now, now, 0.0))
                life.end, life.cpu = now, max(life.cpu, cpu_seconds(pid))

    def lives(self) -> list[Life]:
        """Return the client processes so far."""
        return list(self._known.values())


def cpu_seconds(pid: int) -> float:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / TICKS


def start(executor: str, root: Path, clients: int, rounds: int, settings: list[str]) -> Deployment:
    names = [f"site-{number}" for number in range(clients)]
    deployment = Deployment(
        root,
        "127.0.0.1",
        (
            "federation=deployment",
            f"federation.clients=[{','.join(names)}]",
            f"federation.num_clients={clients}",
            f"federation.min_clients={clients}",
            f"federation.num_rounds={rounds}",
            "run.name=timed",
            *settings,
        ),
    )
    for name in names:
        script = deployment.client(name) / "superexec.sh"
        script.write_text(script.read_text().replace(EXECUTORS["warm"], executor))
        values = {"FEDRSCLIP_DEVICE": "cpu", "SUPERNODE_PORT": str(free_port())}
        deployment.fill_in(deployment.client(name) / "site.env", values)
    deployment.start_server()
    status, said = deployment.call(deployment.server / "register.sh")
    assert status == 0, said
    for name in names:
        deployment.start_client(name)
    return deployment


def watched(deployment: Deployment) -> tuple[list[tuple[dict[str, float], float]], list[Life]]:
    """Submit the run; return its records, each with the time at which it was written, and lives."""
    watch, metrics = Watch(deployment.out), deployment.server / "home/runs/timed/metrics.jsonl"
    submit = deployment.admin / "submit.sh"
    deployment.start(submit)
    records: list[tuple[dict[str, float], float]] = []
    while not deployment.ended(submit):
        watch.look()
        lines = metrics.read_text().splitlines() if metrics.is_file() else []
        records += [(json.loads(line), time.time()) for line in lines[len(records) :]]
        time.sleep(LOOK_EVERY)
    if "finished:completed" not in deployment.log(submit).read_text():
        raise SystemExit(deployment.logs())
    return records, watch.lives()


def stages(
    records: list[tuple[dict[str, float], float]], lives: list[Life], clients: int
) -> Iterator[dict[str, float]]:
    """Yield the seconds of each round by stage.

    A round's record is written when the next round's replies are there, so record ``r``'s writing
    is the end of round ``r + 1``.
    """
    ends = {record["round"] + 1: written for record, written in records}
    for record, _ in records:
        number, seconds = record["round"], record["seconds"]
        if number <= WARM_UP or number not in ends:
            continue
        end = ends[number]
        begin = end - seconds
        present = [life for life in lives if begin - 0.1 <= life.start <= end]
        if len(present) != clients:
            continue
        last = max(present, key=lambda life: life.end)
        yield {
            "round": seconds,
            "until the last site's process starts": last.start - begin,
            "life of that process": last.end - last.start,
            "from its end to the server": end - last.end,
            "CPU of one process": statistics.mean(life.cpu for life in present),
        }


def measured(executor: str, options: argparse.Namespace) -> list[dict[str, float]]:
    """Return the stages of each round of one federation."""
    settings = [f"optimizer.threads={options.threads}", *options.overrides]
    with tempfile.TemporaryDirectory() as folder:
        deployment = start(executor, Path(folder), options.clients, options.rounds, settings)
        try:
            return list(stages(*watched(deployment), options.clients))
        finally:
            deployment.end()


def main() -> None:
    parser = arguments(__doc__, threads=1)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("overrides", nargs="*", help="e.g. data.images_per_class=10")
    options = parser.parse_args()
    report = Report("deployment", settings_of(options))
    for kind, executor in EXECUTORS.items():
        found = measured(executor, options)
        report.notes.append(f"{kind}: {len(found)} rounds of {options.clients} sites.")
        for name in found[0]:
            values = [round_[name] for round_ in found]
            median, least, most = statistics.median(values), min(values), max(values)
            row: dict[str, Cell] = {"start": kind, "stage": name, "median, s": median}
            report.rows.append(row | {"least": least, "most": most})
    report.notes.append("Exactness: none to check, both run the client's own code.")
    publish(report, options.json)


if __name__ == "__main__":
    main()
