"""Figures over the rounds so far: pace, time left, bytes, replies that were dropped."""

from collections import Counter
from collections.abc import Sequence
from statistics import mean

from fedrsclip_core.runs.records import RoundRecord

_RECENT = 10
"""Rounds whose mean is the pace; enough to hold an evaluation that only some rounds have."""

_SLOW = 5.0
_AT_LEAST_SILENT = 60.0


def seconds(record: RoundRecord) -> float:
    """Return the seconds of a round, training and evaluation together."""
    return record["seconds"] + (record["eval_seconds"] or 0.0)


def lost(record: RoundRecord) -> dict[str, str]:
    """Return why a client's reply was dropped in a round, by client."""
    return {**record["eval_dropped"], **record["clients"]["dropped"]}


def pace(rounds: Sequence[RoundRecord]) -> float | None:
    """Return the mean seconds of the last rounds that trained."""
    trained = [seconds(one) for one in rounds if one["round"] > 0][-_RECENT:]
    return mean(trained) if trained else None


def seconds_left(
    rounds: Sequence[RoundRecord], num_rounds: int | None, since: float
) -> float | None:
    """Estimate the seconds until the last round ends.

    Parameters
    ----------
    rounds : Sequence[RoundRecord]
        The rounds so far.
    num_rounds : int or None
        Rounds of the whole run.
    since : float
        Seconds since the last round ended.
    """
    each = pace(rounds)
    if each is None or num_rounds is None:
        return None
    missing = max(0, num_rounds - rounds[-1]["round"])
    # A round that takes longer than the others is not over.
    return missing * each - min(since, each) if missing else 0.0


def patience(rounds: Sequence[RoundRecord], preparation: float) -> float:
    """Return the seconds of silence after which a run is called silent.

    Parameters
    ----------
    rounds : Sequence[RoundRecord]
        The rounds so far.
    preparation : float
        Seconds that the run may take until its first line.
    """
    if not rounds:
        return preparation
    return max(_AT_LEAST_SILENT, _SLOW * max(map(seconds, rounds)))


def dropped(rounds: Sequence[RoundRecord]) -> list[str]:
    """Say of each client why its replies were dropped so far, and how often."""
    reasons: dict[str, Counter[str]] = {}
    for one in rounds:
        for name, reason in lost(one).items():
            reasons.setdefault(name, Counter())[short(reason)] += 1
    return [
        f"{name}: {', '.join(f'{reason} x {number}' for reason, number in counts.most_common())}"
        for name, counts in sorted(reasons.items())
    ]


def silent_clients(rounds: Sequence[RoundRecord]) -> dict[str, int | None]:
    """Return the clients that did not answer when they were last asked.

    Returns
    -------
    dict[str, int or None]
        By client the round of its last answer; ``None`` if it never answered.
    """
    asked: dict[str, int] = {}
    answered: dict[str, int] = {}
    for one in rounds:
        phases = [one["clients"]["dropped"]]
        if one["eval_seconds"] is not None:
            phases.append(one["eval_dropped"])
        for name, sizes in one["bytes"]["clients"].items():
            asked[name] = one["round"]
            if sizes["up"] and not all(name in phase for phase in phases):
                answered[name] = one["round"]
    return {
        name: answered.get(name)
        for name, last in sorted(asked.items())
        if answered.get(name) != last
    }


def lost_now(record: RoundRecord) -> str:
    """Say whose reply was dropped in one round, and why; empty if nobody's."""
    return ", ".join(f"{name} ({short(reason)})" for name, reason in sorted(lost(record).items()))


def short(reason: str) -> str:
    """Return a reason without its details."""
    return str(reason).partition(":")[0]


def traffic(rounds: Sequence[RoundRecord]) -> tuple[int, int, int]:
    """Return the bytes down and up so far, and the number of exchanges with a client."""
    return (
        sum(one["bytes"]["down"]["message"] for one in rounds),
        sum(one["bytes"]["up"]["message"] for one in rounds),
        sum(len(one["bytes"]["clients"]) for one in rounds),
    )


def zero_shot(rounds: Sequence[RoundRecord]) -> float | None:
    """Return the template's accuracy, which no round changes."""
    known = (one["test"]["zero_shot"] for one in rounds if one["test"])
    return next((value for value in known if value is not None), None)


def evaluated(rounds: Sequence[RoundRecord]) -> list[RoundRecord]:
    """Return the rounds that somebody evaluated."""
    return [one for one in rounds if one["test"] is not None]
