"""``fedrsclip bench`` for real: worker processes, equal bits, and a runner that is killed."""

import csv
import json
import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from fedrsclip.bench.new_classes import new_accuracies
from fedrsclip.bench.workers import Worker
from fedrsclip.cli import main
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.resolved import to_json
from fedrsclip_core.demo.scenes import CLASS_NAMES
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.digests import PACKAGES, package_folder
from tests.integration.launched import PATIENCE, Launch

pytestmark = pytest.mark.integration

SMALL = ["federation.num_clients=2", "federation.num_rounds=2", "data.images_per_class=10"]
BASELINES = ["fedncm", "fed3r", "fed_linear_head", "fed_linear_head_prior"]
FIGURES = ("status", "rounds", "zero_shot", "initial", "last", "val_best", "clients")


def rows(home: Path, name: str = "demo") -> list[dict[str, str]]:
    with (home / f"bench/{name}/results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def learned(folder: Path) -> dict[str, Any]:
    """Return a run's figures, without times, and the bits of what it shared."""
    results = json.loads((folder / "results.json").read_text())
    found = {name: _untimed(results[name]) for name in FIGURES}
    prompt = folder / "shared_prompt.safetensors"
    if prompt.exists():
        with safe_open(prompt, framework="numpy") as file:
            found |= {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
    return found


def _untimed(value: Any) -> Any:
    if isinstance(value, list):
        return [_untimed(item) for item in value]
    if not isinstance(value, dict):
        return value
    skipped = ("seconds", "eval_seconds", "bytes")  # a message's size depends on its times
    return {key: _untimed(item) for key, item in value.items() if key not in skipped}


def test_cells_equal_ordinary_runs_in_bits(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ["bench=demo", "bench.settings=[heterogeneous]", "bench.seeds=[1]"]
    bench = launch("bench", "bench", *grid, *SMALL)
    assert bench.wait() == 0, bench.output
    assert "Traceback" not in bench.output
    found = rows(bench.home)
    methods = ["zero_shot", "promptfl", "fedrsclip", "fedrsclip_plus"]
    assert [r["method"] for r in found] == [*methods, *BASELINES]
    assert all(0 < float(row["test_global"]) <= 100 for row in found[len(methods) :])
    del found[len(methods) :]
    for row in found:
        command = shlex.split(row["repeat"])
        assert command[:2] == ["fedrsclip", "run"]
        name = f"bench-demo-heterogeneous-{row['method']}-seed1"
        alone = launch(row["method"], *command[1:], f"run.name={name}")
        assert alone.wait() == 0, alone.output
        cell, run = bench.home / "runs" / name, alone.home / "runs" / name
        assert learned(cell) == learned(run)
        assert float(row["test_zero_shot"]) == 100 * alone.results["zero_shot"]["test"]
        personal = alone.results["last"]["test"]["personalized"]
        assert row["test_personalized"] == ("" if not personal else str(100 * personal["mean"]))
        # What the clients kept at home says the same as what they told the server.
        kept = [json.loads(p.read_text()) for p in bench.home.glob(f"evaluations/demo/{name}/*")]
        hits = [one["parts"]["test"]["zero-shot"]["confusion"] for one in kept]
        correct = sum(row[i] for matrix in hits for i, row in enumerate(matrix))
        images = sum(sum(map(sum, matrix)) for matrix in hits)
        assert correct / images == alone.results["zero_shot"]["test"]
        # What the bench computes itself of classes agrees with what the clients counted.
        monkeypatch.setenv("FEDRSCLIP_HOME", str(bench.home))
        config = compose(command[2:])
        config.data.class_names = list(CLASS_NAMES)
        prompt = cell / "shared_prompt.safetensors"
        computed = new_accuracies(config, list(CLASS_NAMES), prompt if prompt.exists() else None)
        assert computed["zero_shot"] == alone.results["zero_shot"]["test"]
        # Of new classes, as the bench takes them all to be, class offsets say nothing.
        if row["method"] != "fedrsclip_plus":
            assert computed.get("global") == alone.results["last"]["test"]["global"]
    table = (bench.home / "bench/demo/table.md").read_text()
    assert "| fedrsclip_plus |" in table and "minus fedrsclip_plus" in table


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_a_killed_benchmark_goes_on_with_equal_bits(launch: Launch) -> None:
    grid = ["bench=demo", "bench.settings=[uniform]", "bench.methods=[promptfl,fedrsclip]"]
    grid += ["federation.num_clients=2", "federation.num_rounds=30", "data.images_per_class=10"]
    grid += ["bench.reference=fedrsclip", "bench.seeds=[0]", "bench.jobs=1"]
    whole = launch("whole", "bench", *grid)
    assert whole.wait() == 0, whole.output

    killed = launch("killed", "bench", *grid)
    killed.wait_for("[1/2]")
    first, second = (
        killed.home / f"runs/bench-demo-uniform-{method}-seed0"
        for method in ("promptfl", "fedrsclip")
    )
    wait_until(lambda: any(second.glob("checkpoint/round-*")))
    assert killed.running
    assert killed.left_behind()
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.process.wait(timeout=10)
    assert not (second / "results.json").exists()
    wait_until(lambda: killed.left_behind() == [])
    before = (first / "results.json").stat().st_mtime_ns

    again = launch("killed", "bench", *grid)
    assert again.wait() == 0, again.output
    assert "2 cells, 1 of them are completed" in again.output
    assert (first / "results.json").stat().st_mtime_ns == before
    log = (again.home / "bench/demo/worker-0.log").read_text()
    assert f"run {second.name} is resumed after round" in log
    for cell in (first, second):
        assert learned(cell) == learned(whole.home / "runs" / cell.name)
    measured = [_figures(row) for row in rows(whole.home)]
    assert measured == [_figures(row) for row in rows(again.home)]
    assert len(measured) == 2 + len(BASELINES)


def test_a_cell_that_fails_is_named_and_the_others_are_run(launch: Launch) -> None:
    grid = ["bench=demo", "bench.settings=[uniform]", "bench.methods=[zero_shot,promptfl]"]
    grid += ["bench.seeds=[0]", "bench.reference=null", *SMALL]
    grid += ["optimizer.lr=1e30", "federation.max_failed_rounds=1"]
    bench = launch("bench", "bench", *grid)
    assert bench.wait() == 1, bench.output
    assert "bench-demo-uniform-promptfl-seed0 failed: " in bench.output
    assert "Traceback" not in bench.output
    zero_shot, promptfl, *_ = rows(bench.home)
    assert zero_shot["test_zero_shot"] and not promptfl["test_zero_shot"]

    path = bench.home / "runs" / "bench-demo-uniform-zero_shot-seed0" / "results.json"
    results = json.loads(path.read_text())
    results["dropped"] = {"total": 1, "clients": {"client-1": {"late": 1}}}
    path.write_text(json.dumps(results))
    slept = launch("bench", "bench", *grid)
    assert slept.wait() == 1, slept.output
    assert "lacks 1 replies of client-1 (late)" in slept.output
    assert f"remove {path.parent} and run the benchmark again" in slept.output
    assert not rows(bench.home)[0].get("test_zero_shot")

    other = launch("bench", "bench", *grid, "prompt.n_ctx=5")
    assert other.wait() == 1
    assert "bench-demo-uniform-zero_shot-seed0 holds a run with prompt.n_ctx=4" in other.output
    assert other.output.count("\n") == 1


def test_parts_of_a_grid_make_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    grid = ["bench", "bench=demo", "bench.settings=[uniform]", "bench.methods=[zero_shot,promptfl]"]
    grid += ["bench.seeds=[0]", "bench.reference=null", "bench.baselines=[]", *SMALL]
    for number in (1, 2):
        assert main([*grid, f"bench.shard={number}/2"]) == 0
        printed = capsys.readouterr().out
        assert "1 cells, 0 of them are completed" in printed
        assert f"part {number}/2 has ended" in printed
        assert not (paths.bench_dir("demo") / "results.csv").exists()
    assert main(grid) == 0
    assert "2 cells, 2 of them are completed" in capsys.readouterr().out
    assert all(row["code_digest"] for row in rows(paths.home()))


def test_a_worker_runs_on_while_its_code_is_edited(tmp_path: Path) -> None:
    app = tmp_path / "app"
    root = package_folder("fedrsclip").parent
    for name in ("fedrsclip", *PACKAGES, "conf"):
        shutil.copytree(root / name, app / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", app)
    site = {"PYTHONPATH": str(app), "FEDRSCLIP_HOME": str(tmp_path / "home")}
    worker = Worker(site, tmp_path / "worker.log")

    def run(name: str) -> str:
        overrides = ["method=promptfl", *SMALL, f"run.name={name}"]
        composed = to_json(compose(overrides))
        job = {"name": name, "configuration": composed, "overrides": overrides}
        return worker.run(job | {"partitions": [], "data_path": ""})

    try:
        assert run("first") == ""
        for edited in ("client_app/rounds.py", "server_app/strategy.py", "conf/data/hub.yaml"):
            with (app / edited).open("a") as file:
                file.write("# edited\n")
        assert run("second") == ""
    finally:
        worker.end()
    before, after = (tmp_path / "home" / "runs" / name for name in ("first", "second"))
    assert learned(before) == learned(after)


def _figures(row: dict[str, str]) -> dict[str, str]:
    return {
        k: v for k, v in row.items() if not k.startswith(("bytes_", "mb_to_")) and k != "seconds"
    }


def wait_until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.1)
