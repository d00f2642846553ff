"""What training did: loss by term, and the cosines that the two constraints work on."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from fedrsclip.report.axes import HALF, curve, legend, plain, rounds
from fedrsclip.report.palette import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILLION
from fedrsclip.report.panel import Drawn, Table
from fedrsclip.report.run_folder import Run
from fedrsclip.report.svg import canvas

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


def losses(run: Run) -> Drawn | str:
    """Draw the mean loss of each round by term, without the terms' weights."""
    series = {term: found for term in _TERMS if (found := _series(run, term))}
    if not series:
        return "No round has trained yet." if _trains(run) else "The method trains nothing."
    drawn = canvas(*HALF)
    axes = plain(drawn.axes(), x="round", y="mean loss")
    for term, known in series.items():
        name, color, marker, dash = _TERMS[term]
        x, y = zip(*known, strict=True)
        line = curve(axes, x, y, color, marker, label=name, linestyle=dash, markersize=5.5)
        drawn.name(line, term, [f"round {n}, {name}: {value:.4g}" for n, value in known])
    _finish(axes, run, columns=4)
    axes.set_ylim(0, None)
    names = ", ".join(_TERMS[term][0] for term in series)
    return Drawn(
        drawn,
        f"Mean loss of each round by term: {names}.",
        _table(series, {term: _TERMS[term][0] for term in series}),
        "Means over steps and, weighted by examples, over clients. The total is the weighted sum; "
        "the terms are shown without their weights.",
        HALF,
    )


def cosines(run: Run) -> Drawn | str:
    """Draw the cosines that DPAC and CMFAC are one minus of."""
    series = {
        term: [(number, 1 - value) for number, value in found]
        for term in _COSINES
        if (found := _series(run, term))
    }
    if not series:
        return (
            "This run has no cosine: it is known only where the loss has the constraint's term "
            "(loss.lambda_dpac, loss.lambda_cmfac)."
        )
    drawn = canvas(*HALF)
    axes = plain(drawn.axes(), x="round", y="cosine similarity")
    for term, known in series.items():
        name, color, marker = _COSINES[term]
        x, y = zip(*known, strict=True)
        line = curve(axes, x, y, color, marker, label=name)
        drawn.name(line, term, [f"round {n}: cosine {value:.4f}" for n, value in known])
    _finish(axes, run, columns=1)
    low = min(value for known in series.values() for _, value in known)
    axes.set_ylim(min(0.0, low - 0.05), 1.02)
    absent = [_COSINES[t][0].partition(", pulled")[0] for t in _COSINES if t not in series]
    missing = f" Not known here, as the loss lacks the term: {absent[0]}." if absent else ""
    return Drawn(
        drawn,
        "; ".join(
            f"{_COSINES[term][0]}: from {known[0][1]:.3f} to {known[-1][1]:.3f}"
            for term, known in series.items()
        )
        + ".",
        _table(series, {term: _COSINES[term][0] for term in series}),
        "Text features of shared and private prompt of a class, and of the fused text with the "
        f"images of its class, while training.{missing}",
        HALF,
    )


def _series(run: Run, term: str) -> list[tuple[int, float]]:
    found = [(r["round"], (r["loss"] or {}).get(term)) for r in run.records]
    return [(number, value) for number, value in found if value is not None and isfinite(value)]


def _trains(run: Run) -> bool:
    return bool(run.config.get("federation.num_rounds"))


def _finish(axes: "Axes", run: Run, columns: int) -> None:
    last = max(record["round"] for record in run.records)
    rounds(axes, 1, max(last, int(run.config.get("federation.num_rounds", 1))))
    legend(axes, columns)


def _table(series: Series, names: Mapping[str, str]) -> Table:
    numbers = sorted({number for known in series.values() for number, _ in known})
    columns = [dict(known) for known in series.values()]
    rows: Sequence[Sequence[str]] = [
        (str(n), *(f"{c[n]:.4f}" if n in c else "" for c in columns)) for n in numbers
    ]
    return Table(("round", *names.values()), rows)
