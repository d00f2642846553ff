"""How long a deployed federation misses a site whose processes are killed at random instants.

    python -m benchmarks.kills --kills 30 --seed 1

Renders a federation of the embedded demo by `fedrsclip deploy`, with TLS, node keys and nginx,
starts every host on this machine, submits one long run and kills (SIGKILL), one after the other:
mostly a site's process for a message, at a random instant of its life, sometimes its SuperNode, its
SuperExec, or `start`, which keeps these two and which a loop in the place of systemd starts again.
After each third kill it waits for more than the minute after which Flower misses a process. It
fails if from the second round after a kill on any round lacks a site. Needs nginx and /proc.
"""

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measuring import Cell, Report, arguments, publish, settings_of
from tests.integration.deployed import Deployment, free_port, pids_of

SITES = ("north", "south")
RUN = "killed"
SYSTEMD = ("sh", "-c", 'while :; do "$0"; sleep 3; done')
MESSAGE = "a message's process"
PROGRAMS = {
    MESSAGE: "flwr-clientapp",
    "SuperNode": "flower-supernode",
    "SuperExec": "fedrsclip-superexec",
    "start": "fedrsclip",
}
KINDS = (*(MESSAGE,) * 11, "SuperNode", "SuperExec", "start", MESSAGE)
"""Of fifteen kills one hits each of the programs that stay."""
LONGEST_LIFE = 1.0
"""Seconds within which a message's process is killed after it was seen."""
LONG_WAIT = 75.0
PATIENCE = 300.0


@dataclass
class Kill:
    """One kill: what was hit, when, and in which round.

    Attributes
    ----------
    kind, site : str
        What was hit where.
    after : float
        Seconds after the process was seen, for a message's.
    at : float
        The time.
    round : int
        The round that was under way.
    """

    kind: str
    site: str
    after: float
    at: float
    round: int


@dataclass
class Federation:
    """The deployment, and when each round was seen to end."""

    deployment: Deployment
    ends: dict[int, float] = field(default_factory=dict)

    def records(self) -> list[dict[str, Any]]:
        """Return the written rounds; one is written at the end of the next one."""
        path = self.deployment.server / "home" / "runs" / RUN / "metrics.jsonl"
        whole = path.read_text().rpartition("\n")[0] if path.is_file() else ""
        found = [json.loads(line) for line in whole.splitlines()]
        self.ends.setdefault(len(found), time.monotonic())
        return found

    def pids(self, site: str, kind: str) -> list[int]:
        return pids_of(self.deployment.client(site), PROGRAMS[kind])

    def wait_until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"waited for {seconds:.0f} s\n{self.deployment.logs()[-20_000:]}")
            time.sleep(0.05)

    def wait_for_rounds(self, number: int) -> None:
        """Wait until a round is written."""
        self.wait_until(lambda: len(self.records()) > number)

    def kill(self, kind: str, site: str, after: float) -> Kill:
        """Kill one program of a site; one that ends too early is not counted, but the next one."""
        while True:
            before = set(self.pids(site, MESSAGE)) if kind == MESSAGE else set()
            found: list[int] = []

            def seen(known: set[int] = before, found: list[int] = found) -> bool:
                self.records()
                found[:] = [pid for pid in self.pids(site, kind) if pid not in known]
                return bool(found)

            self.wait_until(seen)
            time.sleep(after)
            number = len(self.records()) + 1
            with suppress(ProcessLookupError):
                os.kill(found[0], signal.SIGKILL)
                return Kill(kind, site, after, time.monotonic(), number)


def start(root: Path, settings: list[str]) -> Federation:
    deployment = Deployment(
        root,
        "127.0.0.1",
        (
            "federation=deployment",
            f"federation.clients=[{','.join(SITES)}]",
            f"federation.num_clients={len(SITES)}",
            f"federation.min_clients={len(SITES)}",
            "federation.min_replies=1",
            "federation.max_failed_rounds=20",
            "federation.num_rounds=5000",
            "federation.round_timeout=120",
            f"run.name={RUN}",
            *settings,
        ),
    )
    for name in SITES:
        values = {"FEDRSCLIP_DEVICE": "cpu", "SUPERNODE_PORT": str(free_port())}
        deployment.fill_in(deployment.client(name) / "site.env", values)
    deployment.start_server()
    status, said = deployment.call(deployment.server / "register.sh")
    if status != 0:
        raise SystemExit(said)
    for name in SITES:
        deployment.start_client(name, *SYSTEMD)
    deployment.start(deployment.admin / "submit.sh")
    return Federation(deployment)


def judge(federation: Federation, kill: Kill, until: int) -> tuple[int, float]:
    """Return how many rounds lacked a site after a kill, and the seconds until all answered again.

    Raises
    ------
    SystemExit
        If one lacks a site from the second round after the kill on.
    """
    records = federation.records()
    lacking = [n for n in range(kill.round, until) if records[n]["clients"]["valid"] < len(SITES)]
    if lacking and lacking[-1] >= kill.round + 2:
        text = "\n".join(json.dumps(records[n]["clients"]) for n in range(kill.round, until))
        raise SystemExit(f"{kill}: rounds {lacking} lack a site\n{text}")
    whole = lacking[-1] + 1 if lacking else kill.round
    return len(lacking), federation.ends[whole] - kill.at


def main() -> None:
    parser = arguments(__doc__, threads=1)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("overrides", nargs="*", help="e.g. data.images_per_class=10")
    options = parser.parse_args()
    report = Report("kills", settings_of(options))
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"optimizer.threads={options.threads}", *options.overrides]
        federation = start(Path(folder), settings)
        try:
            measure(federation, options, report)
        finally:
            federation.deployment.end()
    publish(report, options.json)


def measure(federation: Federation, options: argparse.Namespace, report: Report) -> None:
    chance = random.Random(options.seed)
    federation.wait_for_rounds(2)
    for number in range(options.kills):
        kind, site = KINDS[(number + options.seed) % len(KINDS)], chance.choice(SITES)
        after = chance.uniform(0, LONGEST_LIFE) if kind == MESSAGE else chance.uniform(0, 5)
        kill = federation.kill(kind, site, after)
        federation.wait_for_rounds(kill.round + 2)
        if number % 3 == 2:
            federation.wait_until(lambda start=kill.at: late(federation, start))
        until = len(federation.records())
        rounds, seconds = judge(federation, kill, until)
        dropped = [record["clients"]["dropped"] for record in federation.records()]
        why = [reasons[site] for reasons in dropped[kill.round : until] if site in reasons]
        row: dict[str, Cell] = {"number": number + 1, "killed": kind, "site": site}
        row |= {"after, s": round(kill.after, 2), "rounds without it": rounds}
        report.rows.append(row | {"all answer again, s": round(seconds, 1), "why": ", ".join(why)})
        print(report.rows[-1], file=sys.stderr, flush=True)
    seconds = [float(str(row["all answer again, s"])) for row in report.rows]
    report.notes.append(
        f"{len(seconds)} kills; all sites answer again after {statistics.median(seconds):.1f} s in "
        f"the median, {max(seconds):.1f} s at the most; from the second round on always."
    )


def late(federation: Federation, start: float) -> bool:
    federation.records()
    return time.monotonic() - start > LONG_WAIT


if __name__ == "__main__":
    main()
