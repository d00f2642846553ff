"""Folders of runs in every state, without a run."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrsclip_core.runs import run_folder as runs

CONFIG = {
    "method": "fedrsclip",
    "seed": 3,
    "federation.num_clients": 2,
    "federation.num_rounds": 4,
    "federation.connect_timeout": 100.0,
    "federation.prepare_timeout": 200.0,
    "federation.round_timeout": 600.0,
}


def record(
    server_round: int, *, lost: Mapping[str, str] | None = None, **changes: Any
) -> dict[str, Any]:
    """Return a line of ``metrics.jsonl`` with round figures."""
    trained = server_round > 0
    names = ("client-0", "client-1")
    return {
        "round": server_round,
        "seconds": 1.5 if trained else 0.0,
        "eval_seconds": 0.5,
        "final": False,
        "failure": "",
        "clients": {
            "asked": 2 if trained else 0,
            "valid": 2 - len(lost or {}) if trained else 0,
            "dropped": dict(lost or {}),
        },
        "eval_dropped": {},
        "num_examples": 20,
        "loss": {"loss": 1.25} if trained else None,
        "bytes": {
            "down": {"payload": 2000, "message": 4000},
            "up": {"payload": 1000, "message": 3000},
            "clients": {name: {"down": 2000, "up": 1500} for name in names},
        },
        "sampled": False,
        "clients_evaluated": 2,
        "clients_without_images": {"val": 0, "test": 0},
        "val": None,
        "test": {
            "images": 20,
            "zero_shot": None if trained else 0.4,
            "global": 0.4 + server_round / 10,
            "personalized": {"mean": 0.4 + server_round / 8, "std": 0.1, "worst": 0.3},
            "personalized_own": None,
        },
    } | changes


@dataclass
class Folder:
    """The folder of a run."""

    path: Path

    def begin(self, **config: Any) -> None:
        """Write what is there before the first round."""
        self.path.mkdir(parents=True, exist_ok=True)
        about = {"run": self.path.name, "overrides": "", "config": CONFIG | config}
        (self.path / "run.json").write_text(json.dumps(about))

    def add(self, *records: Mapping[str, Any]) -> None:
        """Append rounds."""
        self.write("".join(json.dumps(one) + "\n" for one in records))

    def write(self, text: str) -> None:
        """Append text to ``metrics.jsonl``."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(text)

    def age(self, seconds: float) -> None:
        """Let all files be written some seconds ago."""
        then = time.time() - seconds
        for path in self.path.iterdir():
            os.utime(path, (then, then))

    def end(self, status: str = "completed", reason: str | None = None) -> None:
        """Write a summary."""
        last = record(4)
        results = {
            "status": status,
            "reason": reason,
            "method": "fedrsclip",
            "seed": 3,
            "run": self.path.name,
            "num_rounds": 4,
            "rounds": 4,
            "num_clients": 2,
            "zero_shot": {"val": None, "test": 0.4},
            "initial": record(0),
            "last": last,
            "val_best": None,
            "refused": {},
            "dropped": {"total": 0, "clients": {}},
            "bytes": {
                "down": {"payload": 1, "message": 2},
                "up": {"payload": 1, "message": 2},
                "per_client_round": {"down": 2.0, "up": 2.0},
            },
            "seconds": 12.5,
        }
        (self.path / "results.json").write_text(json.dumps(results))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the process that works on the run."""
        with runs.hold(self.path):
            yield
