"""The wire contract accepts what it describes and nothing else."""

import io
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedrsclip_core.config.shared_tensors import (
    SHARED_OFFSETS,
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
    Shapes,
    SharedTensors,
)
from fedrsclip_core.errors import WireError
from fedrsclip_core.runs.fileio import sha256_of
from fedrsclip_core.wire.messages import (
    CALIBRATION_FACTORS,
    DIGEST_PARTS,
    LARGEST_SIZE,
    MOST_IMAGES,
    MOST_PARTITIONS,
    Identity,
    RoundReply,
    RoundRequest,
)
from fedrsclip_core.wire.records import (
    ARRAYS,
    CONFIG,
    LONGEST_CONFIGURATION,
    METRICS,
    NUM_EXAMPLES,
    aggregation_content,
    pack_identity,
    pack_init,
    pack_query,
    pack_round_reply,
    pack_round_request,
    unpack_configuration,
    unpack_identity,
    unpack_init,
    unpack_query,
    unpack_round_reply,
    unpack_round_request,
)

pytestmark = [pytest.mark.unit, pytest.mark.flower]

SHAPE = (4, 8)
SHARED = np.arange(32, dtype=np.float32).reshape(SHAPE)
SHAPES = {SHARED_PROMPT: SHAPE}
SEVERAL = {
    SHARED_PROMPT: SHARED,
    SHARED_OFFSETS_U: np.arange(6, dtype=np.float32).reshape(3, 2),
    SHARED_OFFSETS_V: np.arange(12, dtype=np.float32).reshape(2, 6),
}
IDENTITY = Identity(
    client_name="site-1",
    partition_id=2,
    num_partitions=3,
    digests={part: sha256_of(part) for part in DIGEST_PARTS},
    n_ctx=4,
    width=8,
    dim=6,
    num_classes=3,
    num_train=70,
    num_val=10,
    num_test=20,
    label_counts=(30, 0, 40),
)
REPLY = RoundReply(
    num_examples=70,
    seconds=1.5,
    shared={SHARED_PROMPT: SHARED},
    num_steps=3,
    losses={"loss": 1.25, "loss-dpac": 0.5},
    correct={("test", "global"): 7, ("val", "personalized-own"): 2},
    total={"val": 3, "test": 20},
)


def shapes_of(shared: SharedTensors) -> Shapes:
    return {name: (len(tensor), tensor.shape[1]) for name, tensor in shared.items()}


def array_record(
    data: bytes, shape: tuple[int, ...] = SHAPE, dtype: str = "float32"
) -> ArrayRecord:
    array = Array(dtype=dtype, shape=shape, stype="numpy.ndarray", data=data)
    return ArrayRecord({SHARED_PROMPT: array})


def npy(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


def foreign_type() -> Array:
    return Array(dtype="float32", shape=SHAPE, stype="secret words", data=npy(SHARED))


def test_identity_round_trip() -> None:
    assert unpack_identity(pack_identity(IDENTITY)) == IDENTITY
    without = replace(IDENTITY, label_counts=())
    assert unpack_identity(pack_identity(without)) == without


def test_identity_request_round_trip() -> None:
    assert unpack_query(pack_query("r", "c", "{}")) == ("r", "c")


def test_identity_request_of_another_protocol_says_what_to_do() -> None:
    content = pack_query("r", "c", "{}")
    content[CONFIG]["protocol"] = 99
    with pytest.raises(WireError, match=r"protocol 99.*install the same version"):
        unpack_query(content)


@pytest.mark.parametrize(
    "content",
    [
        pack_query("r", "c", '{"seed": 3}'),
        pack_round_request(RoundRequest(3, "run", {SHARED_PROMPT: SHARED}), '{"seed": 3}'),
    ],
)
def test_every_request_holds_the_configuration(content: RecordDict) -> None:
    assert unpack_configuration(content) == '{"seed": 3}'
    packed = content[CONFIG]["configuration"]
    bomb = zlib.compress(b" " * (LONGEST_CONFIGURATION + 1))
    for wrong in (packed[:-1], packed + b"x", b"", b"no zlib", bomb, zlib.compress(b"\xff")):
        content[CONFIG]["configuration"] = wrong
        with pytest.raises(WireError, match="damaged"):
            unpack_configuration(content)
    content[CONFIG]["configuration"] = "{}"
    with pytest.raises(WireError, match="no configuration"):
        unpack_configuration(content)
    del content[CONFIG]
    with pytest.raises(WireError, match="no configuration"):
        unpack_configuration(content)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num-train", -1),
        ("num-train", "70"),
        ("num-test", MOST_IMAGES + 1),
        ("num-classes", LARGEST_SIZE + 1),
        ("partition-id", 3),
        ("num-partitions", MOST_PARTITIONS + 1),
        ("client-name", 7),
        ("client-name", ""),
        ("client-name", "a/b"),
        ("client-name", "\x1b[2J"),
        ("client-name", "n" * 101),
        ("label-counts", [1, -1]),
        ("label-counts", [30, 40]),
        ("label-counts", [30, 1, 40]),
        ("label-counts", [-30, 60, 40]),
        ("label-counts", [30.0, 0.0, 40.0]),
        ("digest-clip", "<script>"),
        ("digest-clip", "A" * 64),
        ("digest-split", "0" * 63),
        ("digest-code", "0" * 64 + "\n"),
    ],
)
def test_identity_with_a_wrong_value_is_refused_by_its_name(key: str, value: object) -> None:
    content = pack_identity(IDENTITY)
    content[CONFIG][key] = value
    with pytest.raises(WireError, match=key):
        unpack_identity(content)


@pytest.mark.parametrize("name", ["\x1b[2J\nround 99", "\u202e", "n" * 900_000])
def test_names_from_outside_are_escaped_and_cut(name: str) -> None:
    content = pack_identity(IDENTITY)
    content[CONFIG][name] = 1
    reply = pack_round_reply(REPLY, with_arrays=True)
    reply[METRICS][name] = 1
    record = pack_round_reply(REPLY, with_arrays=True)
    record[name] = MetricRecord({})
    array = pack_round_reply(REPLY, with_arrays=True)
    array[ARRAYS][name] = Array(SHARED)
    called = pack_identity(IDENTITY)
    called[CONFIG]["client-name"] = name
    for unpack in (
        lambda: unpack_identity(content),
        lambda: unpack_identity(called),
        lambda: unpack_round_reply(reply, SHAPES),
        lambda: unpack_round_reply(record, SHAPES),
        lambda: unpack_round_reply(array, SHAPES),
    ):
        with pytest.raises(WireError) as caught:
            unpack()
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_proximal_weight_that_is_none_is_refused(value: float) -> None:
    content = pack_round_request(RoundRequest(1, "run", {}), "{}")
    content[CONFIG]["proximal-mu"] = value
    with pytest.raises(WireError, match="proximal-mu"):
        unpack_round_request(content, {})


def test_a_run_name_that_is_a_path_is_refused() -> None:
    with pytest.raises(WireError, match="run-name"):
        unpack_round_request(pack_round_request(RoundRequest(1, "../x", {}), "{}"), {})
    with pytest.raises(WireError, match="run-name"):
        unpack_query(pack_query("a\nb", "c", "{}"))


def test_identity_with_an_extra_key_is_refused_by_its_name() -> None:
    content = pack_identity(IDENTITY)
    content[CONFIG]["home"] = "secret-path"
    with pytest.raises(WireError, match="home") as caught:
        unpack_identity(content)
    assert "secret-path" not in str(caught.value)


def test_init_round_trip() -> None:
    assert unpack_init(pack_init(SHARED), SHAPE).tobytes() == SHARED.tobytes()


def test_init_carries_arrays_only() -> None:
    content = pack_init(SHARED)
    content[METRICS] = MetricRecord({"x": 1})
    with pytest.raises(WireError, match="records are"):
        unpack_init(content, SHAPE)


@pytest.mark.parametrize("shared", [{SHARED_PROMPT: SHARED}, SEVERAL, {}])
def test_round_request_round_trip(shared: SharedTensors) -> None:
    request = RoundRequest(3, "run", shared, final=True, proximal_mu=0.5)
    back = unpack_round_request(pack_round_request(request, "{}"), shapes_of(shared))
    assert replace(back, shared={}) == replace(request, shared={})
    np.testing.assert_equal(back.shared, shared)


def test_round_reply_round_trip() -> None:
    back = unpack_round_reply(pack_round_reply(REPLY, with_arrays=True), SHAPES)
    assert replace(back, shared={}) == replace(REPLY, shared={})
    np.testing.assert_equal(back.shared, REPLY.shared)


def test_the_sums_of_a_last_evaluation_are_taken_as_they_are() -> None:
    last = replace(REPLY, cross_entropies=CALIBRATION_FACTORS, total={"val": 10, "test": 20})
    back = unpack_round_reply(pack_round_reply(last, with_arrays=False), {})
    assert back.cross_entropies == CALIBRATION_FACTORS
    few = pack_round_reply(replace(last, total={"val": 9, "test": 20}), with_arrays=False)
    with pytest.raises(WireError, match="val-global-cross-entropies are of 9 validation images"):
        unpack_round_reply(few, {})


ODD_SUMS = (math.nan, math.inf, -1.0, 1.1e7)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        [],
        [1.0] * (len(CALIBRATION_FACTORS) - 1),
        [1.0] * (len(CALIBRATION_FACTORS) + 1),
        [1] * len(CALIBRATION_FACTORS),
        *([*[1.0] * (len(CALIBRATION_FACTORS) - 1), odd] for odd in ODD_SUMS),
    ],
)
def test_sums_that_cannot_be_are_refused(value: Any) -> None:
    content = pack_round_reply(replace(REPLY, total={"val": 10, "test": 20}), with_arrays=False)
    content[METRICS]["val-global-cross-entropies"] = value
    with pytest.raises(WireError, match="val-global-cross-entropies"):
        unpack_round_reply(content, {})


def test_the_order_of_what_travels_does_not_matter() -> None:
    content = pack_round_reply(replace(REPLY, shared=SEVERAL), with_arrays=True)
    content[ARRAYS] = ArrayRecord(dict(reversed(content.array_records[ARRAYS].items())))
    back = unpack_round_reply(content, shapes_of(SEVERAL)).shared
    assert list(back) == list(SEVERAL)
    np.testing.assert_equal(back, SEVERAL)


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value[:-1].copy(), "is not declared with shape"),
        (lambda value: value.astype(np.float64), "is not declared as float32"),
        (lambda value: value * np.float32("nan"), "holds NaN or infinity"),
    ],
)
def test_each_tensor_is_checked_by_its_name(
    name: str, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    content = pack_round_reply(replace(REPLY, shared=SEVERAL), with_arrays=True)
    content[ARRAYS][name] = Array(change(SEVERAL[name]))
    with pytest.raises(WireError, match=f"^{name} {message}"):
        unpack_round_reply(content, shapes_of(SEVERAL))


@pytest.mark.parametrize("shared", [SHAPES, {SHARED_OFFSETS: (3, 6)}])
def test_other_tensors_than_the_method_shares_are_refused(shared: Shapes) -> None:
    content = pack_round_reply(replace(REPLY, shared=SEVERAL), with_arrays=True)
    with pytest.raises(WireError, match=r"arrays are {shared_offsets_u, .*}, expected {"):
        unpack_round_reply(content, shared)


def test_an_evaluation_carries_no_arrays() -> None:
    content = pack_round_reply(REPLY, with_arrays=False)
    assert list(content.keys()) == [METRICS]
    assert not unpack_round_reply(content, {}).shared
    with pytest.raises(WireError, match="records are"):
        unpack_round_reply(pack_round_reply(REPLY, with_arrays=True), {})


def test_local_training_carries_an_empty_request() -> None:
    content = pack_round_request(RoundRequest(1, "run", {}), "{}")
    assert not content.array_records[ARRAYS]
    with pytest.raises(WireError, match="arrays are"):
        unpack_round_request(
            pack_round_request(RoundRequest(1, "run", {SHARED_PROMPT: SHARED}), "{}"), {}
        )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (ArrayRecord({}), "arrays are"),
        (ArrayRecord({"private_prompt": Array(SHARED)}), "private_prompt"),
        (ArrayRecord({SHARED_PROMPT: Array(SHARED), "more": Array(SHARED)}), "more"),
        (ArrayRecord({SHARED_PROMPT: Array(SHARED.astype(np.float64))}), "float32"),
        (ArrayRecord({SHARED_PROMPT: Array(SHARED.astype(np.float16))}), "float32"),
        (ArrayRecord({SHARED_PROMPT: Array(SHARED.T.copy())}), "shape"),
        (ArrayRecord({SHARED_PROMPT: Array(SHARED * np.float32(math.nan))}), "NaN"),
        (ArrayRecord({SHARED_PROMPT: Array(SHARED + np.float32(math.inf))}), "NaN or infinity"),
        (array_record(npy(np.zeros((1000, 1000), np.float32))), "bytes"),
        (array_record(npy(np.zeros((2, 8), np.float32))), "192 bytes of shared_prompt are not"),
        (array_record(npy(np.zeros(SHAPE, np.float16))), "bytes of shared_prompt are not those"),
        (array_record(npy(np.zeros(SHAPE, np.float32))[:-5]), "251 bytes of shared_prompt are"),
        (array_record(npy(np.zeros(SHAPE, np.float32)) + b"x"), "257 bytes of shared_prompt are"),
        (array_record(npy(np.zeros((8, 4), np.float32))), "are not those of float32 .4, 8. alone"),
        (array_record(npy(np.asfortranarray(SHARED))), "are not those of float32 .4, 8. alone"),
        (ArrayRecord({SHARED_PROMPT: foreign_type()}), "not declared as a numpy array"),
        (array_record(b"PK\x05\x06" + bytes(18)), "shared_prompt"),
        (array_record(b"secret words"), "12 bytes of shared_prompt are not"),
    ],
)
def test_a_foreign_shared_prompt_is_refused(arrays: ArrayRecord, message: str) -> None:
    content = pack_round_reply(REPLY, with_arrays=True)
    content[ARRAYS] = arrays
    with pytest.raises(WireError, match=message) as caught:
        unpack_round_reply(content, SHAPES)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (NUM_EXAMPLES, -1),
        (NUM_EXAMPLES, 1.5),
        (NUM_EXAMPLES, [1, 2]),
        ("seconds", math.inf),
        ("seconds", -1e-9),
        ("loss", 2e9),
        ("loss-dpac", -1e308),
        ("loss", math.nan),
        ("loss", 1),
        ("image", 1.0),
        ("test-global-correct", 21),
        ("val-zero-shot-correct", 4),
    ],
)
def test_a_foreign_metric_is_refused_by_its_name(key: str, value: object) -> None:
    content = pack_round_reply(REPLY, with_arrays=False)
    content[METRICS][key] = value
    with pytest.raises(WireError, match=key):
        unpack_round_reply(content, {})


@pytest.mark.parametrize("key", [NUM_EXAMPLES, "num-steps", "seconds"])
def test_a_missing_metric_is_named(key: str) -> None:
    content = pack_round_reply(REPLY, with_arrays=False)
    del content[METRICS][key]
    with pytest.raises(WireError, match=key):
        unpack_round_reply(content, {})


@pytest.mark.parametrize("name", [ARRAYS, METRICS, "extra"])
def test_records_of_another_name_or_kind_are_refused(name: str) -> None:
    content = pack_round_reply(REPLY, with_arrays=True)
    content[name] = ConfigRecord({"text": "free"})
    with pytest.raises(WireError, match=name):
        unpack_round_reply(content, SHAPES)


def test_counts_without_a_total_are_refused() -> None:
    content = RecordDict({METRICS: MetricRecord({NUM_EXAMPLES: 1, "num-steps": 0, "seconds": 0.0})})
    content[METRICS]["test-global-correct"] = 1
    with pytest.raises(WireError, match="test-global-correct"):
        unpack_round_reply(content, {})


def test_the_aggregator_sees_the_prompt_and_its_weight_only() -> None:
    content = aggregation_content(REPLY.shared, 70)
    assert dict(content[METRICS]) == {NUM_EXAMPLES: 70}
    assert list(content[ARRAYS].keys()) == [SHARED_PROMPT]
