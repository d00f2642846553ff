"""One line per cell that ends, with an estimate of the time left."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean

from fedrsclip_core.bench.cells import Cell
from fedrsclip_core.units import duration


@dataclass
class Progress:
    """Estimates from the cells that ended in this call: like cells take alike.

    Attributes
    ----------
    waiting : list[Cell]
        Cells that have not ended.
    jobs : int
        Cells at a time.
    """

    waiting: list[Cell]
    jobs: int
    _seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    _ended: int = 0

    def line(self, cell: Cell, seconds: float, outcome: str) -> str:
        """Enter a cell that ended and return the line about it."""
        self._ended += 1
        self.waiting.remove(cell)
        self._seconds.setdefault((cell.setting, cell.label), []).append(seconds)
        total = self._ended + len(self.waiting)
        left = f", about {duration(self.left())} left" if self.waiting else ""
        return f"[{self._ended}/{total}] {cell.name}: {outcome}, {seconds:.0f} s{left}"

    def left(self) -> float:
        """Estimate the seconds until all cells have ended."""
        return sum(self._expected(cell) for cell in self.waiting) / self.jobs

    def _expected(self, cell: Cell) -> float:
        """Of the same cell with other seeds, else of the method elsewhere, else of any."""
        same = self._seconds.get((cell.setting, cell.label), [])
        method = self._of(label=cell.label)
        return mean(same or method or self._of())

    def _of(self, label: str | None = None) -> Sequence[float]:
        kept = [many for key, many in self._seconds.items() if label in (None, key[1])]
        return [seconds for many in kept for seconds in many]
