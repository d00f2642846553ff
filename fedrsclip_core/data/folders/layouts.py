"""Recognise how a folder of images is laid out, or say what is ambiguous about it.

Above the folders of the classes there may be, in this or another order, folders for train, val and
test, a folder for each client, and wrappers: single folders that an archive has around all others.
Below a class folder, images may lie in folders of their own. Wherever the names and the places of
images allow two readings, the folder is refused and what was seen is named.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from fedrsclip_core.config.texts import composed
from fedrsclip_core.data.folders.listing import Listing, list_folder
from fedrsclip_core.data.imagery.names import looks_like_image
from fedrsclip_core.errors import DataError

TRAIN, VAL, TEST = 0, 1, 2
"""The parts as numbers."""

_PARTS = {
    **dict.fromkeys(("train", "training", "trainset", "trainingset"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "valset", "validset", "validationset"), VAL),
    **dict.fromkeys(("test", "testing", "testset", "testingset"), TEST),
}
_CLIENT = re.compile(r"(client|site|silo|node|party|institution|user)s?[ _-]?\d+", re.IGNORECASE)
_COUNTED = re.compile(r"(\D*)\d[\d ._-]*")
"""A number or a date, perhaps after a word: what enumerates and does not describe."""
_SHOWN = 3
_DEEPEST = 16
"""Levels above class folders that are looked through; links may lead in a circle."""


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """A folder with images of one class.

    Attributes
    ----------
    path : str
        The folder.
    name : str
        The class folder's name as it is on the disk; with the folders below it, if this is one.
    class_name : str
        The class folder's name, composed (NFC).
    part : int
        0 train, 1 val, 2 test.
    client : str or None
        The client whose folder it is in.
    images : list[str]
        Names of the images, in no order.
    """

    path: str
    name: str
    class_name: str
    part: int
    client: str | None
    images: list[str]


@dataclass(frozen=True)
class Layout:
    """Images by folder, class, part and client.

    Attributes
    ----------
    folders : list[ImageFolder]
        In no order that matters.
    patterns : list[str]
        The ways from the root to an image, as ``train/<class>/<image>``.
    left_out : list[tuple[str, str]]
        What lies among the images and is not read, as path and reason.
    ignored : list[str]
        Names of classes that the federation does not know and that were to be ignored.
    listed : list[str]
        Every folder and list whose change can change this.
    """

    folders: list[ImageFolder] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)


def find_layout(
    root: Path,
    known: Collection[str] = (),
    *,
    by_client: bool = False,
    ignore_unknown: bool = False,
) -> Layout:
    """Find the class folders below a folder.

    Parameters
    ----------
    root : Path
        An absolute path.
    known : Collection[str]
        Names of class folders, composed; empty if any name is a class's.
    by_client : bool
        Folders that have class folders are clients', whatever they are called.
    ignore_unknown : bool
        Class folders that are not known are left out.

    Raises
    ------
    DataError
        If a folder cannot be listed, there is no class folder, or two readings are possible.
    """
    finder = _Finder(frozenset(known), by_client, ignore_unknown)
    finder.find(root, _Way())
    found = finder.found
    found.listed.extend(map(str, finder.listings))
    if not found.folders and not found.ignored:
        raise DataError(_nothing_in(root, finder.listing(root)))
    return found


def in_number_order(names: Iterable[str]) -> list[str]:
    """Sort names so that ``client_2`` comes before ``client_10``."""

    def key(name: str) -> tuple[list[tuple[int, str]], str]:
        pieces = re.split(r"(\d+)", name)
        return [(int(p), "") if p.isdecimal() else (-1, p) for p in pieces], name

    return sorted(names, key=key)


@lru_cache(maxsize=1024)
def part_of(word: str) -> int | None:
    """Return the part that a word means, in any case: ``Train``, ``test_set``; ``None`` if none."""
    return _PARTS.get(re.sub(r"[ _-]", "", word).lower())


@dataclass(frozen=True)
class _Way:
    """How a folder was come to."""

    pattern: str = ""
    part: int | None = None
    client: str | None = None


class _Finder:
    """The walk below one root."""

    def __init__(self, known: frozenset[str], by_client: bool, ignore_unknown: bool) -> None:
        self.found = Layout()
        self.listings: dict[Path, Listing] = {}
        self._known = known
        self._by_client = by_client
        self._ignore_unknown = ignore_unknown
        self._places: dict[tuple[int, int], Path] = {}

    def listing(self, path: Path) -> Listing:
        """List a folder, once."""
        if path not in self.listings:
            self.listings[path] = list_folder(path)
        return self.listings[path]

    def find(self, path: Path, way: _Way) -> None:
        """Find the class folders in a folder or further below."""
        self._enter(path)
        here = self.listing(path)
        if here.lost_folders:
            link = path / here.lost_folders[0]
            raise DataError(
                f"{link} is a link to {_target(link)}, which is not there: mount the disk that it "
                "is on, or take the link away"
            )
        self._leave_out_loose(path, here)
        folders = here.folders
        parts = {name: part_of(name) for name in folders}
        if self._all_known(path, folders):
            self._take(path, folders, way)
        elif any(part is not None for part in parts.values()):
            self._find_in_parts(path, parts, way)
        elif way.client is None and self._are_clients(path, folders):
            self._find_in_clients(path, folders, way)
        elif wrapper := self._wrapper(path, folders):
            self._find_below(path, wrapper, way)
        elif way.client is None and self._by_client and self._are_groups(path, folders):
            self._find_in_clients(path, folders, way)
        elif self._are_families(path, folders):
            for name in folders:
                self._find_below(path, name, way)
        else:
            self._check_classes(path, folders)
            self._take(path, folders, way)

    def _enter(self, path: Path) -> None:
        """Refuse a folder that was entered before: its images would be found twice, or for ever."""
        other = self._seen(path)
        if other is not None:
            raise DataError(f"{path} and {other} are the same folder: take one of the links away")

    def _seen(self, path: Path) -> Path | None:
        """Note where a folder is on the disk; return its other path if it was come to before."""
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"the folder {path} cannot be listed ({error.strerror})") from error
        place = stat.st_dev, stat.st_ino
        return None if self._places.setdefault(place, path) == path else self._places[place]

    def _leave_out_loose(self, path: Path, here: Listing) -> None:
        for name in sorted(here.images):
            self._leave_out(path / name, "lies in no class folder")
        for name, why in here.left_out:
            if looks_like_image(name):  # a link that leads nowhere
                self._leave_out(path / name, why)

    def _leave_out(self, path: Path, reason: str) -> None:
        self.found.left_out.append((str(path), reason))

    def _deep(self, path: Path, folders: Sequence[str]) -> list[str]:
        """Return the folders that have no images themselves, but folders."""
        listings = ((name, self.listing(path / name)) for name in folders)
        return [name for name, inside in listings if inside.folders and not inside.images]

    def _below(self, path: Path, folders: Sequence[str]) -> list[list[str]]:
        return [self.listing(path / name).folders for name in folders]

    def _knows(self, name: str) -> bool:
        return composed(name) in self._known

    def _all_known(self, path: Path, folders: Sequence[str]) -> bool:
        """Whether these are class folders by their names.

        A single folder with known classes in it is a wrapper that is called as one of them.
        """
        if not folders or not all(map(self._knows, folders)):
            return False
        return len(folders) > 1 or not self._holds_classes(path / folders[0], _DEEPEST)

    def _holds_classes(self, path: Path, levels: int) -> bool:
        """Whether known class folders lie in a folder, below nothing but wrappers and the like."""
        here = self.listing(path)
        if here.images or not here.folders or not levels:
            return False
        if all(map(self._knows, here.folders)):
            return True
        above = len(here.folders) == 1 or all(
            part_of(name) is not None or _CLIENT.fullmatch(name) for name in here.folders
        )
        return above and any(self._holds_classes(path / f, levels - 1) for f in here.folders)

    def _find_in_parts(self, path: Path, parts: dict[str, int | None], way: _Way) -> None:
        named = {name: part for name, part in parts.items() if part is not None}
        inside = {name: self.listing(path / name) for name in parts if name not in named}
        stray = [name for name, one in inside.items() if one.folders or one.images or one.left_out]
        first = next(iter(named))
        if stray:
            raise DataError(
                f"{path} has {first} and beside it {stray[0]}: with folders for train, val and "
                f"test all class folders belong below these; move {stray[0]} away, or, if {first} "
                "is a class, name all classes in data.class_names"
            )
        if way.part is not None and set(named.values()) != {way.part}:
            raise DataError(
                f"{path} is itself in a folder for train, val or test, and has {first} in it: "
                "one level of such folders is understood"
            )
        meant: dict[int, str] = {}
        for name, part in named.items():
            if part in meant:
                raise DataError(
                    f"{path} has both {meant[part]} and {name}: rename one of them, or give "
                    "data.path the folder that is meant"
                )
            meant[part] = name
            pattern = f"{way.pattern}{name}/"
            self.find(path / name, _Way(pattern, part, way.client))

    def _are_clients(self, path: Path, folders: Sequence[str]) -> bool:
        """Whether all are called as clients and none has images but in class folders."""
        if not all(_CLIENT.fullmatch(name) for name in folders):
            return False
        inside = [self.listing(path / name) for name in folders]
        return any(one.folders for one in inside) and all(
            one.folders or not one.images for one in inside
        )

    def _find_in_clients(self, path: Path, folders: Sequence[str], way: _Way) -> None:
        for name in folders:
            pattern = f"{way.pattern}<client>/"
            self.find(path / name, _Way(pattern, way.part, composed(name)))

    def _wrapper(self, path: Path, folders: Sequence[str]) -> str | None:
        """Return the only folder that has folders, if there are but folders of documents beside."""
        inside = {name: self.listing(path / name) for name in folders}
        rest = [
            name
            for name, one in inside.items()
            if one.folders or one.images or one.left_out or not one.documents
        ]
        return rest[0] if len(rest) == 1 and self._deep(path, rest) == rest else None

    def _are_families(self, path: Path, folders: Sequence[str]) -> bool:
        """Whether the folders in these are known classes, and none of them is in two of these."""
        if not self._known or not self._are_groups(path, folders):
            return False
        below = _joined(self._below(path, folders))
        return all(map(self._knows, below)) and len(set(below)) == len(below)

    def _are_groups(self, path: Path, folders: Sequence[str]) -> bool:
        return bool(folders) and self._deep(path, folders) == folders

    def _find_below(self, path: Path, name: str, way: _Way) -> None:
        self.find(path / name, _Way(f"{way.pattern}{name}/", way.part, way.client))

    def _check_classes(self, path: Path, folders: Sequence[str]) -> None:
        """Refuse folders of which it is open whether they or those in them are the classes."""
        deep = self._deep(path, folders)
        # Of known ones, those beside them that are not known are named later.
        if not deep or any(map(self._knows, folders)) or self._are_divided(path, folders):
            return
        inner = _joined(self._below(path, deep))
        others = [name for name in folders if name not in deep]
        beside = f", beside {_some(others)}," if others else ""
        seen = f"{path} has {_some(deep)}{beside} with folders in them ({_some(_once(inner))})"
        if len(deep) == len(folders) > 1 and len(set(inner)) < len(inner):
            raise DataError(
                f"{seen}, some in more than one: if each of {_some(deep)} is a client's, choose "
                "partition=given; if they are the classes, name them in data.class_names; "
                "otherwise give data.path one of them"
            )
        raise DataError(
            f"{seen}, so that it is open which of them are the classes: name these in "
            "data.class_names, or give data.path the folder that their folders are in"
        )

    def _are_divided(self, path: Path, folders: Sequence[str]) -> bool:
        """Whether these are classes by what their folders are called: by years, numbers or parts.

        Or all by one and the same name, as ``images``.
        """
        if self._deep(path, folders) != folders or _enumerated(folders):
            return False
        below = self._below(path, folders)
        inner = _joined(below)
        same = len({tuple(names) for names in below}) == 1 and len(below[0]) == 1
        tells_nothing = same or _enumerated(inner) or all(part_of(n) is not None for n in inner)
        return tells_nothing and not any(map(self._knows, inner))

    def _take(self, path: Path, folders: Sequence[str], way: _Way) -> None:
        """Take folders as those of classes."""
        names: dict[str, str] = {}
        for folder in folders:
            name, full = composed(folder), path / folder
            if name in names:
                raise DataError(
                    f"{path} has two folders that are both called {name!r}, one in composed and "
                    "one in decomposed Unicode: join them"
                )
            names[name] = folder
            if self._ignore_unknown and not self._knows(folder):
                self.found.ignored.append(name)
                continue
            self._enter(full)
            is_deep = self._gather(full, folder, name, way)
            self._note(f"{way.pattern}<class>/{'.../' if is_deep else ''}<image>")

    def _note(self, pattern: str) -> None:
        if pattern not in self.found.patterns:
            self.found.patterns.append(pattern)

    def _gather(self, path: Path, name: str, class_name: str, way: _Way) -> bool:
        """Take a class folder and all below it; return whether images lie further below."""
        here = self.listing(path)
        part = way.part or TRAIN
        self.found.folders.append(
            ImageFolder(str(path), name, class_name, part, way.client, here.images)
        )
        for entry, reason in here.left_out:
            self._leave_out(path / entry, reason)
        deep = False
        self._check_parts_of_class(path, here, way)
        for folder in here.folders:
            below = path / folder
            other = self._seen(below)
            if other is not None:
                self._leave_out(below, f"is the same folder as {other}")
                continue
            inner = _Way(way.pattern, part_of(folder), way.client) if way.part is None else way
            deep |= self._gather(below, f"{name}/{folder}", class_name, inner)
            deep |= bool(self.listing(below).images)
        return deep

    def _check_parts_of_class(self, path: Path, here: Listing, way: _Way) -> None:
        """Refuse folders for train, val and test in a class folder that are not all there is."""
        named = [folder for folder in here.folders if part_of(folder) is not None]
        if not named:
            return
        others = [folder for folder in here.folders if folder not in named] + here.images
        if others or way.part is not None:
            beside = f" and beside it {others[0]}" if others else ", and lies in such a folder"
            raise DataError(
                f"the class folder {path} has {named[0]}{beside}: it is open which images are for "
                "training; rename one of them, or move it away"
            )


def _enumerated(names: Sequence[str]) -> bool:
    """Whether names only count: years, numbers, or one word with a number."""
    matches = [_COUNTED.fullmatch(name) for name in names]
    return bool(names) and all(matches) and len({match[1] for match in matches if match}) == 1


def _joined(lists: Iterable[Sequence[str]]) -> list[str]:
    return [name for names in lists for name in names]


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return "somewhere"


def _nothing_in(root: Path, here: Listing) -> str:
    if here.images:
        return (
            f"{root} has no class folders, but images ({_some(sorted(here.images))}): put each "
            "into a folder named as its class, or give data.path a CSV list with the columns path "
            "and label"
        )
    return (
        f"{root} has no class folders: data.path must hold <class>/<image>, or folders for train, "
        "val and test with class folders in them"
    )
