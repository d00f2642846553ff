"""One listing of an image folder for all clients of a simulation that are in this process.

A simulation of N clients lists the images of all of them for each; without this, opening the
clients would take time in N squared.
"""

import time
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from fedrsclip_core.data.folder import FolderSource

_SETTLED_NS = 2 * 10**9
"""A folder that changed less than this ago may change again without a newer time."""

_Stamps = tuple[tuple[str, int, int], ...]

_NEWEST: "dict[Hashable, tuple[_Stamps, FolderSource]]" = {}
"""The process cache: the folder that was opened last, and the state that it was in."""


def open_folder(
    root: Path,
    class_names: Sequence[str],
    near_duplicates: Sequence[Sequence[str]],
    class_aliases: Mapping[str, str],
    datasets: Sequence[str],
) -> FolderSource:
    """Open a folder of images, or return it as opened before if no file has come or gone.

    Parameters and errors are those of :class:`FolderSource`.
    """
    key = (
        root.resolve(),
        tuple(class_names),
        tuple(map(tuple, near_duplicates)),
        tuple(class_aliases.items()),
        tuple(datasets),
    )
    stamps, source = _NEWEST.get(key, ((), None))
    if source is not None and stamps == _stamps(source):
        return source
    begin = time.time_ns()
    source = FolderSource(root, class_names, near_duplicates, class_aliases, datasets)
    stamps = _stamps(source)
    _NEWEST.clear()
    if all(changed < begin - _SETTLED_NS for _, changed, _ in stamps):
        _NEWEST[key] = stamps, source
    return source


def _stamps(source: FolderSource) -> _Stamps:
    """Return time of the last change and inode of each folder that was listed."""
    return tuple(_stamp(folder) for folder in source.listed_folders)


def _stamp(folder: Path) -> tuple[str, int, int]:
    try:
        stat = folder.stat()
    except OSError:
        return str(folder), time.time_ns(), 0
    return str(folder), stat.st_mtime_ns, stat.st_ino
