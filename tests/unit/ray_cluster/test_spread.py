"""What is handed to the program that Flower starts for a simulation on a cluster."""

import os
import shutil
import subprocess
import sys
import types
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest

from fedrsclip.flower_internals import simulated_run
from fedrsclip.ray_cluster import spread as spreads
from fedrsclip.ray_cluster.nodes import Share
from fedrsclip.ray_cluster.spread import PROGRAM, Said, Spread, find_spread, read_spread, say
from fedrsclip_core.config.schema import FederationConfig
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths
from server_app.app import exchange_of
from tests.unit.ray_cluster.fake_ray import ADDRESS, FakeRay, node

pytestmark = pytest.mark.unit
SPREAD = Spread(ADDRESS, "a (192.0.2.1)", Share(1, 0.25), 40, {"FEDRSCLIP_HOME": "/h"})


def test_flowers_program_of_that_name_is_ours_with_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "arguments"
    monkeypatch.setattr(spreads.sys, "executable", str(tmp_path / "a python"))
    (tmp_path / "a python").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{said}"\n')
    (tmp_path / "a python").chmod(0o755)
    environment = SPREAD.write(tmp_path)
    subprocess.run([PROGRAM, "--token", "a b"], env=os.environ | environment, check=True)
    module, name, file, *given = said.read_text().splitlines()
    assert (module, name, given) == ("-m", "fedrsclip.ray_cluster", ["--token", "a b"])
    assert read_spread(Path(file)) == SPREAD


def test_flowers_other_programs_are_found_as_before(tmp_path: Path) -> None:
    path = SPREAD.write(tmp_path)["PATH"]
    other = shutil.which("flower-superexec", path=path)
    assert other is not None and Path(other).parent == Path(sys.executable).parent


def test_lines_that_are_left_are_read_once(tmp_path: Path) -> None:
    said = Said(tmp_path)
    assert not list(said)
    say(tmp_path / "spread.json", "the first")
    assert list(said) == ["the first"]
    say(tmp_path / "spread.json", "the second")
    assert list(said) == ["the second"] and not list(said)


def test_the_server_keeps_the_processes_of_all_machines_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server_app.app.machine.available_cpus", lambda: 2)
    grid = cast(Any, types.SimpleNamespace(run=simulated_run(7)))
    assert exchange_of(grid)._at_once == 16
    for name, value in SPREAD.write(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert exchange_of(grid)._at_once == 80


def test_clients_compute_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    paths.home().mkdir()

    class Answers(FakeRay):
        """Its nodes have what they are asked for."""

        def remote(self, function: Any = None, **options: Any) -> Any:
            def asked(*question: Any) -> str:
                questions.append(question)
                return ""

            task = types.SimpleNamespace(options=lambda **_: task, remote=asked)
            return task

        def get(self, answer: Any, **_: Any) -> Any:
            return answer

    questions: list[Any] = []
    monkeypatch.setitem(sys.modules, "ray", Answers([node("a", CPU=2.0), node("b", CPU=5.0)]))
    monkeypatch.setattr(spreads, "connected", lambda *_: nullcontext())
    federation = FederationConfig(num_clients=9, client_cpus=2, ray_address="auto")
    found = find_spread(federation, "{}", {"A": "b"})
    assert (found.at_once, found.share, found.environment) == (3, Share(2, 0.0), {"A": "b"})
    assert str(found) == (
        "Ray at 192.0.2.1:6379: 3 clients compute at a time (a (192.0.2.1), b (192.0.2.1))"
    )
    assert [configurations for _, configurations in questions] == [["{}"], ["{}"]]
    federation.num_clients = 2
    assert find_spread(federation, "{}", {}).at_once == 2
    federation.client_gpus = 0.5
    with pytest.raises(ConfigError, match=r"has CPU=2 GPU=0\.5 for a client: set federation"):
        find_spread(federation, "{}", {})
