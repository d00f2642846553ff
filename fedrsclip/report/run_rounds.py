"""What happened in a run's rounds: losses, cosines, bytes, lost answers, seconds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from fedrsclip.report.drawing import (
    BLUE,
    GREEN,
    HALF,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Bars,
    canvas,
    curve,
    round_axis,
)
from fedrsclip.report.panel import Drawn, Table
from fedrsclip.report.reading import Run
from fedrsclip_core.runs.records import Way
from fedrsclip_core.runs.units import duration, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = Mapping[str, Sequence[tuple[int, float]]]

_TERMS = {
    "loss": ("total", INK, "o", "-"),
    "loss_fused": ("fused", VERMILLION, "s", "-"),
    "loss_shared": ("shared", BLUE, "^", (0, (5, 2))),
    "loss_private": ("private", PURPLE, "v", (0, (1.5, 1.5))),
    "loss_dpac": ("dpac", GREEN, "D", (0, (6, 2, 1.5, 2))),
    "loss_cmfac": ("cmfac", ORANGE, "P", (0, (3, 2))),
    "loss_contrast": ("contrast", SKY, "X", (0, (1, 1))),
}
_COSINES = {
    "loss_dpac": ("cos(T_s, T_k), pulled up by DPAC", GREEN, "D"),
    "loss_cmfac": ("text and image, pulled up by CMFAC", ORANGE, "P"),
}
# The other forms weigh cosines by class, or are no cosines of these features.
_PLAIN_FORMS = {
    "loss_dpac": ("loss.dpac_form", ("all", "own")),
    "loss_cmfac": ("loss.cmfac_form", ("pull",)),
}
_NO_ROUND = "No round is complete yet."
_WAYS: dict[Way, Bars] = {
    "down": Bars("down", BLUE, width=0.38, offset=-0.2),
    "up": Bars("up", ORANGE, "///", 0.38, 0.2),
}
_VALID, _DROPPED = Bars("valid", BLUE), Bars("dropped", VERMILLION, "xxx")
_TRAINING, _EVALUATION = Bars("training", BLUE), Bars("evaluation of its own", ORANGE, "///")


def losses(run: Run) -> Drawn | str:
    """Draw the mean loss of each round by term, without the terms' weights."""
    series = {term: found for term in _TERMS if (found := _series(run, term))}
    if not series:
        return "No round has trained yet." if _trains(run) else "The method trains nothing."
    drawn = canvas(*HALF)
    axes = drawn.axes(x="round", y="mean loss")
    for term, known in series.items():
        name, color, marker, dash = _TERMS[term]
        x, y = zip(*known, strict=True)
        line = curve(axes, x, y, color, marker, label=name, linestyle=dash, markersize=5.5)
        drawn.name(line, term, [f"round {n}, {name}: {value:.4g}" for n, value in known])
    _whole_run(axes, run)
    drawn.legend(4)
    axes.set_ylim(0, None)
    names = ", ".join(_TERMS[term][0] for term in series)
    return Drawn(
        drawn,
        f"Mean loss of each round by term: {names}.",
        _table(series, {term: _TERMS[term][0] for term in series}),
        "Means over steps and, weighted by examples, over clients. The total is the weighted sum; "
        "the terms are shown without their weights.",
    )


def cosines(run: Run) -> Drawn | str:
    """Draw the cosines that DPAC and CMFAC are one minus of."""
    series = {
        term: [(number, 1 - value) for number, value in found]
        for term in _COSINES
        if _is_cosine(run, term) and (found := _series(run, term))
    }
    if not series:
        return (
            "This run has no cosine: it is known only where the loss has the constraint's term "
            "(loss.lambda_dpac, loss.lambda_cmfac) as a plain mean (loss.dpac_form=all or own, "
            "loss.cmfac_form=pull)."
        )
    drawn = canvas(*HALF)
    axes = drawn.axes(x="round", y="cosine similarity")
    for term, known in series.items():
        name, color, marker = _COSINES[term]
        x, y = zip(*known, strict=True)
        line = curve(axes, x, y, color, marker, label=name)
        drawn.name(line, term, [f"round {n}: cosine {value:.4f}" for n, value in known])
    _whole_run(axes, run)
    drawn.legend(1)
    low = min(value for known in series.values() for _, value in known)
    axes.set_ylim(min(0.0, low - 0.05), 1.02)
    absent = [_COSINES[t][0].partition(", pulled")[0] for t in _COSINES if t not in series]
    missing = (
        f" Not known here, as the loss has no plain mean of it: {absent[0]}." if absent else ""
    )
    return Drawn(
        drawn,
        "; ".join(
            f"{_COSINES[term][0]}: from {known[0][1]:.3f} to {known[-1][1]:.3f}"
            for term, known in series.items()
        )
        + ".",
        _table(series, {term: _COSINES[term][0] for term in series}),
        "Text features of shared and private side of a class, and of the fused text with the "
        f"images of its class, while training.{missing}",
    )


def traffic(run: Run) -> Drawn | str:
    """Draw the bytes of each round, down to the clients and up from them."""
    if not run.records:
        return _NO_ROUND
    numbers = [r["round"] for r in run.records]
    sent = {way: [r["bytes"][way]["message"] for r in run.records] for way in _WAYS}
    unit, scale = _unit(max(map(max, sent.values())))
    drawn = canvas(*HALF)
    axes = drawn.axes(x="round", y=f"{unit} in this round")
    for way, bars in _WAYS.items():
        sizes = sent[way]
        tips = [f"round {n}, {way}: {s} bytes" for n, s in zip(numbers, sizes, strict=True)]
        bars.draw(drawn, axes, numbers, [value / scale for value in sizes], tips)
    _room_for_bars(axes, run)
    drawn.legend()
    total = {way: sum(values) for way, values in sent.items()}
    payload = {way: sum(r["bytes"][way]["payload"] for r in run.records) for way in sent}
    rows = [
        (
            str(r["round"]),
            *(str(n) for w in sent for n in (r["bytes"][w]["message"], r["bytes"][w]["payload"])),
        )
        for r in run.records
    ]
    return Drawn(
        drawn,
        f"Bytes of each round; in all {size(total['down'])} down and {size(total['up'])} up.",
        Table(("round", "down", "of which shared", "up", "of which shared"), rows),
        f"In all {size(total['down'])} down and {size(total['up'])} up, of which shared tensors "
        f"{size(payload['down'])} and {size(payload['up'])}.",
    )


def participation(run: Run) -> Drawn | str:
    """Draw how many clients were asked in each round and whose answers counted."""
    from matplotlib.ticker import MaxNLocator

    asked = [r for r in run.records if r["clients"]["asked"]]
    if not asked:
        return "No client was asked to train."
    drawn = canvas(*HALF)
    axes = drawn.axes(x="round", y="clients")
    numbers = [r["round"] for r in asked]
    valid = [r["clients"]["valid"] for r in asked]
    dropped = [r["clients"]["asked"] - r["clients"]["valid"] for r in asked]
    for bars, heights, low in ((_VALID, valid, 0), (_DROPPED, dropped, valid)):
        if any(heights):
            tips = [f"round {n}: {h} {bars.name}" for n, h in zip(numbers, heights, strict=True)]
            bars.draw(drawn, axes, numbers, heights, tips, low)
    _room_for_bars(axes, run, first=1)
    drawn.legend()
    axes.set_ylim(0, max(r["clients"]["asked"] for r in asked) * 1.05)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    counted = f"{sum(valid)} of {sum(valid) + sum(dropped)} training answers counted."
    rows = [
        (
            str(r["round"]),
            str(r["clients"]["asked"]),
            str(r["clients"]["valid"]),
            _reasons(r["clients"]["dropped"]),
            _reasons(r["eval_dropped"]),
            r["failure"],
        )
        for r in asked
    ]
    return Drawn(
        drawn,
        counted,
        Table(("round", "asked", "valid", "dropped", "dropped in evaluation", "failure"), rows),
        counted,
    )


def dropped(run: Run) -> Table:
    """Return how often each client's answers were dropped, by reason."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for record in run.records:
        found = (("training", record["clients"]["dropped"]), ("evaluation", record["eval_dropped"]))
        for phase, lost in found:
            counts.update((name, phase, reason) for name, reason in lost.items())
    rows = [(*key, str(number)) for key, number in sorted(counts.items())]
    return Table(("client", "in", "reason", "times"), rows)


def stages(run: Run) -> Drawn | str:
    """Draw the seconds of each round by stage."""
    if not run.records:
        return _NO_ROUND
    drawn = canvas(*HALF)
    axes = drawn.axes(x="round", y="seconds")
    numbers = [r["round"] for r in run.records]
    training = [float(r["seconds"]) for r in run.records]
    # None: training and evaluation were one exchange.
    evaluation = [float(r["eval_seconds"] or 0) for r in run.records]
    for bars, heights, low in ((_TRAINING, training, 0), (_EVALUATION, evaluation, training)):
        tips = [f"round {n}, {bars.name}: {h:.2f} s" for n, h in zip(numbers, heights, strict=True)]
        bars.draw(drawn, axes, numbers, heights, tips, low)
    _room_for_bars(axes, run)
    drawn.legend()
    parts = {"training": sum(training), "evaluation": sum(evaluation)}
    if run.results is not None:
        rest = run.results["seconds"] - sum(parts.values())
        parts["start, preparation and writing"] = max(0.0, rest)
    spoken = ", ".join(f"{name} {duration(value)}" for name, value in parts.items())
    return Drawn(
        drawn,
        f"Seconds by stage: {spoken}.",
        Table(("stage", "seconds"), [(name, f"{value:.2f}") for name, value in parts.items()]),
        f"In all: {spoken}. A round's training also evaluates what it received.",
    )


def _series(run: Run, term: str) -> list[tuple[int, float]]:
    found = [(r["round"], (r["loss"] or {}).get(term)) for r in run.records]
    return [(number, value) for number, value in found if value is not None and isfinite(value)]


def _is_cosine(run: Run, term: str) -> bool:
    key, plain = _PLAIN_FORMS[term]
    return run.config.get(key, plain[0]) in plain


def _trains(run: Run) -> bool:
    return bool(run.config.get("federation.num_rounds"))


def _whole_run(axes: "Axes", run: Run) -> None:
    last = max(record["round"] for record in run.records)
    round_axis(axes, 1, max(last, int(run.config.get("federation.num_rounds", 1))))


def _table(series: Series, names: Mapping[str, str]) -> Table:
    numbers = sorted({number for known in series.values() for number, _ in known})
    columns = [dict(known) for known in series.values()]
    rows: Sequence[Sequence[str]] = [
        (str(n), *(f"{c[n]:.4f}" if n in c else "" for c in columns)) for n in numbers
    ]
    return Table(("round", *names.values()), rows)


def _unit(largest: float) -> tuple[str, float]:
    return next((u, s) for u, s in (("MB", 1e6), ("kB", 1e3), ("B", 1.0)) if largest >= s or s == 1)


def _room_for_bars(axes: "Axes", run: Run, first: int = 0) -> None:
    last = max(record["round"] for record in run.records)
    round_axis(axes, first, max(last, first))
    low, high = axes.get_xlim()
    axes.set_xlim(low - 0.3, high + 0.3)


def _reasons(lost: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {reason}" for name, reason in lost.items())
