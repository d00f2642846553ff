"""How the benchmark of kills judges a run."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.kills import KINDS, PROGRAMS, Federation, Kill, judge

pytestmark = pytest.mark.unit

KILL = Kill("a message's process", "north", 0.5, at=100.0, round=3)


def federation(*valid: int) -> Federation:
    """A run whose round ``n`` ended at ``10 * n`` seconds after the kill, with so many replies."""
    records = [{"clients": {"valid": number}} for number in valid]
    found: Any = SimpleNamespace(
        records=lambda: records, ends={n: 100.0 + 10 * n for n in range(9)}
    )
    return cast(Federation, found)


@pytest.mark.parametrize(
    ("valid", "expected"),
    [
        ((2, 1, 1, 2, 2, 2, 2), (0, 30.0)),
        ((2, 2, 2, 1, 2, 2, 2), (1, 40.0)),
        ((2, 2, 2, 1, 1, 2, 2), (2, 50.0)),
        ((2, 2, 2, 2, 1, 2, 2), (1, 50.0)),
    ],
)
def test_all_answer_again_at_the_end_of_the_first_whole_round_after_the_last_other(
    valid: tuple[int, ...], expected: tuple[int, float]
) -> None:
    assert judge(federation(*valid), KILL, len(valid)) == expected


@pytest.mark.parametrize("valid", [(2, 2, 2, 1, 1, 1, 2), (2, 2, 2, 2, 2, 2, 1)])
def test_a_site_that_is_missed_for_longer_is_a_failure(valid: tuple[int, ...]) -> None:
    with pytest.raises(SystemExit, match="lack a site"):
        judge(federation(*valid), KILL, len(valid))


def test_every_kind_is_among_thirty_kills() -> None:
    assert set(KINDS) == set(PROGRAMS) and len(KINDS) <= 15
