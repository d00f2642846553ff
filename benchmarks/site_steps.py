"""What clients wrote into their own logs: how long their optimizer steps took."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"run (\S+), round (\d+): (\d+) steps in ([\d.]+) of ([\d.]+) s, loss")


@dataclass(frozen=True)
class Steps:
    """One train message at one client."""

    run: str
    server_round: int
    num_steps: int
    step_seconds: float
    seconds: float


def steps_in(logs: Path) -> Iterator[Steps]:
    """Yield what all clients' logs in a folder say of their train messages."""
    for log in sorted(logs.glob("*.log")):
        for match in _LINE.finditer(log.read_text(encoding="utf-8", errors="replace")):
            run, number, steps, in_steps, seconds = match.groups()
            yield Steps(run, int(number), int(steps), float(in_steps), float(seconds))
