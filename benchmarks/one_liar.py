"""What one lying client of several does to the shared side, under each aggregator.

    python -m benchmarks.one_liar --clients 10 --rounds 10 --json liar.json

Whole runs on the embedded scenes, in this process: honest, and with client 0 lying in each round,
without bounds and with those that a deployment of so many clients has. Figures are the accuracy
of the shared side on all test images after the last round, in per cent; of their accuracies all
tell the truth. ``claim``: 10,000,000 images and its own step backwards. ``far``: its own number of
images and a tensor of norm 999 in a random direction. ``within``: 10,000,000 images and twice its
own step backwards, as one who knows the bounds.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
from flwr.app import Message

from benchmarks.measuring import Report, arguments, publish, settings_of
from client_app.app import app as client_app
from fedrsclip.simulation.in_process import InProcessGrid
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.overrides import for_simulation
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import Shapes, SharedTensors
from fedrsclip_core.config.validation import STRATEGY_PARAMETERS
from fedrsclip_core.errors import RunError
from fedrsclip_core.wire.messages import (
    MOST_IMAGES,
    QUERY_IDENTITY,
    QUERY_PREPARE,
    TRAIN,
    RoundReply,
)
from fedrsclip_core.wire.records import (
    ARRAYS,
    pack_identity,
    pack_round_reply,
    unpack_identity,
    unpack_round_reply,
    unpack_shared,
)
from server_app.app import exchange_of, run
from server_app.influence import UPDATE_RATIO, usual_share

Lie = Callable[[RoundReply, SharedTensors], RoundReply]
"""(the honest reply, what was received) -> what is sent instead."""

_WITHSTAND, _AVERAGED = "num_malicious_nodes", "num_nodes_to_select"
LIAR = 0


def _backwards(times: float) -> Lie:
    def lie(honest: RoundReply, received: SharedTensors) -> RoundReply:
        shared = {
            name: (start - np.float32(times) * (honest.shared[name] - start)).astype(np.float32)
            for name, start in received.items()
        }
        return replace(honest, shared=shared, num_examples=MOST_IMAGES)

    return lie


def _far(honest: RoundReply, received: SharedTensors) -> RoundReply:
    shared = {}
    for name, start in received.items():
        direction = np.random.default_rng(0).normal(size=start.shape)
        shared[name] = (999 * direction / np.linalg.norm(direction)).astype(np.float32)
    return replace(honest, shared=shared)


LIES: dict[str, Lie] = {"claim": _backwards(1), "far": _far, "within": _backwards(UPDATE_RATIO)}


class LyingGrid(InProcessGrid):
    """A grid on which one client says what it likes."""

    def __init__(self, nodes: Sequence[dict[str, int | str]], lie: Lie | None) -> None:
        super().__init__(client_app, nodes)
        self._liar = sorted(self.contexts)[LIAR]
        self._lie = lie

    def answer(self, message: Message) -> Message | None:
        """Run the handler, and change what the liar says."""
        reply = super().answer(message)
        lying = message.metadata.dst_node_id == self._liar and self._lie is not None
        if reply is None or reply.has_error() or not lying or self._lie is None:
            return reply
        kind = message.metadata.message_type
        if kind in (QUERY_IDENTITY, QUERY_PREPARE) and self._lie is not _far:
            told = replace(unpack_identity(reply.content), num_train=MOST_IMAGES, label_counts=())
            return Message(pack_identity(told), reply_to=message)
        if kind == TRAIN:
            received = message.content.array_records[ARRAYS]
            shapes: Shapes = {n: (a.shape[0], a.shape[1]) for n, a in received.items()}
            honest = unpack_round_reply(reply.content, shapes)
            sent = self._lie(honest, unpack_shared(received, shapes))
            return Message(pack_round_reply(sent, with_arrays=True), reply_to=message)
        return reply


def accuracy(aggregator: str, lie: str, options: Sequence[str], *, bounded: bool) -> float | None:
    """Return the shared side's accuracy at the end in per cent; ``None`` if the run failed."""
    overrides = [f"strategy={aggregator}", *options]
    if _WITHSTAND in STRATEGY_PARAMETERS[aggregator]:
        overrides.append(f"strategy.{_WITHSTAND}=1")
    config = compose(for_simulation([*overrides, f"run.name={aggregator}-{lie}-{bounded}"]))
    num_clients = config.federation.num_clients
    if _AVERAGED in STRATEGY_PARAMETERS[aggregator]:
        config.strategy.num_nodes_to_select = num_clients - 2
    if bounded:
        config.strategy.max_weight_share = usual_share(num_clients)
        config.strategy.max_update_ratio = UPDATE_RATIO
    nodes: list[dict[str, int | str]] = [
        {"partition-id": k, "num-partitions": num_clients} for k in range(num_clients)
    ]
    return _last_accuracy(config, LyingGrid(nodes, LIES.get(lie)))


def _last_accuracy(config: Config, grid: LyingGrid) -> float | None:
    with redirect_stdout(sys.stderr):
        try:
            last = run(exchange_of(grid), config, run_id=1).results["last"]
        except RunError as error:
            print(f"failed: {error}")
            return None
    assert last is not None and last["test"] is not None and last["test"]["global"] is not None
    return 100 * last["test"]["global"]


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, threads=1)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--aggregators", nargs="+", default=list(STRATEGY_PARAMETERS))
    parser.add_argument("--overrides", nargs="*", default=[], help="of the configuration")
    options = parser.parse_args()
    settings = [
        f"federation.num_clients={options.clients}",
        f"federation.num_rounds={options.rounds}",
        f"optimizer.threads={options.threads}",
        *options.overrides,
    ]
    report = Report("one_liar", settings_of(options))
    with tempfile.TemporaryDirectory() as home:
        os.environ["FEDRSCLIP_HOME"] = home
        for name in options.aggregators:
            row = {"aggregator": name, "honest": accuracy(name, "honest", settings, bounded=False)}
            row["honest, bounded"] = accuracy(name, "honest", settings, bounded=True)
            for lie in LIES:
                row[lie] = accuracy(name, lie, settings, bounded=False)
                row[f"{lie}, bounded"] = accuracy(name, lie, settings, bounded=True)
            report.rows.append(row)
            print(row, file=sys.stderr, flush=True)
    publish(report, options.json)


if __name__ == "__main__":
    main()
