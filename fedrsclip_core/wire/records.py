"""The wire contract: every key, type and shape that may cross between client and server.

Closed schemas, checked on both sides. Nothing else crosses: no private tensor, image, feature,
file path or free text. This is the only module of the core that knows Flower's record types.
"""

import io
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from functools import cache
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
from fedrsclip_core.errors import ConfigError, WireError
from fedrsclip_core.printable import printable
from fedrsclip_core.runs import paths
from fedrsclip_core.wire import precision
from fedrsclip_core.wire.messages import (
    CALIBRATION_FACTORS,
    DIGEST_PARTS,
    EVAL_MODES,
    EVAL_PARTS,
    FEWEST_CALIBRATING,
    LARGEST_CROSS_ENTROPY,
    LARGEST_LOSS,
    LARGEST_SIZE,
    LOSS_TERMS,
    MOST_IMAGES,
    MOST_PARTITIONS,
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
CROSS_ENTROPIES = "val-global-cross-entropies"

MOST = {
    **dict.fromkeys(("partition-id", "num-partitions"), MOST_PARTITIONS),
    **dict.fromkeys(("n-ctx", "width", "dim", "num-classes"), LARGEST_SIZE),
    **dict.fromkeys(("num-train", "num-val", "num-test"), MOST_IMAGES),
}
"""Largest value of each number of an identity."""
IDENTITY_COUNTS = tuple(MOST)

_DIGEST = re.compile("[0-9a-f]{64}")
_LONGEST_SHOWN = 40
_NUMPY = "numpy.ndarray"


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
    return _name("run-name", config["run-name"]), config["code"]


def unpack_run(content: RecordDict) -> tuple[str, int]:
    """Return (run name, server round) of any request, round 0 of a query; nothing else is read.

    Raises
    ------
    WireError
        If there is no run name, or the round is no integer.
    """
    config = content.config_records.get(CONFIG, ConfigRecord())
    name, number = config.get("run-name"), config.get("server-round", 0)
    if not isinstance(name, str) or type(number) is not int:
        raise WireError("the request does not say of which run and round it is")
    return name, number


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
        If a key is missing, unknown or of another type, a number out of its range, a name not
        usable or a digest none.
    """
    schema: dict[str, type] = dict.fromkeys(("protocol", *IDENTITY_COUNTS), int)
    schema |= {"client-name": str, "label-counts": list}
    schema |= {f"digest-{part}": str for part in DIGEST_PARTS}
    config = _only_config(content, schema)
    for name, most in MOST.items():
        if not 0 <= config[name] <= most:
            raise WireError(f"{name} is {config[name]}: it must lie in [0, {most}]")
    if config["num-partitions"] and config["partition-id"] >= config["num-partitions"]:
        raise WireError(
            f"partition-id is {config['partition-id']} of {config['num-partitions']} partitions"
        )
    return Identity(
        client_name=_name("client-name", config["client-name"]),
        digests={part: _digest(f"digest-{part}", config) for part in DIGEST_PARTS},
        label_counts=_label_counts(config),
        protocol=config["protocol"],
        **{_field(name): config[name] for name in IDENTITY_COUNTS},
    )


def _name(key: str, value: str) -> str:
    try:
        return paths.safe_name(value, key)
    except ConfigError as error:
        raise WireError(str(error)) from None


def _digest(key: str, config: Mapping[str, Any]) -> str:
    value = str(config[key])
    if value and not _DIGEST.fullmatch(value):
        raise WireError(f"{key} is not a sha256 in 64 hexadecimal digits")
    return value


def _label_counts(config: Mapping[str, Any]) -> tuple[int, ...]:
    counts, num_classes, num_train = (
        config[name] for name in ("label-counts", "num-classes", "num-train")
    )
    if not counts:
        return ()
    if len(counts) != num_classes:
        raise WireError(f"label-counts has {len(counts)} numbers for {num_classes} classes")
    if any(type(count) is not int or count < 0 for count in counts) or sum(counts) != num_train:
        raise WireError(f"label-counts are no division of {num_train} training images")
    return tuple(counts)


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
    if array.stype != _NUMPY:
        raise WireError(f"{name} is not declared as a numpy array")
    header, data = _npy_header(kind), array.data
    if len(data) != len(header) + kind.num_bytes or not data.startswith(header):
        raise WireError(
            f"the {len(data)} bytes of {name} are not those of {kind.dtype} {kind.shape} alone"
        )
    return np.frombuffer(data, kind.dtype, offset=len(header)).reshape(kind.shape)


@cache
def _npy_header(kind: precision.Described) -> bytes:
    """Return what numpy writes before the numbers: nothing else may stand there."""
    file = io.BytesIO()
    np.save(file, np.zeros(kind.shape, kind.dtype), allow_pickle=False)
    return file.getvalue()[: file.tell() - kind.num_bytes]


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
    if not (math.isfinite(values[PROXIMAL_MU]) and values[PROXIMAL_MU] >= 0):
        raise WireError(f"{PROXIMAL_MU} is {values[PROXIMAL_MU]}: it must be finite and at least 0")
    return RoundRequest(
        server_round=values["server-round"],
        run_name=_name("run-name", values["run-name"]),
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
    if reply.cross_entropies:
        metrics[CROSS_ENTROPIES] = list(reply.cross_entropies)
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
    metrics = dict(content.metric_records[METRICS])
    cross_entropies = _cross_entropies(metrics.pop(CROSS_ENTROPIES, None))
    numbers = _checked_metrics(metrics)
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
    if cross_entropies:
        _check_sums(cross_entropies, total.get("val", 0))
    return RoundReply(
        num_examples=int(numbers[NUM_EXAMPLES]),
        seconds=float(numbers["seconds"]),
        shared=shared,
        num_steps=int(numbers["num-steps"]),
        losses={term: float(numbers[term]) for term in LOSS_TERMS if term in numbers},
        correct=correct,
        total=total,
        cross_entropies=cross_entropies,
    )


def aggregation_content(shared: SharedTensors, weight: float) -> RecordDict:
    """Return what Flower's aggregators read of a client: its tensors and their weight."""
    metrics = MetricRecord({NUM_EXAMPLES: weight})
    return RecordDict({ARRAYS: pack_shared(shared), METRICS: metrics})


def _cross_entropies(value: object) -> tuple[float, ...]:
    """Return the sums that a last evaluation may bring; empty if there are none."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) != len(CALIBRATION_FACTORS):
        raise WireError(f"{CROSS_ENTROPIES} are not {len(CALIBRATION_FACTORS)} numbers")
    if not all(type(one) is float for one in value):
        raise WireError(f"{CROSS_ENTROPIES} have a value of another type")
    return tuple(value)


def _check_sums(cross_entropies: Iterable[float], num_val: int) -> None:
    if num_val < FEWEST_CALIBRATING:
        raise WireError(f"{CROSS_ENTROPIES} are of {num_val} validation images")
    if not all(0 <= one <= LARGEST_CROSS_ENTROPY * num_val for one in cross_entropies):
        raise WireError(f"{CROSS_ENTROPIES} have a value outside their range")


def _checked_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    integers = {NUM_EXAMPLES, "num-steps", *(f"{part}-total" for part in EVAL_PARTS)}
    integers |= {f"{part}-{mode}-correct" for part in EVAL_PARTS for mode in EVAL_MODES}
    floats = {"seconds", *LOSS_TERMS}
    numbers: dict[str, float] = {}
    for name, value in record.items():
        if name not in integers and name not in floats:
            raise WireError(f"unknown metric '{printable(name, _LONGEST_SHOWN)}'")
        if not (_is_count(value) if name in integers else _is_number(value, name)):
            raise WireError(f"metric {name} has a value outside its type or range")
        numbers[name] = value
    missing = {NUM_EXAMPLES, "num-steps", "seconds"} - numbers.keys()
    if missing:
        raise WireError(f"metrics lack {_names(sorted(missing))}")
    return numbers


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object, name: str) -> bool:
    if type(value) is not float or not math.isfinite(value):
        return False
    return value >= 0 if name == "seconds" else abs(value) <= LARGEST_LOSS


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
    shown = sorted(printable(str(name), _LONGEST_SHOWN) for name in names)
    return "{" + ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "") + "}"
