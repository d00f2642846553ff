"""``bench.engine=ray`` on a cluster of two nodes, one of which is killed; and a grid in parts."""

import pytest
from ray.cluster_utils import Cluster

from tests.integration.launched import Launch
from tests.integration.test_bench import learned, rows, wait_until

pytestmark = pytest.mark.integration

GRID = ["bench=demo", "bench.settings=[uniform]", "bench.methods=[promptfl]", "bench.seeds=[0,1]"]
GRID += ["bench.reference=null", "bench.baselines=[]"]
LONG = ["federation.num_clients=2", "federation.num_rounds=60", "data.images_per_class=10"]


def test_the_cells_of_a_killed_node_go_on_elsewhere_with_equal_bits(
    launch: Launch, cluster: Cluster
) -> None:
    on_ray = launch("ray", "bench", *GRID, *LONG, "bench.engine=ray")
    cells = [on_ray.home / f"runs/bench-demo-uniform-promptfl-seed{seed}" for seed in (0, 1)]
    wait_until(lambda: all(any(cell.glob("checkpoint/round-*")) for cell in cells))
    assert not any((cell / "results.json").exists() for cell in cells)
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    assert on_ray.wait() == 0, on_ray.output
    assert "room for 2 cells at a time" in on_ray.output
    assert "Traceback" not in on_ray.output
    logs = "".join(log.read_text() for log in on_ray.home.glob("bench/demo/worker-*.log"))
    assert logs.count("is resumed after round") == 1

    local = launch("local", "bench", *GRID, *LONG)
    assert local.wait() == 0, local.output
    for cell in cells:
        assert learned(cell) == learned(local.home / "runs" / cell.name)
    assert [row["seed"] for row in rows(on_ray.home) if row["code_digest"]] == ["0", "1"]
