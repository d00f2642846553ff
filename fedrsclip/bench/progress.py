"""One line per cell that ends, with an estimate of the time left."""

from dataclasses import dataclass, field

from fedrsclip.bench.cells import Cell
from fedrsclip.bench.estimates import Kind, expected_seconds
from fedrsclip_core.runs.units import duration


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


def _kind(cell: Cell) -> Kind:
    return cell.setting, cell.label
