"""Without a cluster: what a node must have, how many cells fit, and addresses of no cluster."""

import sys
import types
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray.exceptions

from fedrsclip.bench import ray_engine
from fedrsclip.bench.cells import Cell
from fedrsclip.bench.ray_engine import RayEngine, Share, connected
from fedrsclip.bench.ray_node import Expected, problem_here, run_cell_here, software
from fedrsclip.bench.schedule import Job, Schedule
from fedrsclip_core.errors import ConfigError, FedRSCLIPError, RunError

pytestmark = pytest.mark.unit


def node(name: str, **resources: float) -> dict[str, Any]:
    shown = {"NodeManagerHostname": name, "NodeManagerAddress": "192.0.2.1"}
    return {"NodeID": name, "Alive": True, "Resources": resources, **shown}


@pytest.fixture
def expected(tmp_path: Path) -> Expected:
    (tmp_path / ".shared").write_text("token")
    return Expected(software(), str(tmp_path / ".shared"), "token")


def test_a_node_like_this_one_has_no_problem(expected: Expected) -> None:
    assert problem_here(expected) == ""
    assert problem_here(expected, [["method=promptfl", "data.images_per_class=10"]]) == ""


def test_what_a_node_lacks_is_a_sentence(expected: Expected, tmp_path: Path) -> None:
    folder = Path(expected.token_file).parent

    def problem(**changed: Any) -> str:
        return problem_here(replace(expected, **changed))

    assert "another version of this code" in problem(software=expected.software | {"code": "x"})
    found = problem(software=expected.software | {"torch": "1.0"})
    assert found.startswith("it has torch ") and "here it is 1.0" in found
    assert f"it does not see {folder}: FEDRSCLIP_HOME" in problem(token="of another folder")
    assert "it does not see /nowhere" in problem(token_file="/nowhere/.shared")
    path = tmp_path / "no-clip"
    assert str(path) in problem_here(expected, [["model=local", f"model.path={path}"]])
    images = ["data=folder", "partition=uniform", "model=demo_clip", f"data.path={path}"]
    assert problem_here(expected, [images]) == f"there are no images at {path}"


def test_a_cell_is_not_run_on_a_node_that_lacks_something(expected: Expected) -> None:
    error, seconds = run_cell_here({}, replace(expected, token="of another folder"))
    assert error.startswith("the node ") and "FEDRSCLIP_HOME must be" in error and not seconds


@pytest.mark.parametrize(
    ("share", "cells"),
    [
        (Share(1, 0), 8),
        (Share(3, 0), 2),
        (Share(1, 1), 2),
        (Share(1, 0.25), 8),
        (Share(0.5, 0.25), 8),
        (Share(0.1, 0.1), 20),
        (Share(1, 0.4), 4),  # two on each; a fifth would have parts of both
        (Share(1, 2), 1),
        (Share(1, 3), 0),
        (Share(9, 0), 0),
    ],
)
def test_cpus_and_gpus_bound_the_cells_of_a_node(share: Share, cells: int) -> None:
    assert share.fits(node("a", CPU=8.0, GPU=2.0)) == cells


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Nodes that Ray is said to have."""
    nodes = [node("a", CPU=2.0), node("b", CPU=4.0), node("head")]
    context = types.SimpleNamespace(gcs_address="192.0.2.1:6379")
    monkeypatch.setitem(sys.modules, "ray", FakeRay(nodes, context))
    return nodes


class FakeRay:
    """Runs a task when it is asked whether one has ended."""

    exceptions = ray.exceptions

    def __init__(self, nodes: list[dict[str, Any]], context: object) -> None:
        self.nodes, self.get_runtime_context = lambda: nodes, lambda: context
        self.most = 0
        self.options: dict[str, Any] = {}

    def remote(self, **options: Any) -> Callable[..., Any]:
        self.options = options

        def decorate(function: Callable[..., Any]) -> Any:
            return types.SimpleNamespace(remote=lambda *given: partial(function, *given))

        return decorate

    def wait(self, running: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        self.most = max(self.most, len(running))
        return running[:1], running[1:]

    def get(self, answer: Callable[[], Any]) -> Any:
        return answer()


def test_nodes_that_come_and_go_are_named(cluster: list[dict[str, Any]], tmp_path: Path) -> None:
    lines: list[str] = []
    engine = RayEngine(Share(2, 0), None, {}, tmp_path, lines.append)
    assert engine.at_once == 3
    assert RayEngine(Share(1, 0), 2, {}, tmp_path, print).at_once == 2
    assert lines.pop() == (
        "Ray at 192.0.2.1:6379: room for 3 cells at a time (a (192.0.2.1), b (192.0.2.1))"
    )
    cluster[0]["Alive"] = False
    engine._say_who_came_and_went()
    assert lines.pop() == "the node a (192.0.2.1) is gone: its cells are resumed elsewhere"
    cluster[1]["Alive"] = False
    cluster.append(node("c", CPU=2.0))
    engine._say_who_came_and_went()
    assert lines[-1] == "the node c (192.0.2.1) has joined"
    cluster[-1]["Alive"] = False
    engine._say_who_came_and_went()
    assert lines[-1].endswith("is gone: no node has room for a cell now, until one joins")


def test_jobs_are_submitted_as_they_become_free(
    cluster: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    fake = sys.modules["ray"]
    assert isinstance(fake, FakeRay) and fake.most == 2
    assert fake.options["runtime_env"] == {"env_vars": {"A": "b"}}
    assert found["first"].error.startswith("its process died 6 times (WorkerCrashedError): see ")
    assert found["second"].error == "it needs first, which failed"
    assert [(found[name].error, found[name].seconds) for name in "abc"] == [("", 2.0)] * 3


def test_a_cluster_without_room_is_a_sentence(
    cluster: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="has CPU=1 GPU=1 for a cell: set bench"):
        RayEngine(Share(1, 1), None, {}, tmp_path, print)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("somewhere", "give auto, or host:port"),
        ("host:port", "give auto, or host:port"),
        ("127.0.0.1:1", "nobody answers there"),
        ("127.0.0.1:99999", "nobody answers there"),
    ],
)
def test_an_address_of_no_cluster_is_a_sentence(address: str, words: str) -> None:
    with pytest.raises(FedRSCLIPError, match=words) as caught, connected(address):
        raise AssertionError
    assert str(caught.value).startswith(f"bench.address is {address}: ")
    assert "\n" not in str(caught.value)


def test_the_cluster_of_this_machine_is_found_where_ray_start_left_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        pytest.raises(RunError, match="no Ray cluster was started on this machine"),
        connected("auto"),
    ):
        raise AssertionError
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    with pytest.raises(RunError, match=r"127\.0\.0\.1:1: nobody answers there"), connected("auto"):
        raise AssertionError
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    with pytest.raises(RunError, match=r"127\.0\.0\.1:2: nobody answers there"), connected("auto"):
        raise AssertionError


def test_what_is_no_cluster_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("Version mismatch:\n    Ray: 1 and 2")

    monkeypatch.setattr(ray_engine, "_check_reached", lambda _: None)
    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(RunError, match=r"\(Version mismatch: Ray: 1 and 2\)"), connected("a:1"):
        raise AssertionError
