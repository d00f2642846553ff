"""Class offsets travel in less than float32: within known errors, and nothing else is read."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from fedrsclip_core.config.schema import WIRE_DTYPES
from fedrsclip_core.config.shared_tensors import (
    OFFSETS,
    SHARED_OFFSETS,
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
    Shapes,
    SharedTensors,
)
from fedrsclip_core.errors import WireError
from fedrsclip_core.wire.precision import WIRE_NAMES, described, num_bytes, what_travels
from fedrsclip_core.wire.records import pack_shared, unpack_shared

pytestmark = pytest.mark.unit

SMALLEST = float(np.finfo(np.float32).tiny)
SCALE = f"{SHARED_OFFSETS}_scale"
SHARED = {
    SHARED_PROMPT: np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4),
    SHARED_OFFSETS: np.linspace(-2, 3, 15, dtype=np.float32).reshape(3, 5),
}


def tensors(largest: float) -> st.SearchStrategy[NDArray[np.float32]]:
    finite = st.floats(-largest, largest, width=32)
    return arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=finite)


def shapes_of(shared: SharedTensors) -> Shapes:
    return {name: (len(tensor), tensor.shape[1]) for name, tensor in shared.items()}


def there_and_back(shared: SharedTensors, dtype: str) -> SharedTensors:
    return unpack_shared(pack_shared(shared, dtype), shapes_of(shared), dtype)


@given(tensors(float(np.finfo(np.float32).max)))
def test_float32_is_exact(tensor: NDArray[np.float32]) -> None:
    back = there_and_back({SHARED_OFFSETS: tensor}, "float32")[SHARED_OFFSETS]
    assert back.tobytes() == tensor.tobytes()


@given(tensors(65504.0))
def test_float16_rounds_to_its_eleven_bits(tensor: NDArray[np.float32]) -> None:
    back = there_and_back({SHARED_OFFSETS: tensor}, "float16")[SHARED_OFFSETS]
    assert back.dtype == np.float32
    assert (np.abs(back - tensor) <= np.maximum(np.abs(tensor) * 2.0**-11, 2.0**-25)).all()


@given(tensors(2.0**100))
def test_int8_is_within_half_a_level_of_the_row(tensor: NDArray[np.float32]) -> None:
    back = there_and_back({SHARED_OFFSETS: tensor}, "int8")[SHARED_OFFSETS]
    assert back.dtype == np.float32 and back.shape == tensor.shape
    level = np.abs(tensor.astype(np.float64)).max(axis=1, keepdims=True) / 127
    assert (np.abs(back - tensor.astype(np.float64)) <= 0.5001 * level + SMALLEST).all()


@given(tensors(2.0**100))
def test_what_came_as_int8_travels_on_without_loss(tensor: NDArray[np.float32]) -> None:
    once = there_and_back({SHARED_OFFSETS: tensor}, "int8")[SHARED_OFFSETS]
    twice = there_and_back({SHARED_OFFSETS: once}, "int8")[SHARED_OFFSETS]
    np.testing.assert_allclose(twice, once, rtol=1e-6, atol=SMALLEST)


def test_each_row_has_its_own_scale_and_zeros_stay_zeros() -> None:
    rows = np.array([[1e-4, -5e-5], [100.0, 50.0], [0.0, 0.0]], np.float32)
    back = there_and_back({SHARED_OFFSETS: rows}, "int8")[SHARED_OFFSETS]
    np.testing.assert_allclose(back, rows, rtol=1e-2)
    assert not back[2].any()


@pytest.mark.parametrize("dtype", WIRE_DTYPES)
def test_the_prompt_is_exact_in_any_case(dtype: str) -> None:
    record = pack_shared(SHARED, dtype)
    assert set(record) <= set(WIRE_NAMES)
    assert record[SHARED_OFFSETS].dtype == dtype
    back = there_and_back(SHARED, dtype)
    assert list(back) == list(SHARED)
    assert back[SHARED_PROMPT].tobytes() == SHARED[SHARED_PROMPT].tobytes()


@pytest.mark.parametrize(
    ("dtype", "bytes_"), [("float32", 32 + 60), ("float16", 32 + 30), ("int8", 32 + 15 + 12)]
)
def test_bytes_are_those_of_the_arrays(dtype: str, bytes_: int) -> None:
    record = pack_shared(SHARED, dtype)
    assert sum(array.numpy().nbytes for array in record.values()) == bytes_
    assert num_bytes(shapes_of(SHARED), dtype) == bytes_
    assert set(record) == set(described(shapes_of(SHARED), dtype))


def test_what_float16_cannot_hold_is_refused_by_the_sender() -> None:
    large = {SHARED_OFFSETS: np.array([[1.0, -1e5]], np.float32)}
    with pytest.raises(WireError, match=r"shared_offsets holds 1e\+05, which is too large for flo"):
        pack_shared(large, "float16")
    assert there_and_back({SHARED_PROMPT: large[SHARED_OFFSETS]}, "float16")[SHARED_PROMPT][0, 1]


OFFSETS_ARRAY = np.zeros((3, 5), np.int8)
SCALES = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({SHARED_OFFSETS: OFFSETS_ARRAY.astype(np.float32)}, "shared_offsets is not declared as"),
        (
            {SHARED_OFFSETS: OFFSETS_ARRAY.astype(np.uint8)},
            "shared_offsets is not declared as int8",
        ),
        ({SHARED_OFFSETS: OFFSETS_ARRAY[:2].copy()}, "shared_offsets is not declared with shape"),
        ({SCALE: SCALES.astype(np.float64)}, "shared_offsets_scale is not declared as float32"),
        ({SCALE: SCALES[:1].copy()}, "shared_offsets_scale is not declared with shape"),
        ({SCALE: SCALES[:, None].copy()}, "shared_offsets_scale is not declared with shape"),
        ({SCALE: -SCALES}, "shared_offsets_scale holds a negative number"),
        ({SCALE: SCALES * np.float32("nan")}, "shared_offsets_scale holds .* NaN or infinity"),
        ({SCALE: SCALES * np.float32("inf")}, "shared_offsets_scale holds .* NaN or infinity"),
        (
            {SCALE: SCALES * np.float32(3e38), SHARED_OFFSETS: OFFSETS_ARRAY + np.int8(127)},
            "shared_offsets holds NaN or infinity",
        ),
        ({f"{SHARED_PROMPT}_scale": SCALES}, "arrays are .*shared_prompt_scale"),
    ],
)
def test_foreign_int8_arrays_are_refused(
    changed: dict[str, NDArray[np.generic]], message: str
) -> None:
    record = pack_shared(SHARED, "int8")
    for name, value in changed.items():
        record[name] = Array(value)
    with pytest.raises(WireError, match=message):
        unpack_shared(record, shapes_of(SHARED), "int8")


@pytest.mark.parametrize(
    ("sent", "expected", "message"),
    [
        ("int8", "float32", "arrays are .*_scale"),
        ("float32", "int8", "expected .*_scale"),
        ("float16", "float32", "shared_offsets is not declared as float32"),
        ("float32", "float16", "shared_offsets is not declared as float16"),
    ],
)
def test_another_precision_than_the_runs_is_refused(sent: str, expected: str, message: str) -> None:
    with pytest.raises(WireError, match=message):
        unpack_shared(pack_shared(SHARED, sent), shapes_of(SHARED), expected)


@pytest.mark.parametrize("lie", [lambda a: a.astype(np.float32), lambda a: a[:2], lambda a: a[0]])
def test_bytes_that_are_not_what_they_are_declared_as(
    lie: Callable[[NDArray[np.int8]], NDArray[np.generic]],
) -> None:
    record = pack_shared(SHARED, "int8")
    data = Array(np.ascontiguousarray(lie(OFFSETS_ARRAY))).data
    record[SHARED_OFFSETS] = Array(dtype="int8", shape=(3, 5), stype="numpy.ndarray", data=data)
    with pytest.raises(WireError, match="bytes of shared_offsets are not those of int8"):
        unpack_shared(record, shapes_of(SHARED), "int8")


def test_too_many_bytes_are_not_read() -> None:
    record = pack_shared(SHARED, "int8")
    data = bytes(15 + 2000)
    record[SHARED_OFFSETS] = Array(dtype="int8", shape=(3, 5), stype="numpy.ndarray", data=data)
    with pytest.raises(WireError, match="the 2015 bytes of shared_offsets are not those of int8"):
        unpack_shared(record, shapes_of(SHARED), "int8")


def test_what_travels_is_said_in_a_line() -> None:
    shapes = {SHARED_PROMPT: (4, 512), SHARED_OFFSETS_U: (21, 4), SHARED_OFFSETS_V: (4, 512)}
    assert what_travels(shapes, "float32") == (
        "shared each way per client and round: shared_prompt 4 x 512, shared_offsets_u 21 x 4, "
        "shared_offsets_v 4 x 512 = 4,180 numbers, 16.7 kB"
    )
    assert what_travels({SHARED_OFFSETS: (45, 512)}, "int8") == (
        "shared each way per client and round: shared_offsets 45 x 512 as int8 = 23,040 numbers, "
        "23.2 kB"
    )
    assert what_travels({}, "float32") == "nothing is shared"
    assert {f"{name}_scale" for name in OFFSETS} < set(WIRE_NAMES)
