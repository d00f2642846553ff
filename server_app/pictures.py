"""The two pictures of a run: who holds which classes, and accuracy over rounds."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.runs import fileio
from server_app.labels import class_names
from server_app.results import RunState

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = NDArray[np.float64]
Record = dict[str, Any]

_BLUE, _ORANGE, _GREY = "#2166ac", "#d95f02", "#666666"


def attempt(
    draw: Callable[[RunState], "Figure"], path: Path, state: RunState, echo: Callable[[str], None]
) -> None:
    """Draw into ``path``; a picture that cannot be drawn must not cost the run its figures."""
    try:
        picture = BytesIO()
        draw(state).savefig(picture, format="png", dpi=150, bbox_inches="tight")
        fileio.write_bytes(path, picture.getvalue())
    except Exception as error:
        echo(f"{path.name} was not drawn ({type(error).__name__}: {error})")


def draw_partition(state: RunState) -> "Figure":
    """Draw training images per client and class, or per client where classes are not shared."""
    counts = [client.identity.label_counts for client in state.roster.clients]
    if counts and all(counts) and len({len(row) for row in counts}) == 1:
        return _heat_map(state, np.array(counts))
    return _totals(state)


def draw_accuracy(state: RunState) -> "Figure":
    """Draw the test accuracy of each evaluation mode over rounds."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(7.2, 4.2)
    records: list[Record] = [dict(one) for one in state.records if one["test"] is not None]
    _global_curve(axes, records)
    _personalized_curve(axes, records)
    if any(record["sampled"] for record in records):
        axes.plot([], [], "o", color=_GREY, fillstyle="none", label="only sampled clients")
    zero_shot = next((r["test"]["zero_shot"] for r in records if r["round"] == 0), None)
    if zero_shot is not None:
        axes.axhline(100 * zero_shot, color=_GREY, linestyle="--", label="zero-shot")
    last = max([record["round"] for record in records] + [1])
    axes.set(xlim=(-0.02 * last, 1.02 * last), ylim=(0, 100))
    axes.set(xlabel="round", ylabel="test accuracy, %", title=_title(state))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="best")
    return figure


def _global_curve(axes: "Axes", records: Sequence[Record]) -> None:
    known = [record for record in records if record["test"]["global"] is not None]
    if known:
        values = np.array([record["test"]["global"] for record in known])
        _curve(axes, known, values, "global (shared prompt alone)", _BLUE)


def _personalized_curve(axes: "Axes", records: Sequence[Record]) -> None:
    known = [record for record in records if record["test"]["personalized"]]
    if not known:
        return
    mean, worst, best = (
        np.array([record["test"]["personalized"][name] for record in known])
        for name in ("mean", "worst", "best")
    )
    rounds = [record["round"] for record in known]
    _curve(axes, known, mean, "personalized (mean of clients)", _ORANGE)
    axes.fill_between(
        rounds,
        100 * worst,
        100 * best,
        color=_ORANGE,
        alpha=0.15,
        linewidth=0,
        label="worst to best client",
    )


def _curve(axes: "Axes", records: Sequence[Record], values: Values, label: str, color: str) -> None:
    """Draw a line; rounds that only some clients evaluated get hollow markers."""
    rounds = np.array([record["round"] for record in records])
    sampled = np.array([bool(record["sampled"]) for record in records])
    axes.plot(rounds, 100 * values, "-", color=color, label=label)
    for some, style in ((sampled, "none"), (~sampled, "full")):
        axes.plot(
            rounds[some], 100 * values[some], "o", color=color, markersize=4.5, fillstyle=style
        )


def _heat_map(state: RunState, counts: NDArray[np.int64]) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    num_clients, num_classes = counts.shape
    figure, axes = _figure(2.2 + 0.42 * num_classes, 1.8 + 0.36 * num_clients)
    shown = np.where(counts > 0, counts, np.nan)
    image = axes.imshow(shown, cmap="Blues", vmin=0, vmax=counts.max(), aspect="auto")
    axes.set_facecolor("#f4f4f4")
    names = class_names(state.config.data)
    if len(names) != num_classes:
        names = [f"class {index}" for index in range(num_classes)]
    axes.set_xticks(range(num_classes), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(num_clients), [client.name for client in state.roster.clients])
    axes.set_xticks(np.arange(num_classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(num_clients + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    if counts.size <= 1000:
        dark = counts > 0.55 * counts.max()
        for (row, column), count in np.ndenumerate(counts):
            if count:
                ink = "white" if dark[row, column] else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=ink)
    figure.colorbar(image, ax=axes, label="training images", pad=0.02).ax.yaxis.set_major_locator(
        MaxNLocator(integer=True)
    )
    axes.set_title(_title(state))
    return figure


def _totals(state: RunState) -> "Figure":
    clients = state.roster.clients
    figure, axes = _figure(7.2, 1.6 + 0.36 * len(clients))
    left = np.zeros(len(clients))
    rows = np.arange(len(clients))
    for part, color in (("train", _BLUE), ("val", _GREY), ("test", _ORANGE)):
        sizes = np.array([getattr(client.identity, f"num_{part}") for client in clients])
        axes.barh(rows, sizes, left=left, color=color, label=part)
        left = left + sizes
    axes.set_yticks(rows, [client.name for client in clients])
    axes.invert_yaxis()
    axes.set(xlabel="images", title=_title(state))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _title(state: RunState) -> str:
    return f"{state.run_name}: {state.config.method}, {len(state.roster.clients)} clients"


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    """Return an empty figure that belongs to no window and to no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(width, 40), min(height, 40)))
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()
