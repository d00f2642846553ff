"""A Ray cluster of this machine: nodes with one CPU each, that others do not find."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from ray.cluster_utils import Cluster

T = TypeVar("T")
ONE_CPU = {"num_cpus": 1, "include_dashboard": False}
_TRIES = 3


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Begin with one node, which ``auto`` names for commands of this test."""
    folder = tempfile.mkdtemp(prefix="ray-")  # pytest's own is too long for a socket
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    made = _started(lambda: Cluster(initialize_head=True, head_node_args=ONE_CPU))
    yield made
    made.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(head: Cluster) -> Cluster:
    """Have two nodes."""
    _started(lambda: head.add_node(**ONE_CPU))
    return head


def _started(start: Callable[[], T]) -> T:
    """Start a node; where a busy machine takes longer than Ray waits, once more."""
    for _ in range(_TRIES - 1):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()
