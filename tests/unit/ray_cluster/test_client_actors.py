"""Without a cluster: how many client processes it has room for, and how one dies."""

import sys
import threading
import time
import types
from contextlib import nullcontext
from typing import Any

import pytest
import ray.exceptions

from fedrsclip.ray_cluster import client_actors
from fedrsclip.ray_cluster.client_actors import ClientActor, Room, joined
from fedrsclip.ray_cluster.nodes import Nodes, Share
from fedrsclip_core.config.schema import FederationConfig
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths
from tests.unit.ray_cluster.fake_ray import FakeRay, node

pytestmark = pytest.mark.unit


class Actors(FakeRay):
    """Starts actors whose replies are given."""

    def __init__(self, *replies: object) -> None:
        super().__init__([node("a", CPU=2.0), node("b", CPU=5.0), node("head")])
        self._replies = iter(replies)
        self.killed: list[Any] = []
        self.asked: list[tuple[Any, ...]] = []

    def remote(self, **options: Any) -> Any:
        self.options = options

        def ask(*question: Any) -> object:
            self.asked.append(question)
            return next(self._replies)

        method = types.SimpleNamespace(remote=ask)
        actor = types.SimpleNamespace(__ray_ready__=method, answer=method)
        return lambda _: types.SimpleNamespace(remote=lambda run_id: actor)

    def get(self, answer: Any, timeout: float = 0.0) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(self, running: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        late = isinstance(running[0], ray.exceptions.GetTimeoutError)
        return ([], running) if late else (running, [])

    def kill(self, actor: Any) -> None:
        """Note who is ended."""
        self.killed.append(actor)


def use(monkeypatch: pytest.MonkeyPatch, *replies: object) -> Actors:
    fake = Actors(*replies)
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def test_a_process_gets_its_share_and_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use(monkeypatch, None, b"reply")
    actor = ClientActor(Share(2, 0.5), {"FEDRSCLIP_HOME": "/home"}, 1, Room())
    assert actor.answer(b"message", {"partition-id": 3}) == b"reply"
    assert fake.asked[-1] == (b"message", {"partition-id": 3})
    assert fake.options == {
        "num_cpus": 2,
        "num_gpus": 0.5,
        "scheduling_strategy": "SPREAD",
        "runtime_env": {"env_vars": {"FEDRSCLIP_HOME": "/home"}},
    }


def test_a_process_that_dies_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, None, ray.exceptions.ActorDiedError())
    actor = ClientActor(Share(1, 0), {}, 1, Room())
    with pytest.raises(OSError, match="ActorDiedError"):
        actor.answer(b"", {})
    assert actor.buried() == (
        "a client process on the Ray cluster died, or its node (ActorDiedError)"
    )


def test_a_process_without_room_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = use(monkeypatch, ray.exceptions.GetTimeoutError())
    monkeypatch.setattr(client_actors, "_ROOM_WITHIN", 0.0)
    with pytest.raises(OSError, match="has had room for it for 0 s"):
        ClientActor(Share(1, 0), {}, 1, Room())
    assert len(fake.killed) == 1


def test_clients_compute_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    use(monkeypatch)
    monkeypatch.setattr(client_actors, "connected", lambda *_: nullcontext())
    monkeypatch.setattr(Nodes, "check", lambda _, *question: asked.append(question))
    paths.home().mkdir()
    federation = FederationConfig(num_clients=9, client_cpus=2, ray_address="auto")
    with joined(federation, "{}", {"A": "b"}, 1) as cluster:
        assert len(cluster.starts) == 3
    assert cluster.words == (
        "Ray at 192.0.2.1:6379: 3 clients compute at a time (a (192.0.2.1), b (192.0.2.1))"
    )
    ((what, _, configurations, environment),) = asked
    assert (what, configurations, environment) == ("simulate clients", ["{}"], {"A": "b"})
    federation.num_clients = 2
    with joined(federation, "{}", {}, 1) as cluster:
        assert len(cluster.starts) == 2
    federation.client_gpus = 0.5
    with (
        pytest.raises(ConfigError, match=r"has CPU=2 GPU=0\.5 for a client: set federation"),
        joined(federation, "{}", {}, 1),
    ):
        raise AssertionError


def test_a_process_lives_as_long_as_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, None, None, ray.exceptions.ActorDiedError())
    actor = ClientActor(Share(1, 0), {}, 1, Room())
    assert actor.alive()
    assert not actor.alive()


def test_nobody_waits_for_room_once_a_run_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use(monkeypatch, ray.exceptions.GetTimeoutError())
    monkeypatch.setattr(fake, "wait", lambda refs, timeout: time.sleep(0.01) or ([], refs))
    room, failed = Room(), list[OSError]()

    def start() -> None:
        with pytest.raises(OSError) as found:
            ClientActor(Share(1, 0), {}, 1, room)
        failed.append(found.value)

    waiting = threading.Thread(target=start)
    waiting.start()
    room.close()
    waiting.join(20)
    assert not waiting.is_alive()
    assert len(failed) == len(fake.killed) == 1
