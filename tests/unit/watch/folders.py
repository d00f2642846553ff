"""Folders of runs in every state, without a run."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrsclip_core.runs import lock
from tests.run_files import description, results

CONFIG = {
    "method": "fedrsclip",
    "seed": 3,
    "federation.num_clients": 2,
    "federation.num_rounds": 4,
    "federation.connect_timeout": 100.0,
    "federation.prepare_timeout": 200.0,
    "federation.round_timeout": 600.0,
}


@dataclass
class Folder:
    """The folder of a run."""

    path: Path

    def begin(self, **config: Any) -> None:
        """Write what is there before the first round."""
        self.path.mkdir(parents=True, exist_ok=True)
        about = description(self.path.name, CONFIG | config)
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
        summary = results(self.path.name, status=status, reason=reason)
        (self.path / "results.json").write_text(json.dumps(summary))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the process that works on the run."""
        with lock.hold(self.path):
            yield
