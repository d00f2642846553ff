"""Figures over the rounds so far: pace, time left, bytes, replies that were dropped."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import mean

from fedrsclip.watch.rounds import Accuracies, Round

_RECENT = 10
"""Rounds whose mean is the pace; enough to hold an evaluation that only some rounds have."""

_SLOW = 5.0
_AT_LEAST_SILENT = 60.0


def pace(rounds: Sequence[Round]) -> float | None:
    """Return the mean seconds of the last rounds that trained."""
    trained = [one.seconds for one in rounds if one.server_round > 0][-_RECENT:]
    return mean(trained) if trained else None


def seconds_left(rounds: Sequence[Round], num_rounds: int | None, since: float) -> float | None:
    """Estimate the seconds until the last round ends.

    Parameters
    ----------
    rounds : Sequence[Round]
        The rounds so far.
    num_rounds : int or None
        Rounds of the whole run.
    since : float
        Seconds since the last round ended.
    """
    each = pace(rounds)
    if each is None or num_rounds is None:
        return None
    missing = max(0, num_rounds - rounds[-1].server_round)
    # A round that takes longer than the others is not over.
    return missing * each - min(since, each) if missing else 0.0


def patience(rounds: Sequence[Round], preparation: float) -> float:
    """Return the seconds of silence after which a run is called silent.

    Parameters
    ----------
    rounds : Sequence[Round]
        The rounds so far.
    preparation : float
        Seconds that the run may take until its first line.
    """
    if not rounds:
        return preparation
    return max(_AT_LEAST_SILENT, _SLOW * max(one.seconds for one in rounds))


def dropped(rounds: Sequence[Round]) -> list[str]:
    """Say of each client why its replies were dropped so far, and how often."""
    reasons: dict[str, Counter[str]] = {}
    for one in rounds:
        for name, reason in one.lost.items():
            reasons.setdefault(name, Counter())[short(reason)] += 1
    return [
        f"{name}: {', '.join(f'{reason} x {number}' for reason, number in counts.most_common())}"
        for name, counts in sorted(reasons.items())
    ]


def lost_now(lost: Mapping[str, str]) -> str:
    """Say whose reply was dropped in one round, and why; empty if nobody's."""
    return ", ".join(f"{name} ({short(reason)})" for name, reason in sorted(lost.items()))


def short(reason: str) -> str:
    """Return a reason without its details."""
    return str(reason).partition(":")[0]


def traffic(rounds: Sequence[Round]) -> tuple[int, int, int]:
    """Return the bytes down and up so far, and the number of exchanges with a client."""
    return (
        sum(one.bytes_down for one in rounds),
        sum(one.bytes_up for one in rounds),
        sum(one.exchanged for one in rounds),
    )


def zero_shot(rounds: Sequence[Round]) -> float | None:
    """Return the template's accuracy, which no round changes."""
    known = [one.test.zero_shot for one in rounds if one.test and one.test.zero_shot is not None]
    return known[0] if known else None


def evaluated(rounds: Sequence[Round]) -> list[tuple[int, Accuracies]]:
    """Return the evaluations so far with their rounds' numbers."""
    return [(one.server_round, one.test) for one in rounds if one.test is not None]
