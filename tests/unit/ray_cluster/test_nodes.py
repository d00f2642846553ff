"""How often a node has room for something, and who comes and goes."""

import sys

import pytest

from fedrsclip.ray_cluster.nodes import Nodes, Share
from tests.unit.ray_cluster.fake_ray import FakeRay, node

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("share", "times"),
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
def test_cpus_and_gpus_bound_what_a_node_has_room_for(share: Share, times: int) -> None:
    assert share.fits(node("a", CPU=8.0, GPU=2.0)) == times


def test_nodes_that_come_and_go_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = [node("a", CPU=2.0), node("b", CPU=4.0), node("head")]
    monkeypatch.setitem(sys.modules, "ray", FakeRay(cluster))
    nodes = Nodes(Share(2, 0))
    assert (nodes.room, nodes.names) == (3, "a (192.0.2.1), b (192.0.2.1)")

    def changes() -> list[str]:
        return list(nodes.changes("others take over", "nobody is left"))

    assert not changes()
    cluster[0]["Alive"] = False
    assert changes() == ["the node a (192.0.2.1) is gone: others take over"]
    cluster[1]["Alive"] = False
    assert changes() == ["the node b (192.0.2.1) is gone: nobody is left"]
    cluster.append(node("c", CPU=2.0))
    assert changes() == ["the node c (192.0.2.1) has joined"]
