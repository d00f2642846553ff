"""Classes: who has which, and which are taken for which."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrsclip.report.axes import HALF, legend, plain
from fedrsclip.report.heat import Cell, heat_map, share_of
from fedrsclip.report.palette import BLUE, GREY, HEAT, ORANGE, VERMILLION
from fedrsclip.report.panel import Drawn, Table
from fedrsclip.report.run_folder import Run
from fedrsclip.report.svg import canvas
from fedrsclip_core.runs.units import percent

_WORST = 10
_PARTS = {"train": (BLUE, ""), "val": (GREY, "///"), "test": (ORANGE, "...")}


@dataclass(frozen=True)
class Pair:
    """Two classes, and how many test images of the first were taken for the second."""

    true: str
    answered: str
    images: int
    of: int

    @property
    def share(self) -> str:
        """Of all test images of the class, in per cent."""
        return percent(self.images / self.of)


def partition(run: Run) -> Drawn | str:
    """Draw training images by client and class, or only by client where that is all we know."""
    counts = list(run.label_counts.values())
    if not counts or len({len(row) for row in counts}) != 1:
        return _totals(run)
    matrix = np.array(counts, dtype=np.int64)
    clients = list(run.label_counts)
    names = _names(run, matrix.shape[1])
    shares = share_of(matrix)
    cells = [
        Cell(k, c, str(matrix[k, c]), shares[k, c], HEAT, f"{client}, {name}: {matrix[k, c]}")
        for k, client in enumerate(clients)
        for c, name in enumerate(names)
        if matrix[k, c]
    ]
    drawn, size = heat_map(cells, clients, names)
    held = (matrix > 0).sum(axis=1)
    rows = [(client, *map(str, row)) for client, row in zip(clients, matrix.tolist(), strict=True)]
    return Drawn(
        drawn,
        f"Training images of {len(clients)} clients and {len(names)} classes; a client has "
        f"{held.min()} to {held.max()} classes.",
        Table(("client", *names), rows),
        "Training images of each client and class, as the clients told the server.",
        size,
    )


def confusion(run: Run) -> Drawn | str:
    """Draw which class is taken for which, over the test images of all clients."""
    if run.answers.absent:
        return run.answers.absent
    mode, matrix = _shown(run)
    names, of = run.answers.class_names, matrix.sum(axis=1)
    cells = [
        Cell(
            row,
            column,
            str(matrix[row, column]),
            0.1 + 0.9 * matrix[row, column] / of[row],
            HEAT if row == column else VERMILLION,
            f"{names[row]} taken for {names[column]}: {matrix[row, column]} of {of[row]}",
        )
        for row, column in np.argwhere(matrix).tolist()
    ]
    drawn, size = heat_map(cells, names, names, x="answered", y="true class")
    right = int(matrix.trace())
    rows = [(name, *map(str, row)) for name, row in zip(names, matrix.tolist(), strict=True)]
    return Drawn(
        drawn,
        f"Confusion matrix, {mode}: {right} of {matrix.sum()} test images are right.",
        Table(("true \\ answered", *names), rows),
        f"Test images of all clients, {mode}: blue is right, red is wrong; the stronger, the more "
        "of a row's images. From the clients' own files on this machine.",
        size,
    )


def worst_pairs(run: Run) -> list[Pair]:
    """Return the pairs of classes that are confused most often, most first."""
    if run.answers.absent:
        return []
    _, matrix = _shown(run)
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:_WORST]
    names, of = run.answers.class_names, matrix.sum(axis=1)
    places = [divmod(int(place), len(names)) for place in order]
    return [
        Pair(names[row], names[column], int(wrong[row, column]), int(of[row]))
        for row, column in places
        if wrong[row, column]
    ]


def _shown(run: Run) -> tuple[str, NDArray[np.int64]]:
    return next(iter(run.answers.confusions.items()))


def _names(run: Run, number: int) -> tuple[str, ...]:
    if len(run.class_names) == number:
        return run.class_names
    return tuple(f"class {index}" for index in range(number))


def _totals(run: Run) -> Drawn | str:
    clients = (run.results or {}).get("clients") or []
    if not clients:
        return "How many images each client has is known when the run has ended."
    size = (HALF[0], max(HALF[1], 90 + 22 * len(clients)))
    drawn = canvas(*size)
    axes = plain(drawn.axes(), x="images", grid="x")
    left = np.zeros(len(clients))
    for part, (color, hatch) in _PARTS.items():
        sizes = np.array([client[f"num_{part}"] for client in clients])
        bars = axes.barh(
            range(len(clients)), sizes, left=left, color=color, hatch=hatch, label=part, height=0.6
        )
        for client, bar, count in zip(clients, bars, sizes, strict=True):
            tip = f"{client['name']}, {part}: {count}"
            drawn.name(bar, f"{part}-{client['name']}", [tip])
        left = left + sizes
    axes.set_yticks(range(len(clients)), [client["name"] for client in clients])
    axes.invert_yaxis()
    legend(axes)
    parts = [[str(client[f"num_{part}"]) for part in _PARTS] for client in clients]
    rows = [(client["name"], *row) for client, row in zip(clients, parts, strict=True)]
    shared = "did not share" if not run.shares_counts else "did not all tell"
    return Drawn(
        drawn,
        f"Images of {len(clients)} clients by part of the split.",
        Table(("client", *_PARTS), rows),
        f"The clients {shared} which classes they have; these are their numbers of images.",
        size,
    )
