"""What a simulation on a Ray cluster takes from inside Flower: another Flower is this file's work.

Flower's own backend starts a Ray of its own, or joins a cluster without handing on this site's
environment; its clients import what was submitted from a folder of this machine; and when a
machine dies, it gives message after message to the processes that died with it, so that a round
loses clients whom others could have computed. Flower has a class for backends and no option for
another one. Each thing assumed here has a test in ``tests/unit/ray_cluster``.

``python -m fedrsclip.ray_cluster FILE ...`` is Flower's ``flwr-simulation`` with the backend below
and what :class:`~fedrsclip.ray_cluster.spread.Spread` wrote into the file.
"""

import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import PARTITION_ID_KEY
from flwr.server.superlink.fleet.vce.backend import backend as backends
from flwr.server.superlink.fleet.vce.backend import raybackend
from flwr.simulation.ray_transport.ray_actor import ClientAppActor

from fedrsclip.ray_cluster.crew import Crew, NobodyLeftError
from fedrsclip.ray_cluster.nodes import Nodes
from fedrsclip.ray_cluster.spread import PROGRAM, Spread, read_spread, say

_TRIES = 6
"""How often a message is computed whose process dies: it may be what kills it."""
_PATIENCE = 120.0
_LOOK_EVERY = 5.0
_OTHERS = "its clients compute elsewhere"
_NONE_LEFT = "no node has room for a client now, until one joins"


class ClusterBackend(backends.Backend):
    """Client processes all over a Ray cluster, each with the ClientApp installed at its node.

    A message whose process or node dies is given to another: what a client learns in a round
    depends on the message and on what it has stored, not on who computes.

    Parameters
    ----------
    config : dict
        Flower's.
    spread : Spread
        Where clients compute.
    echo : Callable[[str], None]
        Receives lines for a person.
    """

    def __init__(
        self, config: backends.BackendConfig, spread: Spread, echo: Callable[[str], None]
    ) -> None:
        init_args: dict[str, Any] = dict(config["init_args"])
        ray.init(address=spread.address, runtime_env={"env_vars": spread.environment}, **init_args)
        self._spread, self._echo = spread, echo
        self._nodes, self._looked = Nodes(spread.share), time.monotonic()
        self._lock = threading.Lock()
        self._crew: Crew | None = None

    @property
    def num_workers(self) -> int:
        """Messages at a time: Flower has a thread for each."""
        return self._spread.at_once

    def is_worker_idle(self) -> bool:
        """Flower does not ask."""
        raise NotImplementedError

    def build(self, app_fn: Callable[[], ClientApp]) -> None:
        """Start the processes, and wait for the first.

        Raises
        ------
        NobodyLeftError
            If none can be started.
        """
        del app_fn  # of what was submitted, which lies on this machine only
        share, actor = self._spread.share, cast(Any, ClientAppActor)
        started = actor.options(
            num_cpus=share.cpus, num_gpus=share.gpus, scheduling_strategy="SPREAD"
        )
        self._crew = Crew(started.remote, self.num_workers, _PATIENCE)
        try:
            self._crew.give_back(self._crew.take())
        except NobodyLeftError as error:
            self._echo(str(error))  # Flower hides it behind a general sentence
            raise

    def process_message(self, message: Message, context: Context) -> tuple[Message, Context]:
        """Let a process answer a message; raises what the ClientApp raises."""
        partition, lost = str(context.node_config[PARTITION_ID_KEY]), 0
        while True:
            crew, one = self._one()
            try:
                _, reply, context = ray.get(one.run.remote(installed, message, partition, context))
            except ray.exceptions.RayTaskError:
                crew.give_back(one)
                raise
            except ray.exceptions.RayError:
                crew.replace(one)
                lost += 1
                if lost == _TRIES:
                    raise
            else:
                crew.give_back(one)
                return reply, context

    def terminate(self) -> None:
        """End all processes."""
        ray.shutdown()

    def _one(self) -> tuple[Crew, Any]:
        assert self._crew is not None
        self._say_who_came_and_went()
        try:
            return self._crew, self._crew.take()
        except NobodyLeftError as error:
            raise ray.exceptions.ActorDiedError from error  # which the server knows

    def _say_who_came_and_went(self) -> None:
        with self._lock:
            if time.monotonic() - self._looked < _LOOK_EVERY:
                return
            for line in self._nodes.changes(_OTHERS, _NONE_LEFT):
                self._echo(line)
            self._looked = time.monotonic()


def installed() -> ClientApp:
    """Return the ClientApp of the node that calls this: its code is that of all, as was checked."""
    from client_app.app import app

    return app


def main() -> None:
    """Be Flower's program for a simulation, on a cluster."""
    file = Path(sys.argv.pop(1))
    sys.argv[0] = PROGRAM
    backend = partial(ClusterBackend, spread=read_spread(file), echo=partial(say, file))
    raybackend.RayBackend = backend  # type: ignore[misc,assignment]
    (program,) = metadata.entry_points(group="console_scripts", name=PROGRAM)
    program.load()()
