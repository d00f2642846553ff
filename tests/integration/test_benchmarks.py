"""Each benchmark once, with the smallest settings, as `make bench` starts it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "step_time": "--classes 4 --n-ctx 4 --batch-size 2 --repeats 1 --ours-per-plain 1",
    "round_time": "--images 8 --epochs 1 --classes 4 --side 64 --plain-steps 1",
    "features": "--images 8 --side 64 --repeats 1",
    "predict": "--clip demo --images 8 --side 64 --repeats 1",
    "startup": "--classes 4 --repeats 1",
    "simulation": "--clients 4 --rounds 2 --classes 4 --images 8",
    "one_liar": "--clients 3 --rounds 1 --aggregators fedavg",
    "growth": "--clients 2 --classes 4 --images 160 320 --rounds 2 --extrapolate 1000",
}
DIFFERENCE = "max abs difference"


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_prints_a_table_and_writes_its_figures(tmp_path: Path, name: str) -> None:
    file = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *TINY[name].split(), "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert report["rows"]
    for row in report["rows"]:
        assert f"| {next(iter(row.values()))} |" in done.stdout
        figures = [value for value in row.values() if isinstance(value, float)]
        assert figures and min(figures) >= 0
        exact = row.get("dtype", "float32") == "float32"
        assert (row.get(DIFFERENCE) or 0.0) < (1e-5 if exact else 1e-2)
    if name == "simulation":
        assert len({row["last loss"] for row in report["rows"]}) == 1
