"""Which values of parsed JSON are of a type."""

from typing import Any

import pytest

from fedrsclip_core.runs.records import (
    ClientResult,
    Ending,
    Results,
    RoundRecord,
    Spread,
    UnreadableError,
    conforms,
    parse_object,
)
from tests.run_files import results, round_record, spread

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        (True, float, False),
        ("1", float, False),
        (True, bool, True),
        (1, bool, False),
        (None, None, True),
        (None, int | None, True),
        ("", int | None, False),
        ([1, 2], list[int], True),
        ([1, "2"], list[int], False),
        ({"a": 1}, dict[str, int], True),
        ({"a": None}, dict[str, int], False),
        ([], dict[str, int], False),
        ({"x": []}, dict[str, Any], True),
    ],
)
def test_plain_values(value: object, kind: object, fits: bool) -> None:
    assert conforms(value, kind) is fits


@pytest.mark.parametrize(("value", "kind"), [(spread(0.5), Spread), (round_record(1), RoundRecord)])
def test_every_key_is_needed_and_others_are_let_be(value: dict[str, Any], kind: type) -> None:
    assert conforms(value, kind)
    assert conforms(value | {"of a later version": 1}, kind)
    for key in value:
        assert not conforms({k: v for k, v in value.items() if k != key}, kind)
        assert not conforms(value | {key: object()}, kind)


def test_damage_deep_inside_is_found() -> None:
    ended: Any = results("first")
    assert conforms(ended, Results)
    ended["last"]["test"]["personalized"]["mean"] = "0.5"
    assert not conforms(ended, Results)


def test_a_clients_figures_are_not_checked_with_the_file() -> None:
    client: Any = results("first")["clients"][0]
    assert conforms(client | {"last": 7}, ClientResult)
    assert not conforms(client | {"num_train": "7"}, ClientResult)


def test_an_ending_needs_no_reason() -> None:
    assert conforms({"status": "completed"}, Ending)
    assert not conforms({"status": "failed", "reason": 1}, Ending)


@pytest.mark.parametrize("number", ["18446744073709551615", "1e30", "-1e30", "0.1"])
def test_numbers_of_a_configuration_or_a_run_are_read(number: str) -> None:
    assert parse_object(f'{{"a": [{number}]}}'.encode(), "f", dict[str, Any])


@pytest.mark.parametrize("number", ["18446744073709551616", "1e200", "-1e999", "NaN", "Infinity"])
def test_numbers_that_no_run_has_are_damage(number: str) -> None:
    with pytest.raises(UnreadableError, match="a number that no run has"):
        parse_object(f'{{"a": [{number}]}}'.encode(), "f", dict[str, Any])
