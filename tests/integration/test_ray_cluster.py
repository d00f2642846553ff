"""``federation.ray_address``: a simulation's clients on several nodes, which may lack something."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from fedrsclip.ray_cluster.connection import connected
from fedrsclip.ray_cluster.nodes import Nodes, Share
from tests.integration.launched import Launch
from tests.integration.ray_nodes import ONE_CPU
from tests.integration.test_bench import learned, wait_until
from tests.integration.test_simulation import prompts

pytestmark = [pytest.mark.integration, pytest.mark.flower]

ROOT = Path(__file__).resolve().parents[2]
RUN = ["run.name=same", "federation.num_clients=3", "data.images_per_class=10"]
ON_RAY = "federation.ray_address=auto"
ROUNDS = 40


def refused(home: Path, output: str) -> str:
    """Return the one sentence of a run that has not begun."""
    assert "Traceback" not in output and not list(home.glob("runs/*/rounds.jsonl"))
    (line,) = [line for line in output.splitlines() if "cannot simulate clients" in line]
    return line


@pytest.mark.slow
def test_the_clients_of_a_killed_node_compute_elsewhere_with_equal_bits(
    launch: Launch, cluster: Cluster
) -> None:
    rounds = f"federation.num_rounds={ROUNDS}"
    on_ray = launch("ray", "run", *RUN, rounds, ON_RAY)
    run = on_ray.home / "runs" / "same"
    wait_until(lambda: any(run.glob("checkpoint/round-*")))
    assert not (run / "results.json").exists()
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    assert on_ray.wait() == 0, on_ray.output
    assert "2 clients compute at a time" in on_ray.output
    assert on_ray.output.count("| 3/3 clients |") == ROUNDS, on_ray.output
    assert not on_ray.left_behind()

    local = launch("local", "run", *RUN, rounds)
    assert local.wait() == 0, local.output
    assert learned(run) == learned(local.home / "runs" / "same")
    assert prompts(on_ray.home) == prompts(local.home)


@pytest.mark.slow
def test_a_run_whose_cluster_dies_is_resumed_on_this_machine_with_equal_bits(
    launch: Launch, head: Cluster
) -> None:
    rounds = f"federation.num_rounds={ROUNDS}"
    on_ray = launch("ray", "run", *RUN, rounds, ON_RAY)
    run = on_ray.home / "runs" / "same"
    wait_until(lambda: any(run.glob("checkpoint/round-*")))
    head.remove_node(head.head_node, allow_graceful=False)
    assert on_ray.wait() == 1, on_ray.output
    assert "Traceback" not in on_ray.output
    assert "nobody has answered at " in on_ray.output
    assert not on_ray.left_behind()

    resumed = launch("ray", "run", "resume=same")
    assert resumed.wait() == 0, resumed.output
    local = launch("local", "run", *RUN, rounds)
    assert local.wait() == 0, local.output
    assert learned(run) == learned(local.home / "runs" / "same")
    assert prompts(resumed.home) == prompts(local.home)


def test_a_node_with_other_code_is_named_before_anything_starts(
    launch: Launch, head: Cluster, tmp_path: Path
) -> None:
    for package in ("fedrsclip", "fedrsclip_core", "server_app", "client_app"):
        shutil.copytree(ROOT / package, tmp_path / "other" / package)
    with (tmp_path / "other/fedrsclip_core/__init__.py").open("a") as changed:
        changed.write("\n")
    head.add_node(**ONE_CPU, env_vars={"PYTHONPATH": str(tmp_path / "other")})
    one = launch("ray", "run", *RUN, ON_RAY)
    assert one.wait() == 1, one.output
    assert "another version of this code" in refused(one.home, one.output)
    checked = launch("check", "check", *RUN, ON_RAY)
    assert checked.wait() == 1
    assert "problem  resources: the node " in checked.output


@pytest.fixture
def elsewhere(head: Cluster, tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Start a node to which a folder is another one."""
    started: list[subprocess.Popen[bytes]] = []
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("a mount namespace needs root")

    def start(folder: Path) -> None:
        folder.mkdir(parents=True)
        # An environment with another Flower has no `ray` of its own.
        ray = f"{sys.executable} -m ray.scripts.scripts"
        node = f"{ray} start --address={head.address} --num-cpus=1 --block"
        command = f"mount -t tmpfs none '{folder}' && exec {node}"
        with (tmp_path / "node").open("wb") as output:
            started.append(
                subprocess.Popen(
                    ["unshare", "-m", "sh", "-c", command], stdout=output, stderr=output
                )
            )

    yield start
    for process in started:
        process.terminate()
        process.wait(timeout=60)


def test_a_node_that_does_not_share_the_home_is_named_before_anything_starts(
    launch: Launch, head: Cluster, elsewhere: Callable[[Path], None], tmp_path: Path
) -> None:
    home = tmp_path / "ray" / "home"
    elsewhere(home)
    with connected(head.address, "here"):
        wait_until(lambda: Nodes(Share(1, 0)).room == 2)
    one = launch("ray", "run", *RUN, ON_RAY)
    assert one.wait() == 1, one.output
    assert f"it does not see {home}/" in refused(home, one.output)
