"""Mean and deviation over seeds, and differences between methods on the same splits."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from fedrsclip.bench import optional
from fedrsclip.bench.figures import Row
from fedrsclip.bench.optional import MIN_PAIRS

_DIGITS = 9


@dataclass(frozen=True)
class Summary:
    """Mean over seeds and the sample's standard deviation; ``None`` for a single value."""

    mean: float
    deviation: float | None
    number: int


@dataclass(frozen=True)
class Difference(Summary):
    """Paired differences: how many seeds are above and below zero, and Wilcoxon's p-value."""

    up: int
    down: int
    p: float | None


def summarise(values: Iterable[float | None]) -> Summary | None:
    """Summarise the values that there are; ``None`` if there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Summary(statistics.fmean(known), deviation, len(known))


def paired(rows: Sequence[Row], others: Sequence[Row], figure: str) -> Difference | None:
    """Summarise ``rows`` minus ``others`` over the seeds of which both have the figure.

    Rows with another split of the images are no pair.
    """
    partner = {(row["seed"], row.get("split_digest")): row.get(figure) for row in others}
    differences = []
    for row in rows:
        mine, other = row.get(figure), partner.get((row["seed"], row.get("split_digest")))
        if mine is not None and other is not None:
            # Equal accuracies can differ in their last bits: a tie is no rank.
            differences.append(round(mine - other, _DIGITS))
    found = summarise(differences)
    if found is None:
        return None
    up, down = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Difference(
        found.mean, found.deviation, found.number, up, down, significance(differences)
    )


def significance(differences: Sequence[float]) -> float | None:
    """Return the p-value of the two-sided Wilcoxon signed-rank test.

    ``None`` below six pairs: five that all point one way still have a p-value of 0.06.
    """
    if len(differences) < MIN_PAIRS:
        return None
    if not any(differences):
        return 1.0
    return _wilcoxon(tuple(differences))


@cache
def _wilcoxon(differences: tuple[float, ...]) -> float:
    """Test once: with ties it goes through permutations, and tables are made after each cell."""
    optional.check("a Wilcoxon test")
    from scipy.stats import wilcoxon  # type: ignore[import-untyped]

    return float(wilcoxon(differences).pvalue)


def text(summary: Summary | None, expected: int, *, signed: bool = False) -> str:
    """Return ``mean ± deviation``; fewer seeds than expected are told in brackets."""
    if summary is None:
        return ""
    form: Callable[[float], str] = "{:+.1f}".format if signed else "{:.1f}".format
    shown = form(summary.mean)
    if summary.deviation is not None:
        shown += f" ± {summary.deviation:.1f}"
    return shown if summary.number == expected else f"{shown} (n={summary.number})"


def difference_text(difference: Difference | None, expected: int) -> str:
    """Return ``+mean ± deviation, seeds up:down, p=value``; one pair is only its difference."""
    if difference is None:
        return ""
    shown = text(difference, expected, signed=True)
    if difference.number > 1:
        shown += f", {difference.up}:{difference.down}"
    return shown if difference.p is None else f"{shown}, p={difference.p:.2g}"
