"""One exchange with some clients, and the record of a round that is made of such."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from fedrsclip_core.config.shared_tensors import SharedTensors
from fedrsclip_core.runs.records import WAYS, RoundRecord, Traffic
from fedrsclip_core.wire.messages import RoundReply
from server_app import metrics
from server_app.admission import Client

OUT_OF_STEP = "out-of-step"


@dataclass(frozen=True)
class Phase:
    """One exchange with some clients: who was asked, whose answer counts, and its cost.

    ``out_of_step`` counts by client the replies that answered no open message.
    """

    asked: tuple[Client, ...]
    valid: Mapping[str, RoundReply]
    dropped: Mapping[str, str]
    seconds: float
    traffic: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    payload: tuple[int, int] = (0, 0)
    out_of_step: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Where the round loop stands after a round: enough to go on there.

    Attributes
    ----------
    server_round : int
        The last round that was trained; 0 after the evaluation of the start.
    shared : SharedTensors
        What is shared after that round.
    record : Record or None
        That round's record, whose evaluation is still to come; ``None`` if it is closed.
    failed_rounds : int
        Rounds in a row that failed, up to that one.
    aggregator : Mapping[str, NDArray]
        The aggregator's state.
    reply_seconds : Mapping[str, Mapping[str, Sequence[float]]]
        How long the clients' replies took.
    """

    server_round: int
    shared: SharedTensors
    record: RoundRecord | None = None
    failed_rounds: int = 0
    aggregator: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    reply_seconds: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)


def new_record(server_round: int) -> RoundRecord:
    """Return a record in which nothing is known yet; every record has the same keys."""
    return {
        "round": server_round,
        "seconds": 0.0,
        "eval_seconds": None,
        "final": False,
        "failure": "",
        "clients": {"asked": 0, "valid": 0, "dropped": {}},
        "eval_dropped": {},
        "num_examples": 0,
        "loss": None,
        "bytes": {
            "down": {"payload": 0, "message": 0},
            "up": {"payload": 0, "message": 0},
            "clients": {},
        },
        "sampled": None,
        "clients_evaluated": 0,
        "clients_without_images": None,
        "val": None,
        "test": None,
    }


def trained(record: RoundRecord, phase: Phase) -> RoundRecord:
    """Enter what a train message brought."""
    replies = list(phase.valid.values())
    record["seconds"] = phase.seconds
    record["clients"] = {
        "asked": len(phase.asked),
        "valid": len(replies),
        "dropped": dict(phase.dropped),
    }
    add_out_of_step(record, phase)
    record["num_examples"] = sum(reply.num_examples for reply in replies)
    record["loss"] = metrics.mean_losses(replies)
    add_traffic(record["bytes"], phase)
    return record


def add_out_of_step(record: RoundRecord, phase: Phase) -> None:
    """Count in a record what was dropped because it answered no open message."""
    for name, count in phase.out_of_step.items():
        counts = record["clients"].setdefault("out_of_step", {})
        counts[name] = counts.get(name, 0) + count


def add_traffic(total: Traffic, phase: Phase) -> None:
    """Add a phase's bytes to a record's ``bytes``."""
    for index, direction in enumerate(WAYS):
        total[direction]["payload"] += phase.payload[index]
        for name, sizes in phase.traffic.items():
            total[direction]["message"] += sizes[index]
            client = total["clients"].setdefault(name, {"down": 0, "up": 0})
            client[direction] += sizes[index]
