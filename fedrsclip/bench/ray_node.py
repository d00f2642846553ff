"""What a node of a Ray cluster does for a benchmark: say whether it can run cells, and run them."""

import os
import platform
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedrsclip_core.errors import FedRSCLIPError

_COMPARED = ("torch", "transformers", "flwr", "numpy")
_LOCK_PATIENCE = 60.0
"""Seconds for an earlier attempt at a cell to end, whose node may be only half dead."""


@dataclass(frozen=True)
class Expected:
    """What a node must have, as found where the benchmark was started.

    Attributes
    ----------
    software : dict[str, str]
        Versions, and the digest of the code.
    token_file, token : str
        A file in the benchmark's folder and what it says.
    """

    software: dict[str, str]
    token_file: str
    token: str


def software() -> dict[str, str]:
    """Return what must be the same at all nodes, so that their cells are equal in bits."""
    from fedrsclip_core.wire.digests import code_digest

    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: version(name) for name in _COMPARED}, "code": code_digest()}


def problem_here(expected: Expected, settings: Sequence[Sequence[str]] = ()) -> str:
    """Say why this node cannot run cells; empty if it can.

    Parameters
    ----------
    expected : Expected
        What it must have.
    settings : Sequence[Sequence[str]]
        The overrides of cells, with their site keys, whose CLIP and images are looked for.
    """
    found = software()
    for name, wanted in expected.software.items():
        if found[name] != wanted and name == "code":
            return "it has another version of this code: install the same everywhere"
        if found[name] != wanted:
            return f"it has {name} {found[name]}, here it is {wanted}: install the same everywhere"
    if not _shares(Path(expected.token_file), expected.token):
        return (
            f"it does not see {Path(expected.token_file).parent}: FEDRSCLIP_HOME must be a folder "
            "that all nodes share, under the same path"
        )
    try:
        for overrides in settings:
            _check_files(overrides)
    except FedRSCLIPError as error:
        return str(error)
    return ""


def run_cell_here(job: Mapping[str, Any], expected: Expected) -> tuple[str, float]:
    """Run one cell, or what is left of it.

    Parameters
    ----------
    job : Mapping[str, Any]
        As for :func:`fedrsclip.bench.worker.run_cell`.
    expected : Expected
        What this node must have; it may have joined after the others were asked.

    Returns
    -------
    tuple[str, float]
        Why it failed, empty if it is completed, and the seconds that it took.
    """
    start, node = time.monotonic(), socket.gethostname()
    if problem := problem_here(expected):
        return f"the node {node} cannot run cells: {problem}", 0.0
    _print_to(Path(expected.token_file).with_name(f"worker-{node}-{os.getpid()}.log"))
    from fedrsclip.bench.worker import run_cell
    from fedrsclip_core.runs import paths

    _wait_for(paths.runs_dir() / job["name"])
    return run_cell(job)["error"], time.monotonic() - start


def _check_files(overrides: Sequence[str]) -> None:
    from fedrsclip.run import preflight

    config = preflight.compose_here(overrides, given=())
    preflight.check_model(config)
    if config.data.path is not None and not Path(config.data.path).exists():
        raise FedRSCLIPError(f"there are no images at {config.data.path}")


def _shares(file: Path, token: str) -> bool:
    try:
        return file.read_text(encoding="utf-8") == token
    except OSError:
        return False


def _wait_for(folder: Path) -> None:
    from fedrsclip_core.runs import lock

    deadline = time.monotonic() + _LOCK_PATIENCE
    while lock.is_held(folder) and time.monotonic() < deadline:
        time.sleep(0.5)


def _print_to(log: Path) -> None:
    """Append all that this process prints to a file; a worker of Ray serves one benchmark."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
