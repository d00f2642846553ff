"""Find the class folders of a public data set wherever its archive was unpacked."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fedrsclip.data.specs import DatasetSpec, squashed
from fedrsclip_core.data.folders.listing import list_folder
from fedrsclip_core.errors import DataError

_LEVELS = 2
# OPTIMAL-31's classes are 31 of NWPU-RESISC45's 45: one must not be taken for the other.
_MIN_LIKENESS = 0.75


@dataclass(frozen=True)
class Layout:
    """Where a data set's classes lie.

    Attributes
    ----------
    root : Path
        The folder with the class folders.
    folders : dict[str, Path]
        The folder of each class that is there, in the data set's order.
    others : list[Path]
        Folders beside them that are no class.
    """

    root: Path
    folders: dict[str, Path]
    others: list[Path]


def find_layout(spec: DatasetSpec, path: Path) -> Layout:
    """Return where the classes lie: in ``path`` or at most two levels below.

    A folder is a class's if the letters and digits of the names are equal, in upper or lower
    case.

    Raises
    ------
    DataError
        If there is no such place, or more than one.
    """
    if not path.is_dir():
        raise DataError(f"there is no folder {path}: give one that holds {spec.title}")
    places = [_matched(spec, folder) for folder in _down_to(path, _LEVELS)]
    likeness = {place.root: _likeness(spec, place) for place in places}
    best = max(likeness.values())
    found = [place for place in places if likeness[place.root] == best]
    if best < _MIN_LIKENESS:
        raise DataError(
            f"neither {path} nor a folder up to two levels below has the class folders of "
            f"{spec.title}: its archive has them in {spec.archive}"
        )
    if len(found) > 1:
        raise DataError(
            f"{found[0].root} and {found[1].root} both have the class folders of {spec.title}: "
            "give the one that is meant"
        )
    return found[0]


def list_images(layout: Layout) -> dict[str, list[Path]]:
    """Return the images of each class that is there, sorted by name."""
    return {
        name: sorted(folder / image for image in list_folder(folder).images)
        for name, folder in layout.folders.items()
    }


def deviations(spec: DatasetSpec, layout: Layout) -> list[str]:
    """Say in what the folders differ from the data set, a sentence each; empty if in nothing."""
    found = [f"{folder} is no class of {spec.title}: move it away" for folder in layout.others]
    counts = {name: len(images) for name, images in list_images(layout).items()}
    return found + count_deviations(spec, Counter(counts), str(layout.root))


def count_deviations(spec: DatasetSpec, counts: Counter[str], where: str) -> list[str]:
    """Say which classes have not as many images as they should, a sentence each."""
    return [
        f"class {name} of {spec.title} has {counts[name]} images in {where}, but should have "
        f"{spec.images_per_class[name]}: unpack the archive again"
        for name in spec.class_names
        if counts[name] != spec.images_per_class[name]
    ]


def _down_to(folder: Path, levels: int) -> list[Path]:
    below = _folders_in(folder) if levels else []
    return [folder, *(found for child in below for found in _down_to(child, levels - 1))]


def _folders_in(folder: Path) -> list[Path]:
    return [folder / name for name in list_folder(folder).folders]


def _matched(spec: DatasetSpec, root: Path) -> Layout:
    name_of = {squashed(name): name for name in spec.class_names}
    folders: dict[str, Path] = {}
    others: list[Path] = []
    for folder in _folders_in(root):
        name = name_of.get(squashed(folder.name))
        if name is None or name in folders:
            others.append(folder)
        else:
            folders[name] = folder
    in_order = {name: folders[name] for name in spec.class_names if name in folders}
    return Layout(root, in_order, others)


def _likeness(spec: DatasetSpec, place: Layout) -> float:
    """Classes that are there, divided by all names that are there or should be."""
    return len(place.folders) / (len(spec.class_names) + len(place.others))
