"""One line per cell that ends, with an estimate of the time left: like cells take alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean

from fedrsclip.bench.cells import Cell
from fedrsclip_core.runs.units import duration

Kind = tuple[str, str]
"""A cell's setting, and its method with its variant."""


@dataclass
class Progress:
    """Estimates from the cells that ended in this call.

    Attributes
    ----------
    waiting : list[Cell]
        Cells that have not ended.
    jobs : int
        Cells at a time.
    """

    waiting: list[Cell]
    jobs: int
    _seconds: dict[Kind, list[float]] = field(default_factory=dict)
    _ended: int = 0

    def line(self, cell: Cell, seconds: float, outcome: str) -> str:
        """Enter a cell that ended and return the line about it."""
        self._ended += 1
        self.waiting.remove(cell)
        self._seconds.setdefault(_kind(cell), []).append(seconds)
        total = self._ended + len(self.waiting)
        left = f", about {duration(self.left())} left" if self.waiting else ""
        return f"[{self._ended}/{total}] {cell.name}: {outcome}, {seconds:.0f} s{left}"

    def left(self) -> float:
        """Estimate the seconds until all cells have ended."""
        seconds = (expected_seconds(self._seconds, _kind(cell)) for cell in self.waiting)
        return sum(one or 0.0 for one in seconds) / self.jobs


def expected_seconds(taken: Mapping[Kind, Sequence[float]], kind: Kind) -> float | None:
    """Estimate the seconds of a cell.

    Parameters
    ----------
    taken : Mapping[Kind, Sequence[float]]
        Seconds of the cells that have ended.
    kind : Kind
        What kind of cell is asked for.

    Returns
    -------
    float or None
        The mean over the same cell with other seeds, else over its method in other settings, else
        over all; ``None`` if no cell has ended.
    """
    of_method = [one for other, many in taken.items() if other[1] == kind[1] for one in many]
    of_any = [one for many in taken.values() for one in many]
    found = taken.get(kind) or of_method or of_any
    return mean(found) if found else None


def _kind(cell: Cell) -> Kind:
    return cell.setting, cell.label
