"""Small pictures of classes, from images on the reader's own machine."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.data.folders.source import FolderSource
from fedrsclip_core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

PIXELS = 72
_QUALITY = 80
_PER_CLASS = 2
_TRIES = 10
"""Images of a class that are tried, as some may be unreadable."""


def thumbnails(
    folder: Path,
    class_names: Iterable[str],
    aliases: Mapping[str, str],
    reading: Reading = AS_THEY_ARE,
    *,
    known: Sequence[str] = (),
    by_client: bool = False,
) -> dict[str, list[str]]:
    """Return a few images of each class that the folder has, as ``data:`` addresses.

    Parameters
    ----------
    folder : Path
        Laid out as for a run, or a CSV list.
    class_names : Iterable[str]
        The classes that are shown.
    aliases : Mapping[str, str]
        Classes of folders that are called otherwise.
    reading : Reading
        How images become RGB.
    known : Sequence[str]
        The federation's classes; others are passed over. Empty: whatever the folder has.
    by_client : bool
        Folders with class folders in them are clients'.

    Raises
    ------
    DataError
        If the folder holds no images in class folders.
    """
    try:
        source = FolderSource(
            folder,
            known,
            class_aliases=aliases,
            reading=reading,
            ignore_others=bool(known),
            by_client=by_client,
        )
    except DataError as error:
        raise DataError(f"--images cannot be used: {error}") from error
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(class_names):
        if name in source.class_names:
            indices = (source.labels == source.class_names.index(name)).nonzero()[0]
            found[name] = _of_class(source, indices.tolist())
    return found


def _of_class(source: FolderSource, indices: list[int]) -> list[str]:
    made: list[str] = []
    for index in indices[:_TRIES]:
        try:
            made.append(_address(source.image(index)))
        except DataError:
            continue
        if len(made) == _PER_CLASS:
            break
    return made


def _address(image: "Image") -> str:
    from PIL.ImageOps import fit

    # A new image: what a file says of place and time stays behind.
    small: Any = fit(image, (PIXELS, PIXELS))
    small.info = {}
    file = BytesIO()
    small.save(file, format="JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
