"""A benchmark's figures: methods beside each other, in one setting each."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from fedrsclip.bench.summary import Summary, summarise, text
from fedrsclip.report.bench_folder import Bench, Curve
from fedrsclip.report.drawing import (
    BLUE,
    DASHED,
    DASHES,
    GREEN,
    GREY,
    HALF,
    INK,
    MARKERS,
    PURPLE,
    SERIES,
    SURFACE,
    VERMILLION,
    canvas,
    round_axis,
)
from fedrsclip.report.panel import Drawn, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIGURES = ((BLUE, "s"), (VERMILLION, "o"), (GREEN, "v"), (PURPLE, "D"))
_ROW, _LEGEND_ROW = 30, 17
_DECADE = 10
_MODES = {"global": 1, "personalized": 2}
"""Where a curve has them."""


def by_method(bench: Bench, setting: str) -> Drawn | str:
    """Draw mean and deviation of the compared figures, a row per method."""
    methods = bench.of(setting)
    found: dict[str, list[Summary | None]] = {}
    for title in bench.layout.compared:
        key = bench.layout.main[title]
        values = [summarise(row.get(key) for row in rows) for rows in methods.values()]
        if any(values):
            found[title] = values
    if not found:
        return "No cell of this setting is completed."
    size = (HALF[0], max(HALF[1], 80 + _ROW * len(methods)))
    drawn = canvas(*size)
    axes = drawn.axes(x="test images, %", grid="x")
    base = summarise(row.get("test_zero_shot") for rows in methods.values() for row in rows)
    if base is not None:
        line = axes.axvline(base.mean, color=GREY, linestyle=DASHED, linewidth=1.5)
        line.set_label("zero-shot")
        line.set_gid("zero-shot")
    for index, (title, values) in enumerate(found.items()):
        color, marker = _FIGURES[index % len(_FIGURES)]
        shift = 0.17 * (index - (len(found) - 1) / 2)
        known = [(row + shift, v) for row, v in enumerate(values) if v is not None]
        names = [name for name, v in zip(methods, values, strict=True) if v is not None]
        _whiskers(axes, [(v.mean, v.deviation, y) for y, v in known], color)
        (line,) = axes.plot(
            [v.mean for _, v in known],
            [y for y, _ in known],
            linestyle="",
            marker=marker,
            color=color,
            markersize=7,
            markeredgecolor=SURFACE,
            label=title,
            clip_on=False,
        )
        tips = [
            f"{name}, {title}: {text(v, bench.num_seeds)} %"
            for name, (_, v) in zip(names, known, strict=True)
        ]
        drawn.name(line, f"figure-{index}", tips)
    axes.set_yticks(range(len(methods)), list(methods), color=INK, fontsize=12)
    axes.set(ylim=(len(methods) - 0.5, -0.5), xlim=(0, 100))
    drawn.legend(3)
    return Drawn(
        drawn,
        f"{', '.join(found)} of {len(methods)} methods in the setting {setting}.",
        _methods_table(methods, found, bench.num_seeds),
        "Mean over seeds, with its deviation.",
    )


def over_rounds(bench: Bench, setting: str, mode: str) -> Drawn | str:
    """Draw the mean test accuracy of each method over rounds, with its deviation over seeds."""
    found = {
        method: points
        for method in bench.methods
        if (points := _mean_curve(bench.curves.get((setting, method), ()), _MODES[mode]))
    }
    if not found:
        return f"No completed cell has {mode} accuracies over rounds."
    size = (HALF[0], HALF[1] + _LEGEND_ROW * ((len(found) + 1) // 2))
    drawn = canvas(*size)
    axes = drawn.axes(x="round", y=f"{mode}, % of test images")
    for method, points in found.items():
        style = method_style(bench, method)
        x, mean, deviation, _ = zip(*points, strict=True)
        low = [m - d for m, d in zip(mean, deviation, strict=True)]
        high = [m + d for m, d in zip(mean, deviation, strict=True)]
        if any(deviation):
            band = axes.fill_between(x, low, high, color=style["color"], alpha=0.13, linewidth=0)
            band.set_gid(f"band-{slug(method)}")
        every = max(1, len(x) // 8)
        (line,) = axes.plot(x, mean, label=method, linewidth=2, markevery=every, **style)
        line.set_gid(f"curve-{slug(method)}")
    numbers = [number for points in found.values() for number, *_ in points]
    round_axis(axes, min(numbers), max(numbers))
    drawn.legend(2)
    rows = [
        (method, str(number), f"{mean:.1f}", f"{deviation:.1f}", str(seeds))
        for method, points in found.items()
        for number, mean, deviation, seeds in points
    ]
    return Drawn(
        drawn,
        f"Mean {mode} test accuracy of {len(found)} methods over rounds, last: "
        + ", ".join(f"{method} {points[-1][1]:.1f} %" for method, points in found.items())
        + ".",
        Table(("method", "round", "mean", "deviation", "seeds"), rows),
        "Mean over seeds; the bands are its deviation. Rounds that every seed has evaluated.",
    )


def bytes_and_accuracy(bench: Bench, setting: str) -> Drawn | str:
    """Draw what each method's runs send against what they reach."""
    found: dict[str, list[tuple[int, float, float]]] = {}
    for method, rows in bench.of(setting).items():
        known = [(int(r["seed"]), _sent(r), _reached(r)) for r in rows]
        whole = [(s, sent, got) for s, sent, got in known if sent and got is not None]
        if whole:
            found[method] = whole
    if not found:
        return "No completed cell has bytes and an accuracy."
    size = (HALF[0], HALF[1] + _LEGEND_ROW * ((len(found) + 1) // 2))
    drawn = canvas(*size)
    axes = drawn.axes(x="kB per run, down and up", y="test accuracy, %", grid="both")
    for method in sorted(found, key=bench.methods.index):
        style = method_style(bench, method) | {"linestyle": ""}
        seeds, sent, got = zip(*found[method], strict=True)
        (dots,) = axes.plot(sent, got, alpha=0.35, **(style | {"markersize": 5}))
        tips = [
            f"{method}, seed {s}: {b:.1f} kB, {a:.1f} %"
            for s, b, a in zip(seeds, sent, got, strict=True)
        ]
        drawn.name(dots, f"seeds-{slug(method)}", tips)
        mean = (fmean(sent), fmean(got))
        (dot,) = axes.plot([mean[0]], [mean[1]], label=method, **(style | {"markersize": 10}))
        tip = f"{method}: {mean[0]:.1f} kB, {mean[1]:.1f} %"
        drawn.name(dot, f"mean-{slug(method)}", [tip])
    axes.set_ylim(0, 100)
    _kilobytes(axes, [sent for known in found.values() for _, sent, _ in known])
    drawn.legend(2)
    rows_ = [
        (method, f"{fmean(s for _, s, _ in known):.1f}", f"{fmean(a for _, _, a in known):.1f}")
        for method, known in found.items()
    ]
    return Drawn(
        drawn,
        "Kilobytes per run against test accuracy: "
        + ", ".join(f"{name} {sent} kB and {got} %" for name, sent, got in rows_)
        + ".",
        Table(("method", "kB", "accuracy, %"), rows_),
        "Large: mean over seeds; small: each seed. Personalized accuracy where there is one, else "
        "global or zero-shot.",
    )


def against_reference(bench: Bench, setting: str) -> Drawn | str:
    """Draw how far each method, ablations among them, is from the reference."""
    if bench.reference is None:
        return "The benchmark names no reference."
    figures = {t: bench.layout.main[t] for t in bench.layout.compared[:2]}
    every = bench.differences(setting, figures)
    found = {name: values for name, values in every.items() if any(values.values())}
    if not found:
        return f"No completed cell has a partner of {bench.reference}."
    size = (HALF[0], 90 + 40 * len(found))
    drawn = canvas(*size)
    axes = drawn.axes(x=f"points against {bench.reference}", grid="x")
    for index, title in enumerate(figures):
        color, hatch = _FIGURES[index][0], ("", "///")[index]
        known = [(row, v[title]) for row, v in enumerate(found.values()) if v[title] is not None]
        places = [row + 0.36 * (index - 0.5) for row, _ in known]
        bars = axes.barh(
            places,
            [v.mean for _, v in known if v],
            0.34,
            color=color,
            hatch=hatch,
            edgecolor=SURFACE,
            linewidth=0,
            label=title,
        )
        for bar, (row, value) in zip(bars, known, strict=True):
            name = list(found)[row]
            tip = f"{name}, {title}: {text(value, bench.num_seeds, signed=True)} points"
            drawn.name(bar, f"bar-{index}-{slug(name)}", [tip])
        _whiskers(
            axes,
            [(v.mean, v.deviation, y) for y, (_, v) in zip(places, known, strict=True) if v],
            INK,
        )
    axes.axvline(0, color=GREY, linewidth=1.5)
    axes.set_yticks(range(len(found)), list(found), color=INK, fontsize=12)
    axes.set_ylim(len(found) - 0.5, -0.5)
    drawn.legend()
    rows = [
        (name, *(text(v[t], bench.num_seeds, signed=True) for t in figures))
        for name, v in found.items()
    ]
    return Drawn(
        drawn,
        f"Differences to {bench.reference} in points: "
        + "; ".join(
            f"{name}: " + ", ".join(map(" ".join, zip(figures, values, strict=True)))
            for name, *values in rows
        )
        + ".",
        Table(("method", *figures), rows),
        f"Left of zero it is worse than {bench.reference}. Paired over seeds, with the deviation.",
    )


def _kilobytes(axes: "Axes", sent: Sequence[float]) -> None:
    """Show sizes that are far apart on a logarithmic scale, with plain numbers."""
    if max(sent) < _DECADE * min(sent):
        axes.set_xlim(0, 1.08 * max(sent))
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.tick_params(which="minor", length=0)
    axes.set_xlim(0.7 * min(sent), 1.4 * max(sent))


def _whiskers(
    axes: "Axes", places: Sequence[tuple[float, float | None, float]], color: str
) -> None:
    for mean, deviation, y in places:
        if deviation:
            axes.plot(
                [mean - deviation, mean + deviation],
                [y, y],
                color=color,
                linewidth=1.6,
                solid_capstyle="butt",
                alpha=0.8,
            )


def method_style(bench: Bench, method: str) -> dict[str, Any]:
    """Return how a method looks in every figure of a benchmark."""
    index = bench.methods.index(method)
    return {
        "color": SERIES[index % len(SERIES)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[(index + index // len(SERIES)) % len(DASHES)],
        "markersize": 6.5,
        "markeredgecolor": SURFACE,
    }


def _mean_curve(curves: Sequence[Curve], column: int) -> list[tuple[int, float, float, int]]:
    """Return round, mean, deviation and number of seeds where every seed has a value."""
    values: dict[int, list[float]] = {}
    for curve in curves:
        for point in curve:
            if (value := point[column]) is not None:
                values.setdefault(point[0], []).append(float(value))
    return [
        (number, fmean(found), stdev(found) if len(found) > 1 else 0.0, len(found))
        for number, found in sorted(values.items())
        if len(found) == len(curves)
    ]


def _sent(row: Mapping[str, Any]) -> float | None:
    down, up = row.get("bytes_down"), row.get("bytes_up")
    return None if down is None or up is None else (down + up) / 1e3


def _reached(row: Mapping[str, Any]) -> float | None:
    keys = ("test_personalized", "test_global", "test_zero_shot")
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _methods_table(
    methods: Mapping[str, object], found: Mapping[str, Sequence[Summary | None]], seeds: int
) -> Table:
    rows = [
        (name, *(text(values[i], seeds) for values in found.values()))
        for i, name in enumerate(methods)
    ]
    return Table(("method", *found), rows)


def slug(name: str) -> str:
    """Return a name as a part of an id."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)
