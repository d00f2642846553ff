"""A benchmark's picture of what each method sends in a round and what it reaches with that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedrsclip.bench.summary import Summary, summarise, text
from fedrsclip.report.bench_figures import method_style, slug
from fedrsclip.report.bench_folder import Bench
from fedrsclip.report.drawing import DASHED, GREY, HALF, MUTED, SURFACE, Canvas, canvas
from fedrsclip.report.panel import Drawn, Table
from fedrsclip.report.reading import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODES = ("global", "personalized")

_SMALLEST = 1e3
"""Bytes at which the axis begins, if no method sends less."""
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_LEGEND_ROW = 17
_ROOM = 4.0
"""Factor between places at the ends of the axis; those that send nothing stand one lower."""
_COMPUTED = {"lora_per_round": "LoRA", "clip_per_round": "all of CLIP"}


@dataclass(frozen=True)
class _Point:
    """A method: its mean bytes, 0 for none, and its accuracy; whether it sends them only once."""

    method: str
    sent: float
    reached: Summary
    once: bool


def bytes_per_round(bench: Bench, setting: str, mode: str) -> Drawn | str:
    """Draw accuracy over the bytes that one client sends to the server in a round."""
    points = _points(bench, setting, mode)
    if not points:
        return f"No completed cell has {mode} accuracy and the bytes of a round."
    sizes = _computed(bench, setting)
    drawn = canvas(HALF[0], HALF[1] + _LEGEND_ROW * ((len(points) + 1) // 2))
    axes = drawn.axes(
        x="sent by a client in a round (logarithmic)", y=f"{mode}, % of test images", grid="both"
    )
    low = min([_SMALLEST, *(point.sent for point in points if point.sent)])
    high = max([*(point.sent for point in points), *sizes.values(), _ROOM * low])
    for point in sorted(points, key=lambda point: bench.methods.index(point.method)):
        _mark(drawn, axes, bench, point, low / _ROOM)
    for name, size in sizes.items():
        line = axes.axvline(size, color=GREY, linestyle=DASHED, linewidth=1.2)
        line.set_gid(f"size-{slug(name)}")
        axes.annotate(
            name,
            (size, 1),
            xycoords=("data", "axes fraction"),
            rotation=90,
            ha="right",
            va="top",
            color=MUTED,
            fontsize=10,
        )
    _byte_axis(axes, low, high, any(not point.sent for point in points))
    axes.set_ylim(0, 100)
    drawn.legend(2)
    rows = [(p.method, _size(p), text(p.reached, bench.num_seeds)) for p in points]
    rows += [(name, _bytes(size), "") for name, size in sizes.items()]
    return Drawn(
        drawn,
        f"Bytes that a client sends in a round against {mode} test accuracy: "
        + ", ".join(f"{name} {sent} and {found} %" for name, sent, found in rows if found)
        + ".",
        Table(("method", "a client and round", f"{mode}, %"), rows),
        "Mean over seeds with its deviation; hollow: sent once, not in each round. Counted are the "
        "numbers alone, one way; those of LoRA (rank 8) and of all of CLIP are computed.",
    )


def _points(bench: Bench, setting: str, mode: str) -> list[_Point]:
    found = []
    for method, rows in bench.of(setting).items():
        reached = summarise(row.get(f"test_{mode}") for row in rows)
        sent = summarise(row.get("bytes_per_round") for row in rows)
        if reached is None or sent is None:
            continue
        once = all(row.get("round") == 1 for row in rows if row.get("round") is not None)
        found.append(_Point(method, sent.mean, reached, once and sent.mean > 0))
    return found


def _computed(bench: Bench, setting: str) -> dict[str, float]:
    """Return the bytes of what others would send, by name."""
    rows: list[Json] = [row for of_method in bench.of(setting).values() for row in of_method]
    known = {name: summarise(row.get(key) for row in rows) for key, name in _COMPUTED.items()}
    return {name: one.mean for name, one in known.items() if one is not None}


def _mark(drawn: Canvas, axes: "Axes", bench: Bench, point: _Point, nowhere: float) -> None:
    style = method_style(bench, point.method) | {"linestyle": "", "markersize": 8}
    if point.once:
        style |= {"markerfacecolor": SURFACE, "markeredgecolor": style["color"]}
    place, reached = point.sent or nowhere, point.reached
    if reached.deviation:
        ends = [reached.mean - reached.deviation, reached.mean + reached.deviation]
        axes.plot([place, place], ends, color=style["color"], linewidth=1.4, alpha=0.8)
    label = f"{point.method} (once)" if point.once else point.method
    (dot,) = axes.plot([place], [reached.mean], label=label, clip_on=False, **style)
    tip = f"{point.method}: {_size(point)}, {text(reached, bench.num_seeds)} %"
    drawn.name(dot, f"sent-{slug(point.method)}", [tip])


def _byte_axis(axes: "Axes", low: float, high: float, nowhere: bool) -> None:
    """Make the x axis one of bytes, with a place for those that send nothing."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axes.set_xscale("log")
    powers = [10.0**k for k in range(12) if low <= 10.0**k <= _ROOM * high]
    places = [*([low / _ROOM] if nowhere else []), *powers]
    names: Sequence[str] = [*(["none"] if nowhere else []), *map(_bytes, powers)]
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FixedFormatter(names))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(low / _ROOM**2, _ROOM * high)


def _size(point: _Point) -> str:
    return (_bytes(point.sent) + (" once" if point.once else "")) if point.sent else "nothing"


def _bytes(size: float) -> str:
    factor, unit = next(one for one in _UNITS if size >= one[0] or one[0] == 1)
    return f"{size / factor:.3g} {unit}"
