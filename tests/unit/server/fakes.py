"""Client apps that follow a script instead of training."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType

from fedrsclip.simulation.in_process import InProcessGrid
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import SharedTensors, shared_shapes
from fedrsclip_core.runs.fileio import sha256_of
from fedrsclip_core.wire import digests
from fedrsclip_core.wire.messages import (
    EVALUATE,
    LOSS_TERMS,
    QUERY_IDENTITY,
    QUERY_INIT,
    QUERY_PREPARE,
    TRAIN,
    Identity,
    RoundReply,
    RoundRequest,
)
from fedrsclip_core.wire.records import (
    pack_identity,
    pack_init,
    pack_round_reply,
    unpack_query,
    unpack_round_request,
)
from server_app.exchange import Exchange

WIDTH, DIM = 8, 6


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    def exchange(self, grid: Grid) -> Exchange:
        """Send and receive by this clock."""
        return Exchange(grid, clock=self, sleep=self.sleep)


Handler = Callable[[int, Message, RecordDict], RecordDict]
"""(partition, request, the honest answer) -> the answer to send."""


def small_config(**federation: object) -> Config:
    """Return a configuration for three fast clients with a shared prompt from random."""
    config = Config()
    config.prompt.shared_init = "random"
    config.data.class_names = ["forest", "harbor", "river"]
    config.run.name = "test-run"
    settings = {"num_rounds": 2, "num_clients": 3, "connect_timeout": 1.0, "round_timeout": 0.3}
    for name, value in (settings | federation).items():
        setattr(config.federation, name, value)
    return config


def identity(partition: int, config: Config) -> Identity:
    return Identity(
        client_name=f"client-{partition}",
        partition_id=partition,
        num_partitions=config.federation.num_clients,
        digests={
            "code": digests.code_digest(),
            "config": digests.config_digest(config),
            **{part: sha256_of(part) for part in ("clip", "classes", "split")},
        },
        n_ctx=config.prompt.n_ctx,
        width=WIDTH,
        dim=DIM,
        num_classes=3,
        num_train=10 * (partition + 1),
        num_val=5,
        num_test=10,
        label_counts=(4 + partition, 3 * partition, 6 + 6 * partition),
    )


def trained(partition: int, request: RoundRequest) -> SharedTensors:
    """What an honest fake client sends back: what it received plus its partition + 1."""
    return {name: array + np.float32(partition + 1) for name, array in request.shared.items()}


@dataclass
class Fakes:
    """A federation of scripted clients.

    ``seen`` logs (message type, partition, round, mu), ``sent`` how many messages went out at once.
    """

    config: Config
    num_clients: int = 3
    scripts: Mapping[tuple[str, int], Handler] = field(default_factory=dict)
    identities: dict[int, Mapping[str, object]] = field(default_factory=dict)
    silent: set[tuple[str, int]] = field(default_factory=set)
    node_offset: int = 0
    seen: list[tuple[str, int, int, float]] = field(default_factory=list)
    finals: list[bool] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def grid(self, *, deployed: bool = False) -> InProcessGrid:
        order = [(p + self.node_offset) % self.num_clients for p in range(self.num_clients)]
        nodes = [{"partition-id": p, "num-partitions": self.num_clients} for p in order]
        grid = _Grid(self, nodes)
        if deployed:
            grid.run.primary_task_type = TaskType.SERVER_APP
        return grid

    def app(self) -> ClientApp:
        app = ClientApp()

        @app.query("identity")
        def query_identity(message: Message, context: Context) -> Message:
            return self._reply(QUERY_IDENTITY, message, context, self._identity)

        @app.query("prepare")
        def query_prepare(message: Message, context: Context) -> Message:
            return self._reply(QUERY_PREPARE, message, context, self._identity)

        @app.query("init")
        def query_init(message: Message, context: Context) -> Message:
            return self._reply(QUERY_INIT, message, context, self._init)

        @app.train()
        def train(message: Message, context: Context) -> Message:
            return self._reply(TRAIN, message, context, self._train)

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            return self._reply(EVALUATE, message, context, self._evaluate)

        return app

    def _reply(
        self,
        kind: str,
        message: Message,
        context: Context,
        honest: Callable[[int, RecordDict], RecordDict],
    ) -> Message:
        partition = int(context.node_config["partition-id"])
        answer = honest(partition, message.content)
        script = self.scripts.get((kind, partition))
        if script is not None:
            answer = script(partition, message, answer)
        return Message(answer, reply_to=message)

    def _identity(self, partition: int, content: RecordDict) -> RecordDict:
        unpack_query(content)
        changes = self.identities.get(partition, {})
        return pack_identity(replace(identity(partition, self.config), **changes))  # type: ignore[arg-type]

    def _init(self, partition: int, content: RecordDict) -> RecordDict:
        return pack_init(np.full((self.config.prompt.n_ctx, WIDTH), 0.5, dtype=np.float32))

    def _train(self, partition: int, content: RecordDict) -> RecordDict:
        request = self._request(TRAIN, partition, content)
        reply = replace(
            self._counts(partition, request),
            num_steps=1,
            shared=trained(partition, request),
            losses=dict.fromkeys(LOSS_TERMS, 1.0 + partition),
        )
        return pack_round_reply(reply, with_arrays=bool(request.shared), offsets_dtype=self._dtype)

    def _evaluate(self, partition: int, content: RecordDict) -> RecordDict:
        request = self._request(EVALUATE, partition, content)
        self.finals.append(request.final)
        return pack_round_reply(self._counts(partition, request), with_arrays=False)

    @property
    def _dtype(self) -> str:
        return self.config.prompt.shared_offsets_dtype

    def _request(self, kind: str, partition: int, content: RecordDict) -> RoundRequest:
        shapes = shared_shapes(self.config.prompt, n_cls=3, width=WIDTH, dim=DIM)
        request = unpack_round_request(content, shapes, self._dtype)
        self.seen.append((kind, partition, request.server_round, request.proximal_mu))
        return request

    def _counts(self, partition: int, request: RoundRequest) -> RoundReply:
        correct = {(part, "personalized"): 1 + partition for part in ("val", "test")}
        if request.shared:
            correct |= {(part, "global"): 2 for part in ("val", "test")}
        if request.server_round == 0:
            correct |= {(part, "zero-shot"): 1 for part in ("val", "test")}
        correct |= {(part, "personalized-own"): min(5, 3 + partition) for part in ("val", "test")}
        return RoundReply(
            num_examples=10 * (partition + 1),
            seconds=0.1,
            correct=correct,
            total={"val": 5, "test": 10},
        )


class _Grid(InProcessGrid):
    def __init__(self, fakes: Fakes, nodes: list[dict[str, int]]) -> None:
        super().__init__(fakes.app(), nodes)  # type: ignore[arg-type]
        self._fakes = fakes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        self._fakes.sent.append(len(messages))
        return super().push_messages(messages)

    def answer(self, message: Message) -> Message | None:
        partition = int(self.contexts[message.metadata.dst_node_id].node_config["partition-id"])
        if (message.metadata.message_type, partition) in self._fakes.silent:
            return None
        return super().answer(message)
