"""What a run cost: bytes, lost answers, seconds."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fedrsclip.report.axes import HALF, Bars, legend, plain, rounds
from fedrsclip.report.palette import BLUE, ORANGE, VERMILLION
from fedrsclip.report.panel import Drawn, Table
from fedrsclip.report.run_folder import Run
from fedrsclip.report.svg import canvas
from fedrsclip_core.runs.units import duration, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NO_ROUND = "No round is complete yet."
_WAYS = (Bars("down", BLUE, width=0.38, offset=-0.2), Bars("up", ORANGE, "///", 0.38, 0.2))
_VALID, _DROPPED = Bars("valid", BLUE), Bars("dropped", VERMILLION, "xxx")
_TRAINING, _EVALUATION = Bars("training", BLUE), Bars("evaluation of its own", ORANGE, "///")


def traffic(run: Run) -> Drawn | str:
    """Draw the bytes of each round, down to the clients and up from them."""
    if not run.records:
        return _NO_ROUND
    numbers = [r["round"] for r in run.records]
    sent = {bars.name: [r["bytes"][bars.name]["message"] for r in run.records] for bars in _WAYS}
    unit, scale = _unit(max(map(max, sent.values())))
    drawn = canvas(*HALF)
    axes = plain(drawn.axes(), x="round", y=f"{unit} in this round")
    for bars in _WAYS:
        sizes = sent[bars.name]
        tips = [f"round {n}, {bars.name}: {s} bytes" for n, s in zip(numbers, sizes, strict=True)]
        bars.draw(drawn, axes, numbers, [value / scale for value in sizes], tips)
    _finish(axes, run)
    total = {way: sum(values) for way, values in sent.items()}
    payload = {way: sum(r["bytes"][way]["payload"] for r in run.records) for way in sent}
    rows = [
        (str(r["round"]), *(str(r["bytes"][w][k]) for w in sent for k in ("message", "payload")))
        for r in run.records
    ]
    return Drawn(
        drawn,
        f"Bytes of each round; in all {size(total['down'])} down and {size(total['up'])} up.",
        Table(("round", "down", "of which prompts", "up", "of which prompts"), rows),
        f"In all {size(total['down'])} down and {size(total['up'])} up, of which shared prompts "
        f"{size(payload['down'])} and {size(payload['up'])}.",
        HALF,
    )


def participation(run: Run) -> Drawn | str:
    """Draw how many clients were asked in each round and whose answers counted."""
    from matplotlib.ticker import MaxNLocator

    asked = [r for r in run.records if r["clients"]["asked"]]
    if not asked:
        return "No client was asked to train."
    drawn = canvas(*HALF)
    axes = plain(drawn.axes(), x="round", y="clients")
    numbers = [r["round"] for r in asked]
    valid = [r["clients"]["valid"] for r in asked]
    dropped = [r["clients"]["asked"] - r["clients"]["valid"] for r in asked]
    for bars, heights, low in ((_VALID, valid, 0), (_DROPPED, dropped, valid)):
        if any(heights):
            tips = [f"round {n}: {h} {bars.name}" for n, h in zip(numbers, heights, strict=True)]
            bars.draw(drawn, axes, numbers, heights, tips, low)
    _finish(axes, run, first=1)
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
            r.get("failure") or "",
        )
        for r in asked
    ]
    return Drawn(
        drawn,
        counted,
        Table(("round", "asked", "valid", "dropped", "dropped in evaluation", "failure"), rows),
        counted,
        HALF,
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
    axes = plain(drawn.axes(), x="round", y="seconds")
    numbers = [r["round"] for r in run.records]
    training = [float(r["seconds"]) for r in run.records]
    # None: training and evaluation were one exchange.
    evaluation = [float(r["eval_seconds"] or 0) for r in run.records]
    for bars, heights, low in ((_TRAINING, training, 0), (_EVALUATION, evaluation, training)):
        tips = [f"round {n}, {bars.name}: {h:.2f} s" for n, h in zip(numbers, heights, strict=True)]
        bars.draw(drawn, axes, numbers, heights, tips, low)
    _finish(axes, run)
    parts = {"training": sum(training), "evaluation": sum(evaluation)}
    if run.results is not None:
        rest = run.results["seconds"] - sum(parts.values())
        parts["start, preparation and writing"] = max(0.0, rest)
    spoken = ", ".join(f"{name} {duration(value)}" for name, value in parts.items())
    return Drawn(
        drawn,
        f"Seconds by stage: {spoken}.",
        Table(("stage", "seconds"), [(name, f"{value:.2f}") for name, value in parts.items()]),
        f"In all: {spoken}. A round's training also evaluates the prompts that it received.",
        HALF,
    )


def _unit(largest: float) -> tuple[str, float]:
    return next((u, s) for u, s in (("MB", 1e6), ("kB", 1e3), ("B", 1.0)) if largest >= s or s == 1)


def _finish(axes: "Axes", run: Run, first: int = 0) -> None:
    last = max(record["round"] for record in run.records)
    rounds(axes, first, max(last, first))
    low, high = axes.get_xlim()
    axes.set_xlim(low - 0.3, high + 0.3)
    legend(axes)


def _reasons(lost: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {reason}" for name, reason in lost.items())
