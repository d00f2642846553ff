"""The wire contract: every key, type and shape that may cross between client and server.

Closed schemas, checked on both sides. Nothing else crosses: no private tensor, image, feature,
file path or free text. This is the only module of the core that knows Flower's record types.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedrsclip_core.errors import WireError

PROTOCOL_VERSION = 1

QUERY_IDENTITY = "query.identity"
QUERY_PREPARE = "query.prepare"
QUERY_INIT = "query.init"
TRAIN = "train"
EVALUATE = "evaluate"

ARRAYS = "arrays"
CONFIG = "config"
METRICS = "metrics"
SHARED_PROMPT = "shared_prompt"

DIGEST_PARTS = ("code", "config", "clip", "classes", "split")
LOSS_TERMS = ("loss", "loss-fused", "loss-shared", "loss-private", "loss-dpac", "loss-cmfac")
EVAL_PARTS = ("val", "test")
EVAL_MODES = ("zero-shot", "global", "personalized", "personalized-own")
PROXIMAL_MU = "proximal-mu"
NUM_EXAMPLES = "num-examples"


class FailureCode(StrEnum):
    """Why a client could not do what a message asked: all that a server may learn."""

    CONFIGURATION = "configuration"
    DATA = "data"
    MODEL = "model"
    PRIVATE_STORE = "private-store"
    PROTOCOL = "protocol"
    LATE = "late"
    DISK = "disk"
    DEVICE = "device"
    NON_FINITE = "non-finite"
    INTERNAL = "internal"


class ClientFailure(Exception):  # noqa: N818 - Flower prints the class name at the server
    """The only exception that leaves a handler: a code of the closed list, no text, no cause."""

    def __init__(self, code: FailureCode) -> None:
        super().__init__(code.value)
        self.code = code


@dataclass(frozen=True)
class Identity:
    """What a client says of itself, once.

    ``digests`` has an entry for each of :data:`DIGEST_PARTS`; an empty string means that the
    part is a site's own business (the split under the ``site`` partition). ``label_counts``
    (training images per class) is empty unless ``privacy.share_label_counts``.
    """

    client_name: str
    partition_id: int
    num_partitions: int
    digests: Mapping[str, str]
    n_ctx: int
    width: int
    num_train: int
    num_val: int
    num_test: int
    label_counts: tuple[int, ...] = ()
    protocol: int = PROTOCOL_VERSION


@dataclass(frozen=True)
class RoundRequest:
    """What the server asks in a train or evaluate message.

    ``shared`` is float32 ``(n_ctx, width)`` or ``None`` where no shared prompt exists.
    ``final`` marks the last evaluation, in which fine-tuned variants are measured.
    """

    server_round: int
    run_name: str
    shared: np.ndarray | None
    final: bool = False
    proximal_mu: float = 0.0


@dataclass(frozen=True)
class RoundReply:
    """A client's answer: the trained shared prompt (train only) and sums.

    ``correct`` and ``total`` map ``(part, mode)`` and ``part`` to counts of images; modes without
    a meaning are absent. They describe the shared prompt as received with the private prompt as
    stored, before any training. ``losses`` holds a mean over steps for each of
    :data:`LOSS_TERMS` and is empty for an evaluation.
    """

    num_examples: int
    seconds: float
    shared: np.ndarray | None = None
    num_steps: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)
    correct: Mapping[tuple[str, str], int] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)


def pack_identity_request(run_name: str, code_digest: str, config_digest: str) -> RecordDict:
    """Build a ``query.identity``, ``query.prepare`` or ``query.init`` request."""
    config = {
        "protocol": PROTOCOL_VERSION,
        "run-name": run_name,
        "code": code_digest,
        "config": config_digest,
    }
    return RecordDict({CONFIG: ConfigRecord(config)})


def unpack_identity_request(content: RecordDict) -> tuple[str, str, str]:
    """Return (run name, code digest, config digest) of a query request."""
    config = _only_config(content, {"protocol": int, "run-name": str, "code": str, "config": str})
    if config["protocol"] != PROTOCOL_VERSION:
        raise WireError(
            f"the server speaks protocol {config['protocol']}, this client {PROTOCOL_VERSION}: "
            "install the same version at both"
        )
    return str(config["run-name"]), str(config["code"]), str(config["config"])


def pack_identity(identity: Identity) -> RecordDict:
    """Build the reply to ``query.identity`` and ``query.prepare``."""
    record: dict[str, int | str | list[int]] = {
        "protocol": identity.protocol,
        "client-name": identity.client_name,
        "partition-id": identity.partition_id,
        "num-partitions": identity.num_partitions,
        "n-ctx": identity.n_ctx,
        "width": identity.width,
        "num-train": identity.num_train,
        "num-val": identity.num_val,
        "num-test": identity.num_test,
        "label-counts": list(identity.label_counts),
    }
    record |= {f"digest-{part}": identity.digests[part] for part in DIGEST_PARTS}
    return RecordDict({CONFIG: ConfigRecord(record)})  # type: ignore[arg-type]


def unpack_identity(content: RecordDict) -> Identity:
    """Read and check an identity.

    Raises
    ------
    WireError
        If a key is missing, unknown or of another type, or a count is negative.
    """
    counts = ("partition-id", "num-partitions", "n-ctx", "width")
    counts += ("num-train", "num-val", "num-test")
    schema: dict[str, type] = {name: int for name in ("protocol", *counts)}
    schema |= {"client-name": str, "label-counts": list}
    schema |= {f"digest-{part}": str for part in DIGEST_PARTS}
    config = _only_config(content, schema)
    numbers = {name: int(config[name]) for name in counts}  # type: ignore[arg-type]
    label_counts = tuple(config["label-counts"])  # type: ignore[arg-type]
    if min(numbers.values()) < 0 or any(type(n) is not int or n < 0 for n in label_counts):
        raise WireError("an identity holds a negative count")
    return Identity(
        client_name=str(config["client-name"]),
        partition_id=numbers["partition-id"],
        num_partitions=numbers["num-partitions"],
        digests={part: str(config[f"digest-{part}"]) for part in DIGEST_PARTS},
        n_ctx=numbers["n-ctx"],
        width=numbers["width"],
        num_train=numbers["num-train"],
        num_val=numbers["num-val"],
        num_test=numbers["num-test"],
        label_counts=label_counts,
        protocol=int(config["protocol"]),  # type: ignore[arg-type]
    )


def pack_shared(shared: np.ndarray | None) -> ArrayRecord:
    """Build the only ArrayRecord of the contract: ``{"shared_prompt": float32 (n_ctx, width)}``."""
    if shared is None:
        return ArrayRecord({})
    return ArrayRecord({SHARED_PROMPT: Array(np.ascontiguousarray(shared, dtype=np.float32))})


def unpack_shared(
    record: ArrayRecord, shape: tuple[int, int] | None, *, max_norm: float = math.inf
) -> np.ndarray | None:
    """Read and check the shared prompt.

    Parameters
    ----------
    record : ArrayRecord
        What arrived.
    shape : tuple[int, int] or None
        The expected ``(n_ctx, width)``; ``None`` if no shared prompt may be there.
    max_norm : float
        The largest Frobenius norm accepted.

    Raises
    ------
    WireError
        On other keys, dtype or shape, on NaN or infinity, on too large a norm. The declared
        shape and dtype are checked before the bytes are touched.
    """
    expected = [] if shape is None else [SHARED_PROMPT]
    if list(record.keys()) != expected:
        raise WireError(f"arrays are {_names(record.keys())}, expected {_names(expected)}")
    if shape is None:
        return None
    array = record[SHARED_PROMPT]
    if array.dtype != "float32" or tuple(array.shape) != shape:
        raise WireError(
            f"the shared prompt is {array.dtype} {tuple(array.shape)}, expected float32 {shape}"
        )
    if len(array.data) > 4 * math.prod(shape) + 1024:
        raise WireError(f"the shared prompt carries {len(array.data)} bytes for shape {shape}")
    try:
        value = np.array(array.numpy(), dtype=np.float32)
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise WireError("the shared prompt's bytes cannot be read") from error
    if value.shape != shape:
        raise WireError(f"the shared prompt's bytes hold shape {value.shape}, expected {shape}")
    if not np.isfinite(value).all():
        raise WireError("the shared prompt holds NaN or infinity")
    if float(np.linalg.norm(value)) > max_norm:
        raise WireError(f"the shared prompt's norm exceeds {max_norm:g}")
    return value


def pack_round_request(request: RoundRequest) -> RecordDict:
    """Build a train or evaluate request."""
    config = {
        "server-round": request.server_round,
        "run-name": request.run_name,
        "final": request.final,
        PROXIMAL_MU: request.proximal_mu,
    }
    return RecordDict({ARRAYS: pack_shared(request.shared), CONFIG: ConfigRecord(config)})


def unpack_round_request(content: RecordDict, shape: tuple[int, int] | None) -> RoundRequest:
    """Read and check a train or evaluate request at the client."""
    _only_records(content, {ARRAYS: ArrayRecord, CONFIG: ConfigRecord})
    config = content.config_records[CONFIG]
    schema = {"server-round": int, "run-name": str, "final": bool, PROXIMAL_MU: float}
    values = _typed(config, schema)
    return RoundRequest(
        server_round=int(values["server-round"]),  # type: ignore[arg-type]
        run_name=str(values["run-name"]),
        shared=unpack_shared(content.array_records[ARRAYS], shape),
        final=bool(values["final"]),
        proximal_mu=float(values[PROXIMAL_MU]),  # type: ignore[arg-type]
    )


def pack_round_reply(reply: RoundReply, *, with_arrays: bool) -> RecordDict:
    """Build a reply; ``with_arrays`` for a train message under a shared prompt."""
    metrics: dict[str, int | float] = {
        NUM_EXAMPLES: reply.num_examples,
        "num-steps": reply.num_steps,
        "seconds": float(reply.seconds),
    }
    metrics |= {term: float(value) for term, value in reply.losses.items()}
    metrics |= {f"{part}-total": count for part, count in reply.total.items()}
    metrics |= {f"{part}-{mode}-correct": n for (part, mode), n in reply.correct.items()}
    records: dict[str, ArrayRecord | MetricRecord] = {METRICS: MetricRecord(metrics)}  # type: ignore[arg-type]
    if with_arrays:
        records[ARRAYS] = pack_shared(reply.shared)
    return RecordDict(records)  # type: ignore[arg-type]


def unpack_round_reply(
    content: RecordDict, shape: tuple[int, int] | None, *, max_norm: float = math.inf
) -> RoundReply:
    """Read and check a reply at the server.

    Parameters
    ----------
    content : RecordDict
        What arrived.
    shape : tuple[int, int] or None
        The shared prompt's ``(n_ctx, width)`` for a train reply, ``None`` if the reply must not
        carry arrays (an evaluation, or ``local`` training).
    max_norm : float
        The largest Frobenius norm of the shared prompt that is accepted.

    Raises
    ------
    WireError
        If anything is outside the schema.
    """
    expected: dict[str, type] = {METRICS: MetricRecord}
    if shape is not None:
        expected[ARRAYS] = ArrayRecord
    _only_records(content, expected)
    numbers = _checked_metrics(content.metric_records[METRICS])
    shared = None if shape is None else unpack_shared(content[ARRAYS], shape, max_norm=max_norm)  # type: ignore[arg-type]
    total = {p: int(numbers[f"{p}-total"]) for p in EVAL_PARTS if f"{p}-total" in numbers}
    correct = {
        (part, mode): int(numbers[key])
        for part in EVAL_PARTS
        for mode in EVAL_MODES
        if (key := f"{part}-{mode}-correct") in numbers
    }
    for (part, mode), count in correct.items():
        if count > total.get(part, -1):
            raise WireError(f"{part}-{mode}-correct is {count} of {total.get(part, 0)} images")
    return RoundReply(
        num_examples=int(numbers[NUM_EXAMPLES]),
        seconds=float(numbers["seconds"]),
        shared=shared,
        num_steps=int(numbers["num-steps"]),
        losses={term: float(numbers[term]) for term in LOSS_TERMS if term in numbers},
        correct=correct,
        total=total,
    )


def aggregation_content(reply: RoundReply) -> RecordDict:
    """Reduce a checked train reply to what Flower's aggregators read."""
    metrics = MetricRecord({NUM_EXAMPLES: reply.num_examples})
    return RecordDict({ARRAYS: pack_shared(reply.shared), METRICS: metrics})


def _checked_metrics(record: MetricRecord) -> dict[str, int | float]:
    integers = {NUM_EXAMPLES, "num-steps", *(f"{part}-total" for part in EVAL_PARTS)}
    integers |= {f"{part}-{mode}-correct" for part in EVAL_PARTS for mode in EVAL_MODES}
    floats = {"seconds", *LOSS_TERMS}
    numbers: dict[str, int | float] = {}
    for name, value in record.items():
        if name in integers and type(value) is int and value >= 0:
            numbers[name] = value
        elif name in floats and type(value) is float and math.isfinite(value):
            numbers[name] = value
        elif name in integers or name in floats:
            raise WireError(f"metric {name} has a value outside its type or range")
        else:
            raise WireError(f"unknown metric {name[:40]!r}")
    missing = {NUM_EXAMPLES, "num-steps", "seconds"} - numbers.keys()
    if missing:
        raise WireError(f"metrics lack {_names(sorted(missing))}")
    return numbers


def _only_config(content: RecordDict, schema: Mapping[str, type]) -> dict[str, object]:
    _only_records(content, {CONFIG: ConfigRecord})
    return _typed(content.config_records[CONFIG], schema)


def _only_records(content: RecordDict, expected: Mapping[str, type]) -> None:
    if set(content.keys()) != set(expected):
        raise WireError(f"records are {_names(content.keys())}, expected {_names(expected)}")
    for name, kind in expected.items():
        if not isinstance(content[name], kind):
            raise WireError(f"record {name} is not a {kind.__name__}")


def _typed(record: ConfigRecord, schema: Mapping[str, type]) -> dict[str, object]:
    if set(record.keys()) != set(schema):
        raise WireError(f"keys are {_names(record.keys())}, expected {_names(schema)}")
    for name, kind in schema.items():
        if type(record[name]) is not kind:
            raise WireError(f"{name} is not of type {kind.__name__}")
    return dict(record)


def _names(names: Sequence[str] | Mapping[str, object] | object) -> str:
    shown = sorted(str(name)[:40] for name in names)  # type: ignore[attr-defined]
    return "{" + ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "") + "}"
