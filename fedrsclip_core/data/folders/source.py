"""Images of a folder, or of a list, as an image source."""

import difflib
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.config.texts import composed
from fedrsclip_core.data.folders.image_list import SUFFIX, read_image_list
from fedrsclip_core.data.folders.layouts import ImageFolder, Layout, find_layout, in_number_order
from fedrsclip_core.data.folders.listing import is_true
from fedrsclip_core.data.imagery.decoding import decode
from fedrsclip_core.data.imagery.vrt import all_files
from fedrsclip_core.data.names import check_name
from fedrsclip_core.errors import DataError
from fedrsclip_core.runs.fileio import sha256_of, sha256_of_file

if TYPE_CHECKING:
    from PIL.Image import Image

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")

_PLAIN = "<class>/<image>"

_SETTLED_NS = 2 * 10**9
"""A folder that changed less than this ago may change again without a newer time."""

_Stamps = tuple[tuple[str, int, int], ...]

_NEWEST: "dict[Hashable, tuple[_Stamps, FolderSource]]" = {}
"""The process cache: the folder that was opened last, and the state that it was in."""


class FolderSource:
    """Image files below one folder, or of one list, in class order, then by part and name.

    Parameters
    ----------
    root : Path
        The data folder, laid out as :func:`find_layout` understands it, or a CSV list.
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
    ignore_others : bool
        Leave out classes that the federation does not have.
    by_client : bool
        Folders that have class folders are clients', whatever they are called.

    Attributes
    ----------
    class_names : list[str]
        The federation's classes.
    labels : NDArray[np.int64]
        ``(N,)`` indices into ``class_names``.
    given_parts : NDArray[np.int8] or None
        ``(N,)``: 0 train, 1 val, 2 test; ``None`` if all are for training, or nothing is said.
    origins : NDArray[np.int64] or None
        ``(N,)`` indices into ``datasets``; ``None`` without.
    client_names : list[str]
        The clients that have folders, or stand in the list; ``client_2`` before ``client_10``.
    clients : NDArray[np.int64] or None
        ``(N,)`` indices into ``client_names``, -1 for an image of no client; ``None`` without.
    groups : list[list[int]]
        Near-duplicates that are here, as indices.
    left_out : list[tuple[str, str]]
        What lies among the images and is not read, as path and reason.
    ignored : list[str]
        Names of classes that the federation does not have and that were left out.
    empty_classes : list[str]
        Names of class folders without an image.
    layout : str
        How the images lie below ``root``, as ``{train,test}/<class>/<image>``.

    Raises
    ------
    DataError
        If there is no such folder, no image, or a class folder that the federation does not know;
        if the layout can be read in two ways, or the list has a mistake.
    """

    def __init__(
        self,
        root: Path,
        class_names: Sequence[str] = (),
        near_duplicates: Sequence[Sequence[str]] = (),
        class_aliases: Mapping[str, str] | None = None,
        datasets: Sequence[str] = (),
        reading: Reading = AS_THEY_ARE,
        *,
        ignore_others: bool = False,
        by_client: bool = False,
    ) -> None:
        aliases = {composed(name): word for name, word in (class_aliases or {}).items()}
        known = {*map(composed, class_names), *aliases} if class_names else set()
        self._root, layouts = _layouts(
            root, known, datasets, ignore_others=ignore_others, by_client=by_client
        )
        folders = [folder for layout in layouts for folder in layout.folders]
        of_folder = [aliases.get(folder.class_name, folder.class_name) for folder in folders]
        self.class_names = list(class_names) or sorted(set(of_folder))
        number = {composed(name): c for c, name in enumerate(self.class_names)}
        for folder, name in zip(folders, of_folder, strict=True):
            _check_known(folder, name, number, root if is_true(root.is_file) else None)
        if not any(folder.images for folder in folders):
            raise DataError(_no_image(root, layouts))
        if not class_names:
            filled = {
                name for folder, name in zip(folders, of_folder, strict=True) if folder.images
            }
            _check_filled(self._root, self.class_names, filled)
        self.empty_classes = _empty(folders)
        origins = [origin for origin, layout in enumerate(layouts) for _ in layout.folders]
        ranks = [
            (origin, number[composed(name)], folder.part)
            for origin, name, folder in zip(origins, of_folder, folders, strict=True)
        ]
        # Names and numbers only: a path object takes half a kilobyte, and there may be millions.
        self._paths = [folder.path for folder in folders]
        self._shown = [folder.name for folder in folders]
        self._folder_of, self._names = _in_order(folders, ranks)
        by_image = np.array(ranks, dtype=np.int64)[self._folder_of]
        self.labels: NDArray[np.int64] = by_image[:, 1].copy()
        parts = by_image[:, 2].astype(np.int8)
        self.given_parts: NDArray[np.int8] | None = parts if parts.any() else None
        self.origins: NDArray[np.int64] | None = by_image[:, 0].copy() if datasets else None
        clients = [folder.client for folder in folders]
        self.client_names = in_number_order({name for name in clients if name is not None})
        place = {name: k for k, name in enumerate(self.client_names)}
        numbers = np.array([-1 if name is None else place[name] for name in clients])
        self.clients: NDArray[np.int64] | None = numbers[self._folder_of] if place else None
        self.left_out = [
            (str(Path(path).relative_to(self._root)), why)
            for layout in layouts
            for path, why in layout.left_out
        ]
        self.ignored = sorted({name for layout in layouts for name in layout.ignored})
        self.layout = ", ".join(dict.fromkeys(p for layout in layouts for p in layout.patterns))
        self.listed = sorted({one for layout in layouts for one in layout.listed})
        """What was listed or read: the stamps of a source that is kept."""
        self._near_duplicates = near_duplicates
        self._reading = reading
        self.notes = self._notes()
        self.sequential = False

    def _notes(self) -> list[str]:
        """Say how the folder was understood, and what of it is not read."""
        notes = [] if self.layout == _PLAIN else [f"laid out as {self.layout}"]
        if self.client_names:
            notes.append(
                f"of {len(self.client_names)} clients ({self.client_names[0]} to "
                f"{self.client_names[-1]}), to each of whom partition=given gives its own"
            )
        if self.ignored:
            notes.append(f"other classes are left out: {_few(self.ignored)}")
        if self.empty_classes:
            notes.append(f"class folders without an image: {_few(self.empty_classes)}")
        if self.left_out:
            named = _few([f"{name} {why}" for name, why in self.left_out])
            notes.append(f"files not read: {len(self.left_out)} ({named})")
        return notes

    def __len__(self) -> int:
        return len(self._names)

    @property
    def root(self) -> Path:
        """The data folder, or the folder of the list."""
        return self._root

    @cached_property
    def groups(self) -> list[list[int]]:
        """Near-duplicates that are here, as indices."""
        if not self._near_duplicates:
            return []
        here: dict[str, list[int]] = {}
        for i in range(len(self)):
            here.setdefault(self.name(i), []).append(i)
        found = [
            [i for name in group for i in here.get(composed(name), [])]
            for group in self._near_duplicates
        ]
        return [group for group in found if len(group) > 1]

    def name(self, i: int) -> str:
        """``<folder>/<file name without suffix>``, as ``near_duplicates`` has it."""
        stem = PurePath(self._names[i]).stem
        return composed(f"{self._shown[self._folder_of[i]]}/{stem}")

    def stat_key(self, i: int) -> str:
        """Path, size, modification time and inode: the file's identity without reading it.

        Of a VRT also those of the files that it names.

        Raises
        ------
        DataError
            If the file has gone.
        """
        try:
            stats = [(file, file.stat()) for file in all_files(self.path(i))]
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
            hashes = [sha256_of_file(file) for file in all_files(self.path(i))]
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
        return decode(self.path(i), self._reading, self._root)

    def describe(self, i: int) -> str:
        """Path below the data folder, for the site's own log."""
        return str(self.path(i).relative_to(self._root))

    def path(self, i: int) -> Path:
        """Return the file of image ``i``."""
        return Path(self._paths[self._folder_of[i]], self._names[i])


def open_folder(
    root: Path,
    class_names: Sequence[str],
    near_duplicates: Sequence[Sequence[str]],
    class_aliases: Mapping[str, str],
    datasets: Sequence[str],
    reading: Reading = AS_THEY_ARE,
    *,
    ignore_others: bool = False,
    by_client: bool = False,
) -> FolderSource:
    """Open a folder of images, or return it as opened before if no file has come or gone.

    A simulation of N clients opens the images of all of them for each: without this, listing
    them would take time in N squared.

    Parameters and errors are those of :class:`FolderSource`.
    """
    key = (
        root.absolute(),
        tuple(class_names),
        tuple(map(tuple, near_duplicates)),
        tuple(class_aliases.items()),
        tuple(datasets),
        reading,
        ignore_others,
        by_client,
    )
    stamps, source = _NEWEST.get(key, ((), None))
    if source is not None and stamps == _stamps(source):
        return source
    begin = time.time_ns()
    source = FolderSource(
        root,
        class_names,
        near_duplicates,
        class_aliases,
        datasets,
        reading,
        ignore_others=ignore_others,
        by_client=by_client,
    )
    stamps = _stamps(source)
    _NEWEST.clear()
    if all(changed < begin - _SETTLED_NS for _, changed, _ in stamps):
        _NEWEST[key] = stamps, source
    return source


def _layouts(
    root: Path,
    known: set[str],
    datasets: Sequence[str],
    *,
    ignore_others: bool,
    by_client: bool,
) -> tuple[Path, list[Layout]]:
    """Return what paths are shown below, and the layout of each data set."""
    if is_true(root.is_file) and not datasets:
        return root.resolve().parent, [_listed(root, known, ignore_others=ignore_others)]
    if not is_true(root.is_dir):
        raise DataError(
            f"there is no data folder {root}: give data.path a folder with one folder of "
            "images per class, or a CSV list of images"
        )
    root = root.resolve()
    for name in datasets:
        if not is_true((root / name).is_dir):
            raise DataError(
                f"there is no folder {name} in {root}: data.path must hold a folder for each of "
                "partition.datasets; `fedrsclip data prepare` makes them"
            )
    places = [root / name for name in datasets] or [root]
    return root, [
        find_layout(place, known, by_client=by_client, ignore_unknown=ignore_others)
        for place in places
    ]


def _listed(root: Path, known: set[str], *, ignore_others: bool) -> Layout:
    name = root.name.lower()
    if name.endswith(_ARCHIVES):
        raise DataError(f"{root} is an archive: unpack it, and give data.path its folder")
    if not name.endswith(SUFFIX):
        raise DataError(
            f"{root} is a file: give data.path a folder with one folder of images per class, or a "
            "CSV list of images"
        )
    layout = read_image_list(root.resolve())
    if not ignore_others:
        return layout
    others = {f.class_name for f in layout.folders if f.class_name not in known}
    kept = [folder for folder in layout.folders if folder.class_name not in others]
    return replace(layout, folders=kept, ignored=sorted(others))


def _in_order(
    folders: Sequence[ImageFolder], ranks: Sequence[tuple[int, int, int]]
) -> tuple[NDArray[np.int32], list[str]]:
    """Return folder and name of each image, by rank and then by name."""
    together: dict[tuple[int, int, int], list[int]] = {}
    for f, rank in enumerate(ranks):
        together.setdefault(rank, []).append(f)
    folder_of: list[int] = []
    names: list[str] = []
    for rank in sorted(together):
        files = [
            (composed(name), folders[f].name, folders[f].path, name, f)
            for f in together[rank]
            for name in folders[f].images
        ]
        files.sort()
        names += [file[3] for file in files]
        folder_of += [file[4] for file in files]
    return np.array(folder_of, dtype=np.int32), names


def _check_known(
    folder: ImageFolder, name: str, number: Mapping[str, int], image_list: Path | None
) -> None:
    check_name(name, f"the list {image_list}" if image_list else f"{Path(folder.path).parent}")
    if composed(name) in number:
        return
    near = difflib.get_close_matches(name, list(number), n=1)
    hint = f"call it {near[0]}, as the federation does" if near else "move it away"
    where = f"{image_list} has it as a label" if image_list else f"there is a folder {folder.path}"
    raise DataError(
        f"the federation has no class {name!r}, but {where}: {hint}, add the name to "
        "data.class_names at every site, or leave such classes out by data.other_classes=ignore"
    )


def _empty(folders: Sequence[ImageFolder]) -> list[str]:
    """Return the classes whose folders are there and have no image, as of a disk that is not."""
    filled = {folder.class_name for folder in folders if folder.images}
    return sorted({folder.class_name for folder in folders} - filled)


def _few(texts: Sequence[str]) -> str:
    return ", ".join(texts[:3]) + (" ..." if len(texts) > 3 else "")


def _no_image(root: Path, layouts: Sequence[Layout]) -> str:
    left_out = [one for layout in layouts for one in layout.left_out]
    ignored = [one for layout in layouts for one in layout.ignored]
    more = f"; {left_out[0][0]} {left_out[0][1]}" if left_out else ""
    more += f"; {ignored[0]} is no class of the federation" if ignored else ""
    return (
        f"there is no image in the class folders of {root}{more}: "
        "data.path must hold <class>/<image>, or folders for train, val and test with class "
        "folders in them"
    )


def _check_filled(root: Path, class_names: Sequence[str], filled: set[str]) -> None:
    if empty := sorted(set(class_names) - filled):
        raise DataError(
            f"the class folder {empty[0]} in {root} has no image: fill it or take it away"
        )


def _stamps(source: FolderSource) -> _Stamps:
    """Return time of the last change and inode of each folder that was listed."""
    return tuple(map(_stamp, source.listed))


def _stamp(path: str) -> tuple[str, int, int]:
    try:
        stat = Path(path).stat()
    except OSError:
        return path, time.time_ns(), 0
    return path, stat.st_mtime_ns, stat.st_ino
