"""Where windows lie in a scene, and which cells of the map each of them covers."""

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Grid:
    """Windows of ``tile`` pixels every ``step`` pixels, and cells of ``step`` pixels.

    The last window of a row or column ends where the scene does, though that be off the step; so
    every window is full of the scene. Cells of the last row and column may reach beyond it.

    Parameters
    ----------
    height, width : int
        The scene's pixels; at least ``tile``.
    tile : int
        Pixels of a window's side.
    step : int
        Pixels of a cell's side; divides ``tile``.
    """

    height: int
    width: int
    tile: int
    step: int

    @property
    def rows(self) -> int:
        """Rows of cells."""
        return -(-self.height // self.step)

    @property
    def cols(self) -> int:
        """Columns of cells."""
        return -(-self.width // self.step)

    @cached_property
    def tops(self) -> list[int]:
        """First pixel row of each row of windows."""
        return self._places(self.height)

    @cached_property
    def lefts(self) -> list[int]:
        """First pixel column of each column of windows."""
        return self._places(self.width)

    def cells(self, place: int, length: int) -> slice:
        """Return the rows or columns of cells that a window covers, in as far as they have pixels.

        Parameters
        ----------
        place : int
            The window's first pixel.
        length : int
            Pixels of the scene in that direction.
        """
        first, end = -(-place // self.step), place + self.tile
        return slice(first, -(-end // self.step) if end == length else end // self.step)

    def _places(self, length: int) -> list[int]:
        last = length - self.tile
        places = list(range(0, last + 1, self.step))
        return places if places[-1] == last else [*places, last]
