"""Thousands of damaged and forged messages: each is refused in one short line, or holds no more
than the contract says.

What is accepted must be, in every bit, what packing it again gives: so nothing rides along.
"""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import SHARED_OFFSETS_U, SHARED_PROMPT, SharedTensors
from fedrsclip_core.errors import WireError
from fedrsclip_core.wire.messages import (
    CALIBRATION_FACTORS,
    EVAL_MODES,
    EVAL_PARTS,
    EVALUATE,
    FEWEST_CALIBRATING,
    LARGEST_LOSS,
    LOSS_TERMS,
    TRAIN,
    RoundReply,
    RoundRequest,
)
from fedrsclip_core.wire.records import (
    ARRAYS,
    CONFIG,
    METRICS,
    pack_identity,
    pack_init,
    pack_round_reply,
    pack_round_request,
    unpack_identity,
    unpack_init,
    unpack_round_reply,
    unpack_round_request,
)
from server_app.admission import Client
from server_app.replies import check_reply
from tests.unit.server.fakes import identity, small_config

pytestmark = [pytest.mark.unit, pytest.mark.flower]

MUTANTS = 1500
"""Of each message; some seconds in all."""

SHARED: SharedTensors = {
    SHARED_PROMPT: np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32),
    SHARED_OFFSETS_U: np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32),
}
SHAPES = {name: (len(value), value.shape[1]) for name, value in SHARED.items()}
CONFIGURATION = '{"seed": 0}'
WORDS = ("", "num-examples", "loss", "\x1b[2J", "\u202e", "../..", "<script>", "n" * 5000, "x\ny")
INTEGERS = (0, 1, -1, 5, 10, 11, 255, 2**15 + 1, 10**12, 2**62, -(2**63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e9, 1.1e9, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf)


@dataclass(frozen=True)
class Kind:
    """One message of the contract: how it is made, read, and made again of what was read."""

    build: Callable[[], RecordDict]
    check: Callable[[RecordDict], RecordDict]


def small() -> Config:
    return small_config()


def honest() -> Client:
    return Client(1, replace(identity(1, small()), num_val=FEWEST_CALIBRATING))


def reply(*, trained: bool) -> RoundReply:
    told = honest().identity
    total = {"val": told.num_val, "test": told.num_test}
    return RoundReply(
        num_examples=told.num_train,
        seconds=0.25,
        shared=SHARED if trained else {},
        num_steps=1 if trained else 0,
        losses=dict.fromkeys(LOSS_TERMS, 0.5) if trained else {},
        correct={(part, mode): 1 for part in EVAL_PARTS for mode in EVAL_MODES},
        total=total,
        cross_entropies=() if trained else CALIBRATION_FACTORS,
    )


def checked_reply(content: RecordDict, *, trained: bool) -> RecordDict:
    found = unpack_round_reply(content, SHAPES if trained else {})
    kind = TRAIN if trained else EVALUATE
    check_reply(found, honest(), kind, small(), seconds=1.0, final=not trained)
    assert all(0 <= value < math.inf for value in found.cross_entropies)
    assert all(abs(loss) <= LARGEST_LOSS for loss in found.losses.values())
    assert 0 <= found.seconds <= 6
    assert all(found.correct[part, mode] <= found.total[part] for part, mode in found.correct)
    return pack_round_reply(found, with_arrays=trained)


def checked_request(content: RecordDict) -> RecordDict:
    found = unpack_round_request(content, SHAPES)
    assert math.isfinite(found.proximal_mu)
    # The configuration is read by itself, and is not touched here.
    again = pack_round_request(found, CONFIGURATION)
    again[CONFIG]["configuration"] = content[CONFIG]["configuration"]
    return again


KINDS = {
    "identity": Kind(
        lambda: pack_identity(honest().identity),
        lambda content: pack_identity(unpack_identity(content)),
    ),
    "init": Kind(
        lambda: pack_init(SHARED[SHARED_PROMPT]),
        lambda content: pack_init(unpack_init(content, (4, 8))),
    ),
    "train": Kind(
        lambda: pack_round_reply(reply(trained=True), with_arrays=True),
        lambda content: checked_reply(content, trained=True),
    ),
    "evaluate": Kind(
        lambda: pack_round_reply(reply(trained=False), with_arrays=False),
        lambda content: checked_reply(content, trained=False),
    ),
    "request": Kind(
        lambda: pack_round_request(RoundRequest(1, "run", SHARED), CONFIGURATION),
        checked_request,
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_message_is_refused_in_a_line_or_holds_nothing_more(name: str) -> None:
    rng, kind = random.Random(name), KINDS[name]
    assert flat(kind.check(kind.build())) == flat(kind.build())
    refused = 0
    for number in range(MUTANTS):
        content = kind.build()
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            mutate(content, rng)
        try:
            again = kind.check(content)
        except WireError as error:
            refused += 1
            assert str(error).isprintable(), number
            assert len(str(error)) < 1200, number
        else:
            assert flat(again) == flat(content), number
    assert 0.5 * MUTANTS < refused < MUTANTS


def flat(content: RecordDict) -> dict[tuple[str, str], Any]:
    """Return every value of a message; NaN is equal to itself in its text."""
    return {
        (name, key): vars(value) if isinstance(value, Array) else repr(value)
        for name, record in content.items()
        for key, value in record.items()
    }


def mutate(content: RecordDict, rng: random.Random) -> None:
    """Change one thing; what Flower's own types do not take cannot arrive either."""
    with suppress(TypeError, ValueError):
        rng.choice(list(_mutations(content, rng)))()


def _mutations(content: RecordDict, rng: random.Random) -> Iterator[Callable[[], None]]:
    name = rng.choice(list(content.keys()) or [METRICS])
    yield lambda: content.update({rng.choice(WORDS): MetricRecord({"x": 1})})
    yield lambda: content.update({name: ConfigRecord({"text": rng.choice(WORDS)})})
    yield lambda: content.pop(name, None)
    record: Any = content.get(name)
    if not record:
        return
    key = rng.choice(list(record.keys()))
    yield lambda: record.pop(key)
    if isinstance(record, ArrayRecord):
        yield lambda: record.update({rng.choice(WORDS): record[key]})
        for _ in range(4):
            yield lambda: record.update({key: _changed(record[key], rng)})
        return
    yield lambda: record.update({rng.choice(WORDS): record[key]})
    for _ in range(6):
        yield lambda: record.update({key: _value(record[key], rng)})


def _value(value: Any, rng: random.Random) -> Any:
    """Return another value, mostly of the same type."""
    others: list[Any] = [rng.choice(INTEGERS), rng.choice(FLOATS), rng.choice(WORDS), b"x", True]
    if rng.random() < 0.3:
        return rng.choice([*others, [others[0]] * rng.randrange(5), [others[1]], [others[2]]])
    if isinstance(value, list):
        return [*value[: rng.randrange(4)], *rng.choices(INTEGERS, k=rng.randrange(3))]
    same = [one for one in others if type(one) is type(value)]
    return rng.choice(same) if same else value


def _changed(array: Array, rng: random.Random) -> Array:
    """Return an array with other bytes or another description."""
    data = bytearray(array.data)
    place, length = rng.randrange(len(data)), rng.randrange(1, 9)
    changes: list[Callable[[], bytes]] = [
        lambda: bytes(data[:place]),
        lambda: bytes(data) + rng.randbytes(length),
        lambda: bytes(data[:place]) + rng.randbytes(length) + bytes(data[place + length :]),
        lambda: rng.randbytes(len(data)),
        lambda: b"\x80\x04" + bytes(data[2:]),
        lambda: b"",
    ]
    described = {"dtype": array.dtype, "shape": array.shape, "stype": array.stype}
    described |= rng.choice(
        [{}, {}, {}, {"dtype": "float64"}, {"shape": (4, 8, 1)}, {"stype": rng.choice(WORDS)}]
    )
    return Array(data=rng.choice(changes)(), **described)  # type: ignore[call-overload, no-any-return]


def test_arrays_of_any_name_are_refused() -> None:
    content = pack_round_reply(reply(trained=True), with_arrays=True)
    content[ARRAYS] = ArrayRecord({str(n): Array(np.zeros(1)) for n in range(10_000)})
    with pytest.raises(WireError) as caught:
        unpack_round_reply(content, SHAPES)
    assert len(str(caught.value)) < 1000
