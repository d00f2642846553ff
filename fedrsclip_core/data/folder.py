"""Folders of images: ``<root>/<class>/*`` or ``<root>/{train,test}/<class>/*``."""

import difflib
import os
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.data.imagery.decoding import decode
from fedrsclip_core.data.imagery.names import looks_like_image
from fedrsclip_core.data.imagery.vrt import all_files
from fedrsclip_core.data.names import check_name
from fedrsclip_core.errors import DataError
from fedrsclip_core.runs.fileio import sha256_of, sha256_of_file

if TYPE_CHECKING:
    from PIL.Image import Image

_PARTS = ("train", "test")

_SETTLED_NS = 2 * 10**9
"""A folder that changed less than this ago may change again without a newer time."""

_Stamps = tuple[tuple[str, int, int], ...]

_NEWEST: "dict[Hashable, tuple[_Stamps, FolderSource]]" = {}
"""The process cache: the folder that was opened last, and the state that it was in."""


@dataclass(frozen=True)
class _Folder:
    path: Path
    class_name: str
    in_test: bool
    origin: int


class FolderSource:
    """JPEG, PNG and TIFF files below one folder, in class order and then by name.

    Parameters
    ----------
    root : Path
        The data folder.
    class_names : Sequence[str]
        The federation's classes; a site may lack some. Empty: the folder names, sorted.
    near_duplicates : Sequence[Sequence[str]]
        Groups of ``<folder>/<file name without suffix>`` that show the same place.
    class_aliases : Mapping[str, str]
        Classes of folders that are called otherwise.
    datasets : Sequence[str]
        Folders below ``root`` that hold a data set each, one after the other. Empty: ``root``
        is the data set.
    reading : Reading
        How images become RGB.

    Attributes
    ----------
    class_names : list[str]
        The federation's classes.
    labels : NDArray[np.int64]
        ``(N,)`` indices into ``class_names``.
    given_parts : NDArray[np.int8] or None
        ``(N,)``, 2 below ``test``, else 0; ``None`` without such a folder.
    origins : NDArray[np.int64] or None
        ``(N,)`` indices into ``datasets``; ``None`` without.
    groups : list[list[int]]
        Near-duplicates that are here, as indices.

    Raises
    ------
    DataError
        If there is no such folder, no image, or a class folder that the federation does not know.
    """

    def __init__(
        self,
        root: Path,
        class_names: Sequence[str] = (),
        near_duplicates: Sequence[Sequence[str]] = (),
        class_aliases: Mapping[str, str] | None = None,
        datasets: Sequence[str] = (),
        reading: Reading = AS_THEY_ARE,
    ) -> None:
        if not root.is_dir():
            raise DataError(
                f"there is no data folder {root}: give data.path a folder with one folder of "
                "images per class"
            )
        self._root = root.resolve()
        folders = _all_folders(self._root, datasets, class_aliases or {})
        self.class_names = list(class_names) or sorted({f.class_name for f in folders})
        for folder in folders:
            _check_known(folder, self.class_names)
        self._folders = folders
        files = [(f, name) for f, folder in enumerate(folders) for name in images_in(folder.path)]
        if not files:
            raise DataError(
                f"there is no JPEG, PNG or TIFF image in the class folders of {root}: data.path "
                "must hold <class>/<image> or {train,test}/<class>/<image>"
            )
        if not class_names:
            _check_filled(self._root, self.class_names, {folders[f].class_name for f, _ in files})
        ranks = _ranks(folders, {name: c for c, name in enumerate(self.class_names)})
        files.sort(key=lambda file: (ranks[file[0]], file[1], folders[file[0]].path.name))
        # Names and numbers only: a path object takes half a kilobyte, and there may be millions.
        self._names = [name for _, name in files]
        self._folder_of: NDArray[np.int32] = np.array([f for f, _ in files], dtype=np.int32)
        origins, labels, in_test = np.array(ranks, dtype=np.int64)[self._folder_of].T
        self.labels: NDArray[np.int64] = labels.copy()
        parts = (2 * in_test).astype(np.int8)
        self.given_parts: NDArray[np.int8] | None = parts if parts.any() else None
        self.origins: NDArray[np.int64] | None = origins.copy() if datasets else None
        self._near_duplicates = near_duplicates
        self._reading = reading

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def listed_folders(self) -> list[Path]:
        """The folders that were listed: those of the classes and all above, up to the root."""
        listed = {self._root}
        for folder in self._folders:
            above = folder.path.relative_to(self._root).parents
            listed |= {folder.path, *(self._root / parent for parent in above)}
        return sorted(listed)

    @cached_property
    def groups(self) -> list[list[int]]:
        """Near-duplicates that are here, as indices."""
        if not self._near_duplicates:
            return []
        here: dict[str, list[int]] = {}
        for i in range(len(self)):
            here.setdefault(self.name(i), []).append(i)
        found = [
            [i for name in group for i in here.get(name, [])] for group in self._near_duplicates
        ]
        return [group for group in found if len(group) > 1]

    def name(self, i: int) -> str:
        """``<folder>/<file name without suffix>``, as ``near_duplicates`` has it."""
        path = self._path(i)
        return f"{path.parent.name}/{path.stem}"

    def stat_key(self, i: int) -> str:
        """Path, size, modification time and inode: the file's identity without reading it.

        Of a VRT also those of the files that it names.

        Raises
        ------
        DataError
            If the file has gone.
        """
        try:
            stats = [(file, file.stat()) for file in all_files(self._path(i))]
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from error
        return "|".join(
            f"{file}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}" for file, stat in stats
        )

    def content_hash(self, i: int) -> str:
        """sha256 of the file's bytes; of a VRT also of the files that it names.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        try:
            hashes = [sha256_of_file(file) for file in all_files(self._path(i))]
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from error
        return hashes[0] if len(hashes) == 1 else sha256_of(*hashes)

    def image(self, i: int) -> "Image":
        """Decode an image as RGB.

        Raises
        ------
        DataError
            If it is unreadable or truncated.
        """
        return decode(self._path(i), self._reading, self._root)

    def describe(self, i: int) -> str:
        """Path below the data folder, for the site's own log."""
        return str(self._path(i).relative_to(self._root))

    def _path(self, i: int) -> Path:
        folder: _Folder = self._folders[self._folder_of[i]]
        return folder.path / self._names[i]


def open_folder(
    root: Path,
    class_names: Sequence[str],
    near_duplicates: Sequence[Sequence[str]],
    class_aliases: Mapping[str, str],
    datasets: Sequence[str],
    reading: Reading = AS_THEY_ARE,
) -> FolderSource:
    """Open a folder of images, or return it as opened before if no file has come or gone.

    A simulation of N clients opens the images of all of them for each: without this, listing
    them would take time in N squared.

    Parameters and errors are those of :class:`FolderSource`.
    """
    key = (
        root.resolve(),
        tuple(class_names),
        tuple(map(tuple, near_duplicates)),
        tuple(class_aliases.items()),
        tuple(datasets),
        reading,
    )
    stamps, source = _NEWEST.get(key, ((), None))
    if source is not None and stamps == _stamps(source):
        return source
    begin = time.time_ns()
    source = FolderSource(root, class_names, near_duplicates, class_aliases, datasets, reading)
    stamps = _stamps(source)
    _NEWEST.clear()
    if all(changed < begin - _SETTLED_NS for _, changed, _ in stamps):
        _NEWEST[key] = stamps, source
    return source


def _ranks(folders: Sequence[_Folder], number: Mapping[str, int]) -> list[tuple[int, int, bool]]:
    """Return of each folder data set, class and part, by which its images are ordered."""
    return [(folder.origin, number[folder.class_name], folder.in_test) for folder in folders]


def _all_folders(root: Path, datasets: Sequence[str], aliases: Mapping[str, str]) -> list[_Folder]:
    found: list[_Folder] = []
    for origin, name in enumerate(datasets or [""]):
        if not (root / name).is_dir():
            raise DataError(
                f"there is no folder {name} in {root}: data.path must hold a folder for each of "
                f"partition.datasets; `fedrsclip data prepare` makes them"
            )
        found += [
            _Folder(path, aliases.get(path.name, path.name), test, origin)
            for path, test in _class_folders(root / name)
        ]
    return found


def _class_folders(root: Path) -> list[tuple[Path, bool]]:
    """Class folders and whether they lie below ``test``."""
    folders = folders_in(root)
    names = {folder.name for folder in folders}
    if not names & set(_PARTS):
        found = [(folder, False) for folder in folders]
    elif stray := sorted(names - set(_PARTS)):
        raise DataError(
            f"{root} has train or test and beside it {stray[0]}: with train and test all class "
            "folders belong below these two"
        )
    else:
        found = [(c, part.name == "test") for part in folders for c in folders_in(part)]
    if not found:
        raise DataError(
            f"{root} has no class folders: data.path must hold <class>/<image> or "
            "{train,test}/<class>/<image>"
        )
    return found


def folders_in(folder: Path) -> list[Path]:
    """Return the folders of a folder by name, those with a leading dot left out."""
    return sorted(Path(entry.path) for entry in _visible(folder) if entry.is_dir())


def images_in(folder: Path) -> list[str]:
    """Return the names of a folder's images, known by their suffix, in no order."""
    return [
        entry.name for entry in _visible(folder) if looks_like_image(entry.name) and entry.is_file()
    ]


def _visible(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be listed ({error.strerror})") from error


def _check_known(folder: _Folder, class_names: Sequence[str]) -> None:
    name = folder.class_name
    check_name(name, f"the folder {folder.path.parent}")
    if name in class_names:
        return
    near = difflib.get_close_matches(name, class_names, n=1)
    hint = f"call it {near[0]}, as the federation does" if near else "move it away"
    raise DataError(
        f"the federation has no class {name!r}, but there is a folder {folder.path}: {hint}, or "
        "add the name to data.class_names at every site"
    )


def _check_filled(root: Path, class_names: Sequence[str], filled: set[str]) -> None:
    if empty := sorted(set(class_names) - filled):
        raise DataError(
            f"the class folder {empty[0]} in {root} has no JPEG, PNG or TIFF image: fill it or "
            "take it away"
        )


def _stamps(source: FolderSource) -> _Stamps:
    """Return time of the last change and inode of each folder that was listed."""
    return tuple(_stamp(folder) for folder in source.listed_folders)


def _stamp(folder: Path) -> tuple[str, int, int]:
    try:
        stat = folder.stat()
    except OSError:
        return str(folder), time.time_ns(), 0
    return str(folder), stat.st_mtime_ns, stat.st_ino
