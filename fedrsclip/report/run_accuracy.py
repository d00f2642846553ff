"""How good a run is: from zero-shot to personalized, over rounds, by client and by class."""

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedrsclip.report.confusion import Pair, confused, confusion_map, confusion_table
from fedrsclip.report.drawing import (
    BLUE,
    DASHED,
    GREY,
    HALF,
    HEAT,
    INK,
    MUTED,
    ORANGE,
    SURFACE,
    VERMILLION,
    Canvas,
    Cell,
    canvas,
    curve,
    heat_map,
    round_axis,
    share_of,
)
from fedrsclip.report.labels import elided
from fedrsclip.report.panel import Drawn, Table
from fedrsclip.report.reading import Run
from fedrsclip_core.runs.records import ClientResult
from fedrsclip_core.runs.units import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")
NOTHING = "Nothing was evaluated yet."
_LABELS = (("right", (9, 11)), ("left", (9, -21)), ("right", (-8, 11)))
_NUMBERED = 24
"""Up to so many clients carry their number in their dot."""
_MOST = 200
"""Of more clients so many are drawn: nobody tells more apart, and a page of all takes minutes."""
_PARTS = {"train": (BLUE, ""), "val": (GREY, "///"), "test": (ORANGE, "...")}


def zero_shot(run: Run) -> float | None:
    """Return the zero-shot accuracy on test images, which no round changes."""
    found = [test["zero_shot"] for _, test in run.evaluated]
    return next((value for value in found if value is not None), None)


def steps(run: Run) -> Drawn | str:
    """Draw the way from zero-shot over global to personalized, with each client's part of it."""
    if not run.evaluated:
        return NOTHING
    last, test = run.evaluated[-1]
    personal = test["personalized"]
    means = (zero_shot(run), test["global"], personal["mean"] if personal else None)
    known = [(place, value) for place, value in enumerate(means) if value is not None]
    if not known:
        return "There are no test images."
    drawn = canvas(*HALF)
    axes = drawn.axes(y="test accuracy, %")
    _clients_of_steps(axes, drawn, run)
    if personal:
        _worst(axes, drawn, personal["worst"])
    line = curve(axes, *_points(known), INK, "o", linewidth=2.5, markersize=10, zorder=5)
    names = ("zero-shot", "global", "personalized")
    drawn.name(line, "steps", [f"{names[place]}: {percent(value)} %" for place, value in known])
    for place, value in known:
        align, offset = _LABELS[place]
        _say(axes, percent(value), (place, 100 * value), offset, align, size=15)
    axes.set_xticks(range(3), names, color=INK, fontsize=12)
    axes.set(xlim=(-0.2, 2.25), ylim=(0, 100))
    rows = [(names[place], percent(value)) for place, value in known]
    rows += [("worst client, personalized", percent(personal["worst"]))] if personal else []
    spoken = ", ".join(f"{name} {value} %" for name, value in rows)
    return Drawn(
        drawn,
        f"Test accuracy in round {last['round']}: {spoken}.",
        Table(("test accuracy", "%"), rows),
        "Thick: all clients together, personalized as their mean. Thin: each client, from the "
        "shared side alone to shared and private side together.",
    )


def over_rounds(run: Run) -> Drawn | str:
    """Draw each mode's test accuracy over rounds, and the span of the clients."""
    if not run.evaluated:
        return NOTHING
    drawn = canvas(*HALF)
    axes = drawn.axes(x="round", y="test accuracy, %")
    shown = [(one["round"], test) for one, test in run.evaluated]
    personal = [(number, t["personalized"]) for number, t in shown if t["personalized"]]
    if personal:
        x = [number for number, _ in personal]
        low, high = [100 * p["worst"] for _, p in personal], [100 * p["best"] for _, p in personal]
        band = axes.fill_between(
            x, low, high, color=VERMILLION, alpha=0.14, linewidth=0, label="worst to best client"
        )
        band.set_gid("span")
    base = zero_shot(run)
    if base is not None:
        line = axes.axhline(100 * base, color=GREY, linestyle=DASHED, linewidth=2)
        line.set_gid("zero-shot")
        line.set_label("zero-shot")
    known = [(number, t["global"]) for number, t in shown if t["global"] is not None]
    means = [(number, p["mean"]) for number, p in personal]
    sampled = {one["round"] for one, _ in run.evaluated if one["sampled"]}
    _mode(axes, drawn, known, sampled, ("global", BLUE, "s"))
    _mode(axes, drawn, means, sampled, ("personalized", VERMILLION, "o"))
    if sampled:
        axes.plot([], [], "o", color=GREY, fillstyle="none", label="sampled clients only")
    round_axis(axes, 0, max(int(run.config.get("federation.num_rounds", 1)), shown[-1][0], 1))
    axes.set_ylim(0, 100)
    drawn.legend(2)
    return Drawn(
        drawn,
        _spoken({"global": known, "personalized": means}),
        _accuracy_table(run),
        "The shaded band reaches from the worst to the best client."
        + (" Hollow: only sampled clients evaluated this round." if sampled else ""),
    )


def clients(run: Run) -> Drawn | str:
    """Draw a dot per client: global against personalized, as large as it has images."""
    if run.results is None:
        return "The clients' own figures come with the last evaluation, at the end of a run."
    known = [c for c in run.results["clients"] if _pair(c) is not None]
    if not known:
        return "The method has only one of global and personalized, or no client was evaluated."
    everyone = [_pair(c) or (0.0, 0.0) for c in known]
    gained, count = sum(p[1] > p[0] for p in everyone), len(known)
    known, pairs = _spread(known), _spread(everyone)
    drawn = canvas(*HALF)
    axes = drawn.axes(x="global, % of own test images", y="personalized, %", grid="both")
    axes.plot([0, 100], [0, 100], color=GREY, linestyle=DASHED, linewidth=1.5, zorder=1)
    axes.annotate("equal", (84, 84), (8, -10), textcoords="offset points", color=MUTED, fontsize=11)
    most = max(c["num_train"] for c in known) or 1
    dots = axes.scatter(
        [100 * p[0] for p in pairs],
        [100 * p[1] for p in pairs],
        s=[80 + 420 * c["num_train"] / most for c in known],
        color=VERMILLION,
        alpha=0.8,
        edgecolor=SURFACE,
        linewidth=1.5,
        zorder=3,
    )
    drawn.name(dots, "clients", [_tip(c) for c in known])
    if len(known) <= _NUMBERED:
        for client, (x, y) in zip(known, pairs, strict=True):
            axes.annotate(
                str(client["partition_id"]),
                (100 * x, 100 * y),
                color=SURFACE,
                zorder=4,
                fontsize=10,
                fontweight="bold",
                ha="center",
                va="center",
            )
    axes.set(xlim=(-3, 103), ylim=(-3, 106))
    return Drawn(
        drawn,
        f"One dot per client; personalized is above global for {gained} of {count}.",
        _client_table(_spread(run.results["clients"])),
        "Above the dashed line the private side helps. The larger a dot, the more training "
        f"images; its number is the client's.{_some_of(count)}",
    )


def partition(run: Run) -> Drawn | str:
    """Draw training images by client and class, or only by client where that is all we know."""
    counts = list(run.label_counts.values())
    if not counts or len({len(row) for row in counts}) != 1:
        return _totals(run)
    held = (np.array(counts) > 0).sum(axis=1)
    matrix, clients = np.array(_spread(counts), dtype=np.int64), _spread(list(run.label_counts))
    names = _names(run, matrix.shape[1])
    shares = share_of(matrix)
    cells = [
        Cell(k, c, str(matrix[k, c]), shares[k, c], HEAT, f"{client}, {name}: {matrix[k, c]}")
        for k, client in enumerate(clients)
        for c, name in enumerate(names)
        if matrix[k, c]
    ]
    drawn = heat_map(cells, clients, names)
    rows = [(client, *map(str, row)) for client, row in zip(clients, matrix.tolist(), strict=True)]
    return Drawn(
        drawn,
        f"Training images of {len(counts)} clients and {len(names)} classes; a client has "
        f"{held.min()} to {held.max()} classes.",
        Table(("client", *names), rows),
        "Training images of each client and class, as the clients told the server."
        f"{_some_of(len(counts))}",
    )


def confusion(run: Run) -> Drawn | str:
    """Draw which class is taken for which, over the test images of all clients."""
    if run.answers.absent:
        return run.answers.absent
    mode, matrix = _shown(run)
    names = run.answers.class_names
    drawn = confusion_map(matrix, names)
    right = int(matrix.trace())
    return Drawn(
        drawn,
        f"Confusion matrix, {mode}: {right} of {matrix.sum()} test images are right.",
        confusion_table(matrix, names),
        f"Test images of all clients, {mode}: blue is right, red is wrong; the stronger, the more "
        "of a row's images. From the clients' own files on this machine.",
    )


def worst_pairs(run: Run) -> list[Pair]:
    """Return the pairs of classes that are confused most often, most first."""
    if run.answers.absent:
        return []
    _, matrix = _shown(run)
    return confused(matrix, run.answers.class_names)


def _spread(clients: Sequence[T]) -> list[T]:
    """Return all clients, or of too many some that are as far apart as can be."""
    count = len(clients)
    return [clients[k * count // _MOST] for k in range(_MOST)] if count > _MOST else list(clients)


def _some_of(count: int) -> str:
    return f" Shown are {_MOST} of {count}; results.json has all." if count > _MOST else ""


def _points(known: Sequence[tuple[int, float]]) -> tuple[list[float], list[float]]:
    return [place for place, _ in known], [100 * value for _, value in known]


def _clients_of_steps(axes: "Axes", drawn: Canvas, run: Run) -> None:
    pairs = [(c["name"], _pair(c)) for c in (run.results["clients"] if run.results else ())]
    known = _spread([(name, pair) for name, pair in pairs if pair is not None])
    for _, (before, after) in known:
        axes.plot([1, 2], [100 * before, 100 * after], color=VERMILLION, alpha=0.3, linewidth=1.5)
    if known:
        dots = axes.scatter(
            [place for _ in known for place in (1, 2)],
            [100 * value for _, pair in known for value in pair],
            s=22,
            color=VERMILLION,
            alpha=0.45,
            linewidth=0,
            zorder=2,
        )
        drawn.name(
            dots,
            "clients",
            [
                f"{name}, {mode}: {percent(value)} %"
                for name, pair in known
                for mode, value in zip(("global", "personalized"), pair, strict=True)
            ],
        )


def _worst(axes: "Axes", drawn: Canvas, value: float) -> None:
    line = curve(axes, [2], [100 * value], VERMILLION, "v", markersize=10, zorder=5)
    drawn.name(line, "worst", [f"worst client: {percent(value)} %"])
    _say(axes, f"worst {percent(value)}", (2, 100 * value), (12, -22), "right", size=12)


def _say(
    axes: "Axes",
    text: str,
    place: tuple[float, float],
    offset: tuple[float, float],
    align: str,
    size: float,
) -> None:
    """Write beside a point; the page gives such texts a rim where lines cross them."""
    note = axes.annotate(
        text,
        place,
        offset,
        textcoords="offset points",
        ha=align,
        color=INK,
        fontsize=size,
        fontweight="bold",
        zorder=6,
    )
    note.set_gid(f"rim-{text.replace(' ', '-')}")


def _mode(
    axes: "Axes",
    drawn: Canvas,
    known: Sequence[tuple[int, float]],
    sampled: Container[int],
    look: tuple[str, str, str],
) -> None:
    if not known:
        return
    name, color, marker = look
    line = curve(axes, *_points(known), color, marker, label=name, zorder=4)
    drawn.name(line, name, [f"round {n}, {name}: {percent(value)} %" for n, value in known])
    hollow = [point for point in known if point[0] in sampled]
    if hollow:
        curve(axes, *_points(hollow), SURFACE, marker, linestyle="", markersize=3, zorder=5)


def _spoken(series: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    parts = []
    for name, values in series.items():
        if values:
            (first, start), (last, end) = values[0], values[-1]
            parts.append(
                f"{name} from {percent(start)} % in round {first} to {percent(end)} % in {last}"
            )
    return "Test accuracy over rounds: " + ("; ".join(parts) or "zero-shot alone") + "."


def _accuracy_table(run: Run) -> Table:
    header = ("round", "global", "personalized", "deviation", "worst", "best", "own classes")
    rows = []
    for one, test in run.evaluated:
        personal, own = test["personalized"], test["personalized_own"]
        spread: list[float | None] = [None] * 4
        if personal is not None:
            spread = [personal["mean"], personal["std"], personal["worst"], personal["best"]]
        figures = [test["global"], *spread, own["mean"] if own else None]
        number = f"{one['round']}{' (sampled)' if one['sampled'] else ''}"
        rows.append((number, *map(percent, figures)))
    return Table(header, rows)


def _pair(client: ClientResult) -> tuple[float, float] | None:
    test = (client["last"] or {}).get("test") or {}
    before, after = test.get("global"), test.get("personalized")
    return None if before is None or after is None else (before, after)


def _tip(client: ClientResult) -> str:
    before, after = _pair(client) or (None, None)
    return (
        f"{client['name']}: global {percent(before)} %, personalized {percent(after)} %, "
        f"{client['num_train']} training images"
    )


def _client_table(found: Sequence[ClientResult]) -> Table:
    header = ("client", "number", "train", "val", "test", "global", "personalized", "own classes")
    rows = []
    for client in found:
        test = (client["last"] or {}).get("test") or {}
        modes = [test.get(mode) for mode in ("global", "personalized", "personalized_own")]
        who = (client["name"], client["partition_id"], *_sizes(client).values())
        rows.append((*map(str, who), *map(percent, modes)))
    return Table(header, rows)


def _sizes(client: ClientResult) -> dict[str, int]:
    """Return the images of each part of the split."""
    return {"train": client["num_train"], "val": client["num_val"], "test": client["num_test"]}


def _shown(run: Run) -> tuple[str, NDArray[np.int64]]:
    return next(iter(run.answers.confusions.items()))


def _names(run: Run, number: int) -> tuple[str, ...]:
    if len(run.class_names) == number:
        return run.class_names
    return tuple(f"class {index}" for index in range(number))


def _totals(run: Run) -> Drawn | str:
    everyone = run.results["clients"] if run.results else []
    clients = _spread(everyone)
    if not clients:
        return "How many images each client has is known when the run has ended."
    size = (HALF[0], max(HALF[1], 90 + 22 * len(clients)))
    drawn = canvas(*size)
    axes = drawn.axes(x="images", grid="x")
    left = np.zeros(len(clients))
    for part, (color, hatch) in _PARTS.items():
        sizes = np.array([_sizes(client)[part] for client in clients])
        bars = axes.barh(
            range(len(clients)), sizes, left=left, color=color, hatch=hatch, label=part, height=0.6
        )
        for client, bar, count in zip(clients, bars, sizes, strict=True):
            tip = f"{client['name']}, {part}: {count}"
            drawn.name(bar, f"{part}-{client['name']}", [tip])
        left = left + sizes
    axes.set_yticks(range(len(clients)), [elided(client["name"]) for client in clients])
    axes.invert_yaxis()
    drawn.legend()
    rows = [(client["name"], *map(str, _sizes(client).values())) for client in clients]
    shared = "did not share" if not run.shares_counts else "did not all tell"
    return Drawn(
        drawn,
        f"Images of {len(everyone)} clients by part of the split.",
        Table(("client", *_PARTS), rows),
        f"The clients {shared} which classes they have; these are their numbers of images."
        f"{_some_of(len(everyone))}",
    )
