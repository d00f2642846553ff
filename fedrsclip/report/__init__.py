"""Reports of runs and benchmarks: lines of text, and a page that opens without a network."""

from collections.abc import Callable
from pathlib import Path


def _silent(line: str) -> None:
    """Show nothing."""


def draw_pictures(folder: Path, *, say: Callable[[str], None] = _silent) -> list[Path]:
    """Draw ``accuracy.png`` and ``partition.png`` of a run into its folder; return what was drawn.

    Parameters
    ----------
    folder : Path
        The run's folder.
    say : Callable[[str], None]
        Receives a line if names have signs that no font on this machine has.

    Raises
    ------
    OSError
        If a picture cannot be written.
    """
    from fedrsclip.report.write import draw_pictures

    return draw_pictures(folder, say=say)


def write_report(
    folder: Path, *, images: Path | None = None, say: Callable[[str], None] = _silent
) -> Path:
    """Write ``<folder>/report.html`` and return its path; draw its pictures, too.

    Of a run the two of ``draw_pictures``; of a benchmark accuracy over the bytes of a round, for
    each setting ``bytes-<setting>-global`` and ``-personalized`` as PNG and as SVG.

    Parameters
    ----------
    folder : Path
        The folder of a run or of a benchmark, also of one that is running or was interrupted.
    images : Path or None
        Images of this machine, ``<class>/<image>``: small copies of a few go into the page.
    say : Callable[[str], None]
        Receives a line if names have signs that no font on this machine has.

    Raises
    ------
    ReportError
        If the folder is neither.
    DataError
        If ``images`` holds no images.
    OSError
        If the page or a picture cannot be written.
    """
    # The figures need matplotlib, which takes a second to import.
    from fedrsclip.report.write import write

    return write(folder, images=images, say=say)
