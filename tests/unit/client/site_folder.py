"""One client's machine in a temporary folder: images, a tiny CLIP and a way to ask it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, Metadata, RecordDict

from client_app.app import app
from client_app.private_format import PrivateFormat
from client_app.private_store import PrivateStore
from client_app.runtime import Runtime, open_runtime
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.resolved import to_json
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT, SharedTensors
from fedrsclip_core.learning.prompts import ClientState, random_prompt
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.digests import code_digest
from fedrsclip_core.wire.messages import RoundRequest
from fedrsclip_core.wire.records import pack_query, pack_round_request

CLASSES = ("forest", "harbor", "river")
WIDTH, N_CTX, SHAPE = 32, 4, (4, 32)
SHAPES = {SHARED_PROMPT: SHAPE}
RUN = "run-7"
OVERRIDES = (
    "method=fedrsclip",
    "data=folder",
    "partition=uniform",
    "federation.num_clients=2",
    "federation.num_rounds=4",
    "data.val_fraction=0.2",
    "data.test_fraction=0.2",
    "optimizer.batch_size=8",
)


def make_images(folder: Path, per_class: int = 10, *, prefix: str = "scene") -> Path:
    """Write small PNG files, each class with its own tint and each image with its own noise."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for index, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = generator.integers(0, 90, (32, 32, 3), dtype=np.uint8)
            pixels[..., index] += 120
            Image.fromarray(pixels).save(folder / name / f"{prefix}-{number:02d}.png")
    return folder


@cache
def resolved(overrides: tuple[str, ...]) -> str:
    """Compose once for all messages of a client."""
    return to_json(compose([*OVERRIDES, *overrides]))


def shared_prompt(seed: int = 0) -> SharedTensors:
    return {SHARED_PROMPT: random_prompt(N_CTX, WIDTH, 0.02, "shared", seed)}


@dataclass
class Client:
    """A client app with one node's configuration."""

    data: Path | None
    clip: Path | None
    overrides: tuple[str, ...] = ()
    node: Mapping[str, Any] = field(default_factory=dict)
    given: str = ""

    @property
    def configuration(self) -> str:
        return self.given or resolved(tuple(self.overrides))

    @property
    def context(self) -> Context:
        node: dict[str, Any] = {"partition-id": 0, "num-partitions": 2}
        if self.data is not None:
            node["data-path"] = str(self.data)
        if self.clip is not None:
            node["model-path"] = str(self.clip)
        return Context(7, 1, node | dict(self.node), RecordDict(), {})

    def ask(self, kind: str, content: RecordDict, *, ttl: float = 600.0) -> Message:
        metadata = Metadata(7, "", 1, 2, "", "", time.time(), ttl, kind)
        message = Message(content=content, metadata=metadata)
        context = self.context
        reply = app(message, context)
        assert not context.state  # it would travel back to the simulation's driver
        return reply

    def query(self, action: str, *, code: str = "", configuration: str = "") -> Message:
        request = pack_query(RUN, code or code_digest(), configuration or self.configuration)
        return self.ask(f"query.{action}", request)

    def train(
        self,
        server_round: int = 1,
        shared: SharedTensors | None = None,
        *,
        run: str = RUN,
        ttl: float = 600.0,
        proximal_mu: float = 0.0,
    ) -> Message:
        request = RoundRequest(server_round, run, shared or {}, proximal_mu=proximal_mu)
        return self.ask("train", pack_round_request(request, self.configuration), ttl=ttl)

    def evaluate(
        self,
        server_round: int = 0,
        shared: SharedTensors | None = None,
        *,
        final: bool = False,
        run: str = RUN,
    ) -> Message:
        request = RoundRequest(server_round, run, shared or {}, final)
        return self.ask("evaluate", pack_round_request(request, self.configuration))

    @property
    def runtime(self) -> Runtime:
        context = self.context
        return open_runtime(context.node_config, self.configuration)

    @property
    def format(self) -> PrivateFormat:
        return self.runtime.private_format

    def folder(self, run: str = RUN) -> Path:
        return paths.private_dir("demo", run, str(self.node.get("client-name", "client-0")))

    def stored(self, server_round: int, run: str = RUN) -> ClientState:
        folder = self.folder(run)
        store = PrivateStore(folder, run, folder.name, self.format, lambda _: None)
        state = store.load(server_round)
        assert state is not None
        return state
