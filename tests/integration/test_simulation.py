"""The same run in several ways: neither engine nor the number of processes may show."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.app import app
from fedrsclip import load_classifier, load_personal_classifier
from fedrsclip.simulation.in_process import InProcessGrid
from fedrsclip_core import machine
from fedrsclip_core.config.compose import compose
from fedrsclip_core.data.federated import open_client_data
from server_app.app import run
from server_app.exchange import Exchange

pytestmark = [pytest.mark.integration, pytest.mark.flower]

RUN = "same"
SETTINGS = [
    "seed=1",
    f"run.name={RUN}",
    "federation.num_clients=3",
    "federation.num_rounds=2",
    "data.images_per_class=10",
    "data.val_fraction=0.3",
]
MEASURED = ("round", "loss", "val", "test", "num_examples")


def simulate(folder: Path, client_cpus: int, *more: str) -> Path:
    """Run a simulation in a folder of its own and return the home that it wrote."""
    home, empty = folder / "home", folder / "empty"
    empty.mkdir(parents=True)
    environment = {name: v for name, v in os.environ.items() if not name.startswith("FLWR")}
    arguments = [*SETTINGS, f"federation.client_cpus={client_cpus}", *more]
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


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's home, with all clients in one process."""
    return simulate(tmp_path_factory.mktemp("one"), client_cpus=machine.available_cpus())


@pytest.mark.skipif(machine.available_cpus() < 2, reason="needs two clients at once")
def test_one_process_and_several_give_the_same_bytes(one: Path, tmp_path: Path) -> None:
    several = simulate(tmp_path / "several", client_cpus=1)
    assert len(prompts(one)) == 1 + 3 * (2 + 1)
    assert prompts(one) == prompts(several)
    assert figures(one) == figures(several)


def test_flowers_own_engine_and_one_in_this_process_give_the_same_bytes(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpus = machine.available_cpus()
    flower = simulate(tmp_path / "flower", cpus, "federation.engine=flower")
    assert prompts(one) == prompts(flower)
    assert figures(one) == figures(flower)

    monkeypatch.setenv("FEDRSCLIP_HOME", str(tmp_path / "home"))
    nodes = [{"partition-id": k, "num-partitions": 3} for k in range(3)]
    run(Exchange(InProcessGrid(app, nodes)), compose(SETTINGS), run_id=1)
    assert prompts(one) == prompts(tmp_path / "home")
    assert figures(one) == figures(tmp_path / "home")


def test_each_clients_classifier_answers_as_its_evaluation_did(
    one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDRSCLIP_HOME", str(one))
    config = compose(SETTINGS)
    for number in range(3):
        classifier = load_personal_classifier(RUN, f"client-{number}")
        data = open_client_data(config, None, partition_id=number, num_partitions=3)
        kept = one / f"evaluations/{config.federation.name}/{RUN}/client-{number}.json"
        parts = json.loads(kept.read_text())["parts"]
        for part in ("val", "test"):
            indices = getattr(data.split, part)
            scores = classifier.scores([data.source.image(int(index)) for index in indices])
            confusion = np.zeros((16, 16), np.int64)
            np.add.at(confusion, (data.source.labels[indices], scores.argmax(axis=1)), 1)
            assert confusion.tolist() == parts[part]["personalized"]["confusion"]


def test_the_shared_prompt_is_calibrated_by_all_clients(one: Path) -> None:
    results = json.loads((one / "runs" / RUN / "results.json").read_text())
    plain, calibrated = (
        load_classifier(one / "runs" / RUN, calibrated=wanted) for wanted in (False, True)
    )
    assert calibrated.logit_scale == plain.logit_scale * results["calibrated_factor"]
    assert results["calibrated_factor"] != 1
