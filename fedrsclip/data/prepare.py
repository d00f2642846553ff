"""Make ``<folder>/<class>/<file>`` of a public data set, whole or not at all."""

import os
import shutil
from collections import Counter, defaultdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from fedrsclip.data.layout import count_deviations, deviations, find_layout, list_images
from fedrsclip.data.specs import DatasetSpec, squashed
from fedrsclip_core.errors import ConfigError, DataError
from fedrsclip_core.runs.fileio import whole_folder

if TYPE_CHECKING:
    from fedrsclip_core.data.hub.source import HubSource

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif"}


def prepare_folder(spec: DatasetSpec, source: Path, target: Path) -> int:
    """Link or, where that is impossible, copy the images of an unpacked archive.

    Parameters
    ----------
    spec : DatasetSpec
        What must be there.
    source : Path
        The archive's folder, or one up to two levels above the class folders.
    target : Path
        Absent or empty.

    Returns
    -------
    int
        How many images were copied rather than linked.

    Raises
    ------
    DataError
        If the folder is not this data set, or not all of it.
    ConfigError
        If there is something at ``target``.
    OSError
        If the disk is full or not writable.
    """
    _check_free(target)
    layout = find_layout(spec, source)
    _refuse(deviations(spec, layout))
    copied = 0
    with whole_folder(target) as staged:
        for name, images in list_images(layout).items():
            (staged / name).mkdir()
            copied += sum(_put(image, staged / name / image.name) for image in images)
    return copied


def prepare_hub(spec: DatasetSpec, target: Path) -> str | None:
    """Write the images of the data set's copy on the HuggingFace hub; return its commit there.

    Raises
    ------
    DataError
        If it cannot be loaded or is not this data set.
    ConfigError
        If no copy is known, or there is something at ``target``.
    OSError
        If the disk is full or not writable.
    """
    from fedrsclip_core.data.hub.index import find_index
    from fedrsclip_core.data.hub.source import HubSource
    from fedrsclip_core.data.hub.spec import HubSpec

    _check_free(target)
    if spec.hub_id is None:
        raise ConfigError(f"no copy of {spec.title} on the hub is known: give --from a folder")
    rows = HubSpec(spec.hub_id, spec.hub_revision)
    try:
        source = HubSource(rows, keep_equal=True)
    except DataError as error:
        raise DataError(f"{error} Otherwise give --from an unpacked archive") from error
    write_rows(spec, source, target)
    return find_index(rows).commit


def write_rows(spec: DatasetSpec, source: "HubSource", target: Path) -> None:
    """Write the rows of a hub's copy as ``<class>/<class>_row<number>``, numbered from 1.

    Not ``<class>_<number>``: an original archive may have another image of that name.

    Raises
    ------
    DataError
        If it has not exactly the classes and counts of the data set, or an image cannot be read.
    OSError
        If the disk is full or not writable.
    """
    name_of = {squashed(name): name for name in spec.class_names}
    where = f"{spec.hub_id} on the hub"
    classes = [name_of.get(squashed(name)) for name in source.class_names]
    rows: dict[str, list[int]] = defaultdict(list)
    for i, label in enumerate(source.labels.tolist()):
        name = classes[label]
        if name is None:
            raise DataError(
                f"{source.class_names[label]!r} of {where} is no class of {spec.title}: give "
                "--from an unpacked archive"
            )
        rows[name].append(i)
    counts = Counter({name: len(indices) for name, indices in rows.items()})
    _refuse(count_deviations(spec, counts, where))
    with whole_folder(target) as staged:
        for name in spec.class_names:
            (staged / name).mkdir()
            for number, i in enumerate(rows[name], 1):
                data = source.encoded(i)
                (staged / name / f"{name}_row{number:05d}{_suffix(data)}").write_bytes(data)


def _check_free(target: Path) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(f"there is something at {target}: give --to a new or empty folder")


def _refuse(sentences: list[str]) -> None:
    if sentences:
        more = f" ({len(sentences) - 1} more of this kind)" if len(sentences) > 1 else ""
        raise DataError(f"{sentences[0]}{more}")


def _put(image: Path, target: Path) -> bool:
    """Link or copy a file; return whether it was copied."""
    origin = image.resolve()  # a link would otherwise be to a link
    try:
        os.link(origin, target)
    except OSError:  # another file system, or one without hard links, or a foreign file
        shutil.copyfile(origin, target)
        return True
    return False


def _suffix(data: bytes) -> str:
    from PIL import Image

    try:
        with Image.open(BytesIO(data)) as image:
            return _SUFFIXES[image.format or ""]
    except (OSError, KeyError) as error:
        raise DataError("an image of the hub's copy is no JPEG, PNG or TIFF") from error
