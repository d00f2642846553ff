"""The wire contract: every key, type and shape that may cross between client and server.

Closed schemas, checked on both sides. Nothing else crosses: no private tensor, image, feature,
file path or free text. This is the only module of the core that knows Flower's record types.
"""

import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    ConfigRecordValues,
    MetricRecord,
    MetricRecordValues,
    RecordDict,
)
from numpy.typing import NDArray

from fedrsclip_core.config.shared_tensors import SHARED_PROMPT, Shapes, SharedTensors
from fedrsclip_core.errors import WireError
from fedrsclip_core.wire import precision
from fedrsclip_core.wire.messages import (
    DIGEST_PARTS,
    EVAL_MODES,
    EVAL_PARTS,
    LOSS_TERMS,
    PROTOCOL_VERSION,
    Identity,
    RoundReply,
    RoundRequest,
)

ARRAYS = "arrays"
CONFIG = "config"
METRICS = "metrics"
CONFIGURATION = "configuration"
LONGEST_CONFIGURATION = 2**20
PROXIMAL_MU = "proximal-mu"
NUM_EXAMPLES = "num-examples"

_SIZES = ("partition-id", "num-partitions", "n-ctx", "width", "dim", "num-classes")
IDENTITY_COUNTS = (*_SIZES, "num-train", "num-val", "num-test")


def pack_query(run_name: str, code_digest: str, configuration: str) -> RecordDict:
    """Build a ``query.identity``, ``query.prepare`` or ``query.init`` request."""
    config: dict[str, ConfigRecordValues] = {
        "protocol": PROTOCOL_VERSION,
        "run-name": run_name,
        "code": code_digest,
        CONFIGURATION: _packed(configuration),
    }
    return RecordDict({CONFIG: ConfigRecord(config)})


def unpack_query(content: RecordDict) -> tuple[str, str]:
    """Return (run name, code digest) of a query request."""
    schema = {"protocol": int, "run-name": str, "code": str, CONFIGURATION: bytes}
    config = _only_config(content, schema)
    if config["protocol"] != PROTOCOL_VERSION:
        raise WireError(
            f"the server speaks protocol {config['protocol']}, this client {PROTOCOL_VERSION}: "
            "install the same version at both"
        )
    return config["run-name"], config["code"]


def unpack_configuration(content: RecordDict) -> str:
    """Return the run's resolved configuration, which is in every request; nothing else is read.

    Raises
    ------
    WireError
        If it is not there, damaged or longer than :data:`LONGEST_CONFIGURATION`.
    """
    packed = content.config_records.get(CONFIG, ConfigRecord()).get(CONFIGURATION)
    if not isinstance(packed, bytes):
        raise WireError("the request holds no configuration")
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(packed, LONGEST_CONFIGURATION).decode("ascii")
    except (zlib.error, UnicodeDecodeError) as error:
        raise WireError("the request's configuration is damaged") from error
    if not inflater.eof or inflater.unused_data:
        raise WireError("the request's configuration is damaged or too long")
    return text


def _packed(configuration: str) -> bytes:
    # Beside a prompt of some kilobytes a third of them.
    return zlib.compress(configuration.encode("ascii"), level=9)


def pack_identity(identity: Identity) -> RecordDict:
    """Build the reply to ``query.identity`` and ``query.prepare``."""
    record: dict[str, ConfigRecordValues] = {
        "protocol": identity.protocol,
        "client-name": identity.client_name,
        "label-counts": list(identity.label_counts),
    }
    record |= {name: getattr(identity, _field(name)) for name in IDENTITY_COUNTS}
    record |= {f"digest-{part}": identity.digests[part] for part in DIGEST_PARTS}
    return RecordDict({CONFIG: ConfigRecord(record)})


def unpack_identity(content: RecordDict) -> Identity:
    """Read and check an identity.

    Raises
    ------
    WireError
        If a key is missing, unknown or of another type, or a count is negative.
    """
    schema: dict[str, type] = dict.fromkeys(("protocol", *IDENTITY_COUNTS), int)
    schema |= {"client-name": str, "label-counts": list}
    schema |= {f"digest-{part}": str for part in DIGEST_PARTS}
    config = _only_config(content, schema)
    numbers = [*(config[name] for name in IDENTITY_COUNTS), *config["label-counts"]]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise WireError("an identity holds a negative count")
    return Identity(
        client_name=config["client-name"],
        digests={part: config[f"digest-{part}"] for part in DIGEST_PARTS},
        label_counts=tuple(config["label-counts"]),
        protocol=config["protocol"],
        **{_field(name): config[name] for name in IDENTITY_COUNTS},
    )


def pack_shared(shared: SharedTensors, offsets_dtype: str = "float32") -> ArrayRecord:
    """Build the only ArrayRecord of the contract; raises as :func:`precision.encoded`."""
    arrays = precision.encoded(shared, offsets_dtype)
    return ArrayRecord({name: Array(np.ascontiguousarray(a)) for name, a in arrays.items()})


def unpack_shared(
    record: ArrayRecord, shapes: Shapes, offsets_dtype: str = "float32"
) -> SharedTensors:
    """Read and check what is shared.

    Parameters
    ----------
    record : ArrayRecord
        What arrived.
    shapes : Shapes
        The expected shapes by name; empty if nothing may be there.
    offsets_dtype : str
        In which precision class offsets travel.

    Raises
    ------
    WireError
        On other keys, dtype or shape, on NaN or infinity. The declared shape and dtype and the
        number of bytes are checked before the bytes are read.
    """
    expected = precision.described(shapes, offsets_dtype)
    if set(record.keys()) != set(expected):
        raise WireError(f"arrays are {_names(record.keys())}, expected {_names(expected)}")
    arrays = {name: _checked_array(name, record[name], kind) for name, kind in expected.items()}
    return precision.decoded(arrays, shapes)


def _checked_array(name: str, array: Array, kind: precision.Described) -> NDArray[Any]:
    if array.dtype != kind.dtype:
        raise WireError(f"{name} is not declared as {kind.dtype}")
    if tuple(array.shape) != kind.shape:
        raise WireError(f"{name} is not declared with shape {kind.shape}")
    if len(array.data) > kind.num_bytes + 1024:
        raise WireError(f"{name} carries {len(array.data)} bytes for shape {kind.shape}")
    try:
        value = array.numpy()
    except Exception as error:  # numpy raises many kinds on foreign bytes
        raise WireError(f"the bytes of {name} cannot be read") from error
    whole = isinstance(value, np.ndarray) and value.shape == kind.shape
    if not whole or value.dtype != np.dtype(kind.dtype):
        raise WireError(f"the bytes of {name} are not what its description says")
    return np.array(value)


def pack_init(prompt: NDArray[np.float32]) -> RecordDict:
    """Build the reply to ``query.init``: the start of the shared prompt alone."""
    return RecordDict({ARRAYS: pack_shared({SHARED_PROMPT: prompt})})


def unpack_init(content: RecordDict, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Read and check a reply to ``query.init``; raises as :func:`unpack_shared`."""
    _only_records(content, {ARRAYS: ArrayRecord})
    return unpack_shared(content.array_records[ARRAYS], {SHARED_PROMPT: shape})[SHARED_PROMPT]


def pack_round_request(
    request: RoundRequest, configuration: str, offsets_dtype: str = "float32"
) -> RecordDict:
    """Build a train or evaluate request; raises as :func:`pack_shared`."""
    config: dict[str, ConfigRecordValues] = {
        "server-round": request.server_round,
        "run-name": request.run_name,
        "final": request.final,
        PROXIMAL_MU: request.proximal_mu,
        CONFIGURATION: _packed(configuration),
    }
    return RecordDict(
        {ARRAYS: pack_shared(request.shared, offsets_dtype), CONFIG: ConfigRecord(config)}
    )


def unpack_round_request(
    content: RecordDict, shapes: Shapes, offsets_dtype: str = "float32"
) -> RoundRequest:
    """Read and check a train or evaluate request at the client."""
    _only_records(content, {ARRAYS: ArrayRecord, CONFIG: ConfigRecord})
    schema: dict[str, type] = {"server-round": int, "run-name": str, "final": bool}
    schema |= {PROXIMAL_MU: float, CONFIGURATION: bytes}
    values = _typed(content.config_records[CONFIG], schema)
    return RoundRequest(
        server_round=values["server-round"],
        run_name=values["run-name"],
        shared=unpack_shared(content.array_records[ARRAYS], shapes, offsets_dtype),
        final=values["final"],
        proximal_mu=values[PROXIMAL_MU],
    )


def pack_round_reply(
    reply: RoundReply, *, with_arrays: bool, offsets_dtype: str = "float32"
) -> RecordDict:
    """Build a reply; ``with_arrays`` for a train message where something is shared.

    Raises as :func:`pack_shared`.
    """
    metrics: dict[str, MetricRecordValues] = {
        NUM_EXAMPLES: reply.num_examples,
        "num-steps": reply.num_steps,
        "seconds": float(reply.seconds),
    }
    metrics |= {term: float(value) for term, value in reply.losses.items()}
    metrics |= {f"{part}-total": count for part, count in reply.total.items()}
    metrics |= {f"{part}-{mode}-correct": n for (part, mode), n in reply.correct.items()}
    content = RecordDict({METRICS: MetricRecord(metrics)})
    if with_arrays:
        content[ARRAYS] = pack_shared(reply.shared, offsets_dtype)
    return content


def unpack_round_reply(
    content: RecordDict, shapes: Shapes, offsets_dtype: str = "float32"
) -> RoundReply:
    """Read and check a reply at the server.

    Parameters
    ----------
    content : RecordDict
        What arrived.
    shapes : Shapes
        Of what is shared for a train reply, empty if the reply must not carry arrays (an
        evaluation, or ``local`` training).
    offsets_dtype : str
        In which precision class offsets travel.

    Raises
    ------
    WireError
        If anything is outside the schema.
    """
    arrays: dict[str, type] = {ARRAYS: ArrayRecord} if shapes else {}
    _only_records(content, {METRICS: MetricRecord, **arrays})
    shared = unpack_shared(content.array_records[ARRAYS], shapes, offsets_dtype) if shapes else {}
    numbers = _checked_metrics(content.metric_records[METRICS])
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


def _checked_metrics(record: MetricRecord) -> dict[str, float]:
    integers = {NUM_EXAMPLES, "num-steps", *(f"{part}-total" for part in EVAL_PARTS)}
    integers |= {f"{part}-{mode}-correct" for part in EVAL_PARTS for mode in EVAL_MODES}
    floats = {"seconds", *LOSS_TERMS}
    numbers: dict[str, float] = {}
    values: Iterable[tuple[str, Any]] = record.items()
    for name, value in values:
        if name not in integers and name not in floats:
            raise WireError(f"unknown metric {name[:40]!r}")
        count = name in integers and type(value) is int and value >= 0
        number = name in floats and type(value) is float and math.isfinite(value)
        if not count and not number:
            raise WireError(f"metric {name} has a value outside its type or range")
        numbers[name] = value
    missing = {NUM_EXAMPLES, "num-steps", "seconds"} - numbers.keys()
    if missing:
        raise WireError(f"metrics lack {_names(sorted(missing))}")
    return numbers


def _only_config(content: RecordDict, schema: Mapping[str, type]) -> dict[str, Any]:
    _only_records(content, {CONFIG: ConfigRecord})
    return _typed(content.config_records[CONFIG], schema)


def _only_records(content: RecordDict, expected: Mapping[str, type]) -> None:
    if set(content.keys()) != set(expected):
        raise WireError(f"records are {_names(content.keys())}, expected {_names(expected)}")
    for name, kind in expected.items():
        if not isinstance(content[name], kind):
            raise WireError(f"record {name} is not a {kind.__name__}")


def _typed(record: ConfigRecord, schema: Mapping[str, type]) -> dict[str, Any]:
    if set(record.keys()) != set(schema):
        raise WireError(f"keys are {_names(record.keys())}, expected {_names(schema)}")
    for name, kind in schema.items():
        if type(record[name]) is not kind:
            raise WireError(f"{name} is not of type {kind.__name__}")
    return dict(record)


def _field(key: str) -> str:
    return key.replace("-", "_")


def _names(names: Iterable[str]) -> str:
    shown = sorted(str(name)[:40] for name in names)
    return "{" + ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "") + "}"
