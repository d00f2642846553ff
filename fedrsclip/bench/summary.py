"""Mean and deviation over seeds, and differences between methods on the same splits."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fedrsclip.bench.figures import Row


@dataclass(frozen=True)
class Summary:
    """Mean over seeds and the sample's standard deviation; ``None`` for a single value."""

    mean: float
    deviation: float | None
    number: int


def summarise(values: Iterable[float | None]) -> Summary | None:
    """Summarise the values that there are; ``None`` if there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Summary(statistics.fmean(known), deviation, len(known))


def paired(rows: Sequence[Row], others: Sequence[Row], figure: str) -> Summary | None:
    """Summarise ``rows`` minus ``others`` over the seeds of which both have the figure.

    Rows with another split of the images are no pair.
    """
    partner = {(row["seed"], row.get("split_digest")): row.get(figure) for row in others}
    differences = []
    for row in rows:
        mine, other = row.get(figure), partner.get((row["seed"], row.get("split_digest")))
        if mine is not None and other is not None:
            differences.append(mine - other)
    return summarise(differences)


def text(summary: Summary | None, expected: int, *, signed: bool = False) -> str:
    """Return ``mean ± deviation``; fewer seeds than expected are told in brackets."""
    if summary is None:
        return ""
    form: Callable[[float], str] = "{:+.1f}".format if signed else "{:.1f}".format
    shown = form(summary.mean)
    if summary.deviation is not None:
        shown += f" ± {summary.deviation:.1f}"
    return shown if summary.number == expected else f"{shown} (n={summary.number})"
