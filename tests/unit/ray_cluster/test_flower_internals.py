"""What a simulation on a cluster assumes of Flower; a failure here is work for its adapter."""

import inspect
import sys
import threading
import types
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import pytest
import ray.exceptions
from flwr.app import Context, Message, RecordDict
from flwr.server.superlink.fleet.vce import vce_api
from flwr.server.superlink.fleet.vce.backend import raybackend
from flwr.server.superlink.fleet.vce.backend.backend import Backend
from flwr.simulation.ray_transport.ray_actor import VirtualClientEngineActor
from flwr.supercore.constant import TASK_TYPE_TO_COMMAND, TaskType
from flwr.supercore.run import Run

from fedrsclip.flower_internals import become_server
from fedrsclip.ray_cluster import flower_internals
from fedrsclip.ray_cluster.crew import NobodyLeftError
from fedrsclip.ray_cluster.flower_internals import ClusterBackend, installed, main
from fedrsclip.ray_cluster.nodes import Share
from fedrsclip.ray_cluster.spread import PROGRAM, Spread
from server_app.exchange import CRASHED, failure_reason

pytestmark = [pytest.mark.unit, pytest.mark.flower]
SPREAD = Spread("192.0.2.1:6379", "a", Share(1, 0.0), 2, {"A": "b"})


def test_the_superlink_starts_the_program_that_stands_in_for_flowers() -> None:
    assert TASK_TYPE_TO_COMMAND[TaskType.SIMULATION] == PROGRAM
    assert len(metadata.entry_points(group="console_scripts", name=PROGRAM)) == 1


def test_flower_takes_the_backend_that_stands_in_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its program does, with the configuration that the launcher's settings give."""

    class AskedError(Exception):
        """The backend has been made."""

    def made(config: Any, spread: Spread, echo: Callable[[str], None]) -> None:
        raise AskedError(config, spread)

    def started() -> None:
        vce_api.start_vce(
            "ray",
            '{"init_args": {"log_to_driver": true}}',
            app_dir=str(tmp_path),
            is_app=False,
            f_stop=threading.Event(),
            run=Run.create_empty(7),
            metrics=cast(Any, None),
            client_app=installed(),
            num_supernodes=1,
        )

    SPREAD.write(tmp_path)
    monkeypatch.setattr(raybackend, "RayBackend", raybackend.RayBackend)
    monkeypatch.setattr(flower_internals, "ClusterBackend", made)
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path / "spread.json"), "--token", "t"])
    program = types.SimpleNamespace(load=lambda: started)
    monkeypatch.setattr(flower_internals.metadata, "entry_points", lambda **_: [program])
    with pytest.raises(RuntimeError) as caught:
        main()
    cause = caught.value.__cause__
    assert isinstance(cause, AskedError) and cause.args[1] == SPREAD
    assert sys.argv == [PROGRAM, "--token", "t"]


def test_the_backend_has_all_that_flower_asks_for() -> None:
    assert not inspect.isabstract(ClusterBackend) and issubclass(ClusterBackend, Backend)
    taken = list(inspect.signature(VirtualClientEngineActor.run).parameters)
    assert taken[:5] == ["self", "client_app_fn", "message", "cid", "context"]


class Actor:
    """Answers as its script says, the last line again and again."""

    def __init__(self, *script: Exception | str) -> None:
        self._script = list(script)
        self.run = types.SimpleNamespace(remote=self._answer)

    def _answer(self, app: object, message: Message, partition: str, context: Context) -> Any:
        answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        return answer, partition, context


class Actors:
    """Stands for a crew."""

    def __init__(self, *actors: Actor) -> None:
        self.idle, self.died = list(actors), 0

    def take(self) -> Actor:
        if not self.idle:
            raise NobodyLeftError("nobody")
        return self.idle.pop(0)

    def give_back(self, one: Actor) -> None:
        self.idle.append(one)

    def replace(self, one: Actor) -> None:
        self.died += 1


def backend_of(crew: Actors, monkeypatch: pytest.MonkeyPatch) -> ClusterBackend:
    def get(answer: Any) -> Any:
        found, partition, context = answer
        if isinstance(found, Exception):
            raise found
        return partition, found, context

    given: dict[str, Any] = {}
    monkeypatch.setattr("ray.init", lambda **arguments: given.update(arguments))
    monkeypatch.setattr("ray.nodes", list)
    monkeypatch.setattr("ray.get", get)
    backend = ClusterBackend({"init_args": {"log_to_driver": True}}, SPREAD, print)
    assert given == {
        "address": SPREAD.address,
        "runtime_env": {"env_vars": {"A": "b"}},
        "log_to_driver": True,
    }
    backend._crew = cast(Any, crew)
    return backend


def asked(backend: ClusterBackend) -> Any:
    become_server(7)
    node_config: Any = {"partition-id": 3}
    context = Context(7, 1000, node_config, RecordDict(), {})
    return backend.process_message(Message(RecordDict(), 1000, "train"), context)[0]


DEAD = ray.exceptions.ActorDiedError()


def test_a_message_whose_process_dies_is_computed_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crew = Actors(Actor(DEAD), Actor(DEAD), Actor("reply"))
    assert asked(backend_of(crew, monkeypatch)) == "reply"
    assert (crew.died, len(crew.idle)) == (2, 1)


def test_a_message_that_kills_each_process_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Actors(*[Actor(DEAD) for _ in range(20)])
    with pytest.raises(ray.exceptions.ActorDiedError):
        asked(backend_of(crew, monkeypatch))
    assert crew.died == 6


def test_what_a_client_raises_is_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = ray.exceptions.RayTaskError("run", "traceback", ValueError("late"))
    crew = Actors(Actor(raised))
    with pytest.raises(ray.exceptions.RayTaskError):
        asked(backend_of(crew, monkeypatch))
    assert (crew.died, len(crew.idle)) == (0, 1)


def test_of_nobody_left_the_server_hears_that_the_client_crashed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ray.exceptions.ActorDiedError) as caught:
        asked(backend_of(Actors(), monkeypatch))
    told = f"{type(caught.value)}:<'{caught.value}'>"  # as Flower puts it into its reply
    assert failure_reason(types.SimpleNamespace(code=0, reason=told)) == CRASHED  # type: ignore[arg-type]
