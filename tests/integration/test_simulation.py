"""The same run twice under Ray: neither scheduling nor the number of processes may show."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedrsclip_core import machine

pytestmark = [pytest.mark.integration, pytest.mark.flower]

RUN = "same"
SETTINGS = [
    "seed=1",
    f"run.name={RUN}",
    "federation.num_clients=3",
    "federation.num_rounds=2",
    "data.images_per_class=10",
]
MEASURED = ("round", "loss", "val", "test", "num_examples")


def simulate(folder: Path, client_cpus: int) -> Path:
    """Run a simulation in a folder of its own and return the home that it wrote."""
    home, empty = folder / "home", folder / "empty"
    empty.mkdir(parents=True)
    environment = {name: v for name, v in os.environ.items() if not name.startswith("FLWR")}
    arguments = [*SETTINGS, f"federation.client_cpus={client_cpus}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fedrsclip.cli", "run", *arguments],
        env=environment | {"HOME": str(folder), "FEDRSCLIP_HOME": str(home)},
        cwd=empty,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate()
    except BaseException:
        process.terminate()  # it ends what it has started
        process.communicate(timeout=60)
        raise
    assert process.returncode == 0, output
    return home


def prompts(home: Path) -> dict[str, Any]:
    """Return metadata and tensor bytes of the shared prompt and of each private one.

    The order of a safetensors file's metadata is arbitrary, so files need not be equal.
    """
    from safetensors import safe_open

    contents = {}
    shared = home / "runs" / RUN / "shared_prompt.safetensors"
    for path in (shared, *(home / "private").rglob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
            contents[str(path.relative_to(home))] = (file.metadata(), tensors)
    return contents


def figures(home: Path) -> list[dict[str, Any]]:
    """Return what each round measured, without times and message sizes."""
    lines = (home / "runs" / RUN / "metrics.jsonl").read_text().splitlines()
    return [{key: json.loads(line)[key] for key in MEASURED} for line in lines]


@pytest.mark.skipif(machine.available_cpus() < 2, reason="needs two clients at once")
def test_one_process_and_several_give_the_same_bytes(tmp_path: Path) -> None:
    one = simulate(tmp_path / "one", client_cpus=machine.available_cpus())
    several = simulate(tmp_path / "several", client_cpus=1)
    assert len(prompts(one)) == 1 + (3 + 1) * 2
    assert prompts(one) == prompts(several)
    assert figures(one) == figures(several)
