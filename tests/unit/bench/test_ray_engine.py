"""Without a cluster: which cells are submitted when, and what becomes of them."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray.exceptions

from fedrsclip.bench import ray_engine
from fedrsclip.bench.cells import Cell
from fedrsclip.bench.ray_engine import RayEngine, run_cell_here
from fedrsclip.bench.schedule import Job, Schedule
from fedrsclip.ray_cluster.at_node import Expected
from fedrsclip.ray_cluster.nodes import Share
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import lock
from tests.unit.ray_cluster.fake_ray import FakeRay, node

pytestmark = pytest.mark.unit


@pytest.fixture
def expected(tmp_path: Path) -> Iterator[Expected]:
    with lock.hold(tmp_path):
        yield Expected.in_held(tmp_path)


def test_a_cell_is_not_run_on_a_node_that_lacks_something(expected: Expected) -> None:
    error, seconds = run_cell_here({}, replace(expected, token="of another folder"))
    assert error.startswith("the node ") and "FEDRSCLIP_HOME must be" in error and not seconds


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """Nodes that Ray is said to have."""
    fake = FakeRay([node("a", CPU=2.0), node("b", CPU=4.0), node("head")])
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def test_as_many_cells_run_as_there_is_room_for(cluster: FakeRay, tmp_path: Path) -> None:
    lines: list[str] = []
    assert RayEngine(Share(2, 0), None, {}, tmp_path, lines.append).at_once == 3
    assert RayEngine(Share(1, 0), 2, {}, tmp_path, print).at_once == 2
    assert lines == [
        "Ray at 192.0.2.1:6379: room for 3 cells at a time (a (192.0.2.1), b (192.0.2.1))"
    ]


def test_jobs_are_submitted_as_they_become_free(
    cluster: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One encodes first, no more run than are wanted, and what builds on a failed one is not."""

    def run(job: dict[str, Any], expected: Expected) -> tuple[str, float]:
        order.append(job["name"])
        if job["name"] == "first":
            raise ray.exceptions.WorkerCrashedError
        return "", 2.0

    order: list[str] = []
    monkeypatch.setattr(ray_engine, "run_cell_here", run)
    monkeypatch.setattr(Cell, "job", property(lambda cell: {"name": cell.name}))
    monkeypatch.setattr(ray_engine, "why_not_counted", lambda cell, error, patience: error)
    cells = [Cell(name, "uniform", "promptfl", 0, ()) for name in ("first", "a", "b", "c")]
    cells.append(Cell("second", "uniform", "promptfl", 0, (), after="first"))
    schedule = Schedule([Job(cell, "images") for cell in cells])
    engine = RayEngine(Share(1, 0), 2, {"A": "b"}, tmp_path, lambda line: None)
    found = {done.job.cell.name: done for done in engine.ended(schedule)}
    assert order == ["first", "a", "b", "c"]
    assert cluster.most == 2
    assert cluster.options["runtime_env"] == {"env_vars": {"A": "b"}}
    assert found["first"].error.startswith("its process died 6 times (WorkerCrashedError): see ")
    assert found["second"].error == "it needs first, which failed"
    assert [(found[name].error, found[name].seconds) for name in "abc"] == [("", 2.0)] * 3


def test_a_cluster_without_room_is_a_sentence(cluster: FakeRay, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has CPU=1 GPU=1 for a cell: set bench"):
        RayEngine(Share(1, 1), None, {}, tmp_path, print)
