"""The report of what is watched, made again every few rounds."""

import time
from collections.abc import Callable
from pathlib import Path

from fedrsclip_core.runs.units import counted

_EVERY = 5
_SHARE = 0.1


class Refresher:
    """Writes the report now and then; its failure is a line and nothing else.

    Parameters
    ----------
    folder : Path
        The folder of a run or a benchmark.
    unit : str
        What its progress is counted in.
    write : Callable[[Path], Path]
        Writes the report of a folder and returns its path.
    clock : Callable[[], float]
        Seconds that never go back.
    """

    def __init__(
        self,
        folder: Path,
        unit: str,
        write: Callable[[Path], Path],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._unit = unit
        self._write = write
        self._clock = clock
        self._steps = 0
        self._not_before = 0.0
        self.note = ""

    def refresh(self, steps: int, *, ended: bool) -> bool:
        """Write the report if it is time, and return whether it was.

        Parameters
        ----------
        steps : int
            Rounds or cells that are there.
        ended : bool
            Whether nothing will be added.
        """
        if not self._is_time(steps, ended):
            return False
        start = self._clock()
        try:
            path = self._write(self._folder)
            self.note = f"{path} ({counted(steps, self._unit)})"
        except Exception as error:
            # Whatever is wrong with a page is no reason to stop watching.
            lines = str(error).splitlines() or [type(error).__name__]
            self.note = f"not refreshed: {lines[0]}"
        end = self._clock()
        self._steps = steps
        # The processors are the run's: at most a tenth of the time goes into pages.
        self._not_before = end + (end - start) / _SHARE
        return True

    def _is_time(self, steps: int, ended: bool) -> bool:
        if ended:
            return steps > 0
        due = (self._steps == 0 and steps > 0) or steps >= self._steps + _EVERY
        return due and self._clock() >= self._not_before
