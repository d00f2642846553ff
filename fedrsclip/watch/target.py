"""What is meant by the name or folder that `fedrsclip watch` is given."""

import os
from pathlib import Path

from fedrsclip.bench.folder import BenchFolder
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.run_folder import RunFolder


def find(asked: str | None) -> Path:
    """Return the folder that is meant, which may not be there yet.

    Parameters
    ----------
    asked : str or None
        The name of a run or benchmark of this machine, or a folder; by default the newest run.

    Raises
    ------
    ConfigError
        If there is no run here, or the name cannot be one.
    """
    if asked is None:
        return RunFolder.newest().path
    path = Path(asked).expanduser()
    if path.is_dir() or os.sep in asked:
        return path.resolve()
    name = paths.safe_name(asked, "run")
    folder, bench = paths.runs_dir() / name, paths.bench_dir(name)
    return bench if bench.is_dir() and not folder.is_dir() else folder


def is_bench(folder: Path) -> bool:
    """Whether this is the folder of a benchmark."""
    return BenchFolder(folder).is_there()


def is_there(folder: Path) -> bool:
    """Whether there is something to be watched in the folder."""
    return is_bench(folder) or RunFolder(folder).has_begun()
