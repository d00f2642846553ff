"""Client processes on a Ray cluster, which Ray starts where there is room."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread, current_thread
from typing import Any

from fedrsclip.ray_cluster.at_node import expected_in
from fedrsclip.ray_cluster.connection import AUTO, connected
from fedrsclip.ray_cluster.nodes import Nodes, Share, cluster_address
from fedrsclip.simulation.grid import Handlers, NodeConfig
from fedrsclip_core.config.schema import FederationConfig
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths

_KEY = "federation.ray_address"
_ROOM_WITHIN, _ANSWERS_WITHIN = 120.0, 30.0
_LOOK_EVERY, _LEFT_WITHIN = 0.5, 10.0


class Room:
    """Those who wait until a node has room for a process; nobody does once it is closed."""

    def __init__(self) -> None:
        self._closed, self._waiting = Event(), set[Thread]()

    def wait_for(self, ready: Any) -> bool:
        """Wait until an actor is ready; whether it is."""
        import ray

        self._waiting.add(current_thread())
        try:
            deadline = time.monotonic() + _ROOM_WITHIN
            while not ray.wait([ready], timeout=_LOOK_EVERY)[0]:
                if self._closed.is_set() or time.monotonic() >= deadline:
                    return False
            return True
        finally:
            self._waiting.discard(current_thread())

    def close(self) -> None:
        """Have nobody wait any more: a process that leaves Ray while one asks it is ended by it."""
        self._closed.set()
        for thread in tuple(self._waiting):
            thread.join(_LEFT_WITHIN)


class ClientActor:
    """A process on some node, as an actor of Ray.

    Parameters
    ----------
    share : Share
        What it takes of the node.
    environment : Mapping[str, str]
        Added to its own.
    run_id : int
        Flower's run id.
    room : Room
        Where it is waited for.

    Raises
    ------
    OSError
        If no node has room for it.
    """

    def __init__(
        self, share: Share, environment: Mapping[str, str], run_id: int, room: Room
    ) -> None:
        import ray

        start: Any = ray.remote(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": dict(environment)},
        )(Handlers)
        self._actor = start.remote(run_id)
        ready = self._actor.__ray_ready__.remote()
        if not room.wait_for(ready):
            self.kill()
            raise OSError(
                f"no node of the Ray cluster has had room for it for {_ROOM_WITHIN:.0f} s"
            )
        try:
            ray.get(ready)
        except ray.exceptions.RayError as error:
            raise OSError(_one_line(error)) from None
        self._end = ""

    def answer(self, message: bytes, node_config: NodeConfig) -> bytes:
        """Have a message answered.

        Raises
        ------
        OSError
            If the process or its node has died.
        """
        import ray

        try:
            answer: bytes = ray.get(self._actor.answer.remote(message, dict(node_config)))
            return answer
        except ray.exceptions.RayError as error:
            self._end = type(error).__name__
            raise OSError(self._end) from None

    def alive(self) -> bool:
        """Whether it answers."""
        import ray

        try:
            ray.get(self._actor.__ray_ready__.remote(), timeout=_ANSWERS_WITHIN)
        except ray.exceptions.RayError:
            return False
        return True

    def kill(self) -> None:
        """End it at once."""
        import ray

        ray.kill(self._actor)

    def buried(self) -> str:
        """Say how it ended."""
        return f"a client process on the Ray cluster died, or its node ({self._end})"


@dataclass(frozen=True)
class Cluster:
    """Where the clients of a simulation compute.

    Attributes
    ----------
    starts : Sequence[Callable[[], ClientActor]]
        For each process a function that starts it.
    words : str
        In a line.
    """

    starts: Sequence[Callable[[], ClientActor]]
    words: str


@contextmanager
def joined(
    federation: FederationConfig, configuration: str, environment: Mapping[str, str], run_id: int
) -> Iterator[Cluster]:
    """Join ``federation.ray_address`` and ask each node; what was started there ends afterwards.

    Parameters
    ----------
    federation : FederationConfig
        The clients.
    configuration : str
        The run's, resolved.
    environment : Mapping[str, str]
        By which clients learn where images, CLIP and home are.
    run_id : int
        Flower's run id.

    Raises
    ------
    ConfigError, RunError
        If there is no cluster or no room, or a node lacks something.
    """
    share = Share(federation.client_cpus, federation.client_gpus)
    with connected(federation.ray_address or AUTO, _KEY):
        address, nodes = cluster_address(), Nodes(share)
        if not nodes.room:
            raise ConfigError(
                f"no node of the Ray cluster at {address} has {share} for a client: set "
                "federation.client_cpus and federation.client_gpus to what its nodes have"
            )
        with expected_in(paths.home()) as expected:
            nodes.check("simulate clients", expected, [configuration], environment)
        count = min(nodes.room, federation.num_clients)
        room = Room()
        start = partial(ClientActor, share, environment, run_id, room)
        at_once = "1 client computes" if count == 1 else f"{count} clients compute"
        try:
            yield Cluster([start] * count, f"Ray at {address}: {at_once} at a time ({nodes.names})")
        finally:
            room.close()


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
