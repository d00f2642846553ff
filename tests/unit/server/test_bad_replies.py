"""Replies outside the contract are dropped, named and counted."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, MetricRecord, RecordDict

from fedrsclip_core.config.shared_tensors import (
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
)
from fedrsclip_core.wire.messages import EVALUATE, TRAIN
from fedrsclip_core.wire.records import ARRAYS, METRICS, NUM_EXAMPLES
from tests.unit.server.fake_runs import (
    arrays,
    counts,
    go,
    one_array,
    raise_failure,
    raise_secret,
    records,
    start_prompt,
)
from tests.unit.server.fakes import Fakes, Handler, small_config

pytestmark = pytest.mark.unit


def extra_record(partition, message, answer):  # type: ignore[no-untyped-def]
    answer["pixels"] = MetricRecord({"x": 1})
    return answer


def no_records(partition, message, answer):  # type: ignore[no-untyped-def]
    return RecordDict()


def fewer_test_images(partition, message, answer):  # type: ignore[no-untyped-def]
    for mode in ("global", "personalized", "personalized-own", "zero-shot"):
        answer[METRICS].pop(f"test-{mode}-correct", None)
    answer[METRICS]["test-total"] = 1
    return answer


def without(part: str) -> Handler:
    def handler(partition, message, answer):  # type: ignore[no-untyped-def]
        for name in [name for name in answer[METRICS] if name.startswith(part)]:
            del answer[METRICS][name]
        return answer

    return handler


def trailing_bytes(partition, message, answer):  # type: ignore[no-untyped-def]
    array = answer[ARRAYS][SHARED_PROMPT]
    answer[ARRAYS][SHARED_PROMPT] = Array(
        dtype=array.dtype, shape=array.shape, stype=array.stype, data=array.data + bytes(1000)
    )
    return answer


BAD = {
    "keys": (arrays(lambda v: {"private_prompt": v}), "bad-reply: arrays are {private_prompt}"),
    "extra tensor": (
        arrays(lambda v: {SHARED_PROMPT: v, "gate": v}),
        "bad-reply: arrays are {gate",
    ),
    "shape": (arrays(lambda v: {SHARED_PROMPT: v[:2].copy()}), "bad-reply: shared_prompt"),
    "dtype": (arrays(lambda v: {SHARED_PROMPT: v.astype(np.float64)}), "bad-reply: shared_prompt"),
    "nan": (arrays(lambda v: {SHARED_PROMPT: v * np.float32("nan")}), "bad-reply: shared_prompt"),
    "infinity": (
        arrays(lambda v: {SHARED_PROMPT: v + np.float32("inf")}),
        "bad-reply: shared_prompt",
    ),
    "huge norm": (
        arrays(lambda v: {SHARED_PROMPT: v + np.float32(1e30)}),
        "bad-reply: the norm of shared_prompt is 5.66e+30, federation.max_prompt_norm is 1000",
    ),
    "larger": (
        arrays(lambda v: {SHARED_PROMPT: np.zeros((100, 500), np.float32)}),
        "bad-reply: shared_prompt is not declared",
    ),
    "huge": (
        arrays(lambda v: {SHARED_PROMPT: np.zeros((2000, 500), np.float32)}),
        "bad-reply: it has 4000128 bytes of arrays",
    ),
    "record": (extra_record, "bad-reply: records are {arrays, metrics, pixels}"),
    "empty": (no_records, "bad-reply: records are {}"),
    "metric": (counts({"free-text": 1}), "bad-reply: unknown metric 'free-text'"),
    "no examples": (counts({NUM_EXAMPLES: 0}), "bad-reply: num-examples is 0"),
    "too many examples": (counts({NUM_EXAMPLES: 10**6}), "bad-reply: num-examples is 1000000"),
    "total": (counts({"test-total": 10**12}), "bad-reply: test-total is 1000000000000, but it to"),
    "fewer": (fewer_test_images, "bad-reply: test-total is 1, but it told 10"),
    "no total": (without("val"), "bad-reply: val-total is None, but it told 5"),
    "all right": (counts({"val-global-correct": 6}), "bad-reply: val-global-correct is 6 of 5"),
    "steps": (counts({"num-steps": 2**62}), "bad-reply: num-steps is 4611686018427387904, a"),
    "seconds": (counts({"seconds": 1e9}), "bad-reply: seconds is 1e+09, but it had 0"),
    "below zero": (counts({"seconds": -1e9}), "bad-reply: metric seconds has a value outside"),
    "loss": (counts({"loss": 1e308}), "bad-reply: metric loss has a value outside"),
    "sums too early": (
        counts({"val-global-cross-entropies": [1.0] * 41, "val-total": 5}),
        "bad-reply: val-global-cross-entropies are of 5 validation images",
    ),
    "trailing": (trailing_bytes, "bad-reply: the 1256 bytes of shared_prompt are not those of"),
    "failure": (raise_failure, "private-store"),
    "exception": (raise_secret, "internal"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_reply_is_dropped_named_and_not_aggregated(case: str) -> None:
    script, reason = BAD[case]
    fakes = Fakes(small_config(num_rounds=1), scripts={(TRAIN, 1): script})
    lines: list[str] = []
    outcome = go(fakes, lines)
    np.testing.assert_allclose(
        outcome.shared[SHARED_PROMPT],
        start_prompt(fakes.config) + (1 * 10 + 3 * 30) / 40,
        atol=1e-5,
    )
    record = records(outcome.folder)[1]
    assert record["clients"]["asked"] == 3
    assert record["clients"]["valid"] == 2
    assert record["clients"]["dropped"].keys() == {"client-1"}
    assert record["clients"]["dropped"]["client-1"].startswith(reason)
    code = reason.split(":")[0]
    assert outcome.results["dropped"] == {"total": 1, "clients": {"client-1": {code: 1}}}
    assert any("dropped client client-1" in line for line in lines)
    assert "secret" not in "".join(lines) + (outcome.folder / "results.json").read_text()


@pytest.mark.parametrize("name", [SHARED_PROMPT, SHARED_OFFSETS_U, SHARED_OFFSETS_V])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda v: v[:1, :1].copy(), "bad-reply: {} is not declared with shape"),
        (lambda v: v.astype(np.float64), "bad-reply: {} is not declared as float32"),
        (lambda v: v * np.float32("nan"), "bad-reply: {} holds NaN or infinity"),
        (lambda v: v + np.float32(1e6), "bad-reply: the norm of {} is"),
    ],
)
def test_each_shared_tensor_is_checked(
    name: str, change: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    config = small_config(num_rounds=1)
    config.prompt.shared_offsets = "rank:2"
    outcome = go(Fakes(config, scripts={(TRAIN, 1): one_array(name, change)}))
    dropped = records(outcome.folder)[1]["clients"]["dropped"]
    assert dropped.keys() == {"client-1"}
    assert dropped["client-1"].startswith(reason.format(name))
    np.testing.assert_allclose(outcome.shared[SHARED_OFFSETS_V], (1 * 10 + 3 * 30) / 40, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num-steps": 1}, "num-steps is 1, a round has at most 0"),
        ({"loss": 1.0}, "an evaluation has no losses"),
        ({NUM_EXAMPLES: 21}, "num-examples is 21 of 20 training images"),
        ({"val-total": 10**12, "val-global-correct": 10**12}, "val-total is 1000000000000, but"),
    ],
)
def test_numbers_that_no_evaluation_has_are_refused(changes: dict[str, float], reason: str) -> None:
    outcome = go(Fakes(small_config(num_rounds=1), scripts={(EVALUATE, 1): counts(changes)}))
    assert outcome.results["status"] == "completed"
    for record in records(outcome.folder):
        assert record["eval_dropped"]["client-1"].startswith(f"bad-reply: {reason}")
        assert record["test"]["images"] == 20


def test_sums_that_belong_to_the_last_evaluation_are_refused_before() -> None:
    ten = {partition: {"num_val": 10} for partition in range(3)}
    honest = counts({"val-total": 10})
    early = counts({"val-total": 10, "val-global-cross-entropies": [1.0] * 41})
    scripts = {(kind, p): honest for kind in (TRAIN, EVALUATE) for p in range(3)}
    scripts[TRAIN, 1] = scripts[EVALUATE, 1] = early
    outcome = go(Fakes(small_config(num_rounds=1), scripts=scripts, identities=ten))
    start, last = records(outcome.folder)
    why = "bad-reply: cross-entropies belong to the last evaluation"
    assert start["eval_dropped"] == {"client-1": why}
    assert last["clients"]["dropped"] == {"client-1": why}
    assert last["eval_dropped"] == {}


def test_a_missing_reply_is_a_timeout() -> None:
    fakes = Fakes(small_config(num_rounds=1), silent={(TRAIN, 2)})
    record = records(go(fakes).folder)[1]
    assert record["clients"]["dropped"] == {"client-2": "timeout"}
    assert record["seconds"] == pytest.approx(0.3)
