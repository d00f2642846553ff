"""Published splits: lists of file names that lie beside the images of a known data set."""

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.errors import DataError

_PARTS = ("train", "val", "test")
_LEVELS_UP = 2
_WHERE = "https://storage.googleapis.com/remote_sensing_representations/"
"""The lists of Neumann et al., In-domain representation learning for remote sensing (2020)."""
_SHOWN = 3


def published_parts(names: Iterable[str], root: Path, split_name: str) -> NDArray[np.int8]:
    """Return the part of each image by the published lists.

    Parameters
    ----------
    names : Iterable[str]
        Each image as ``<folder>/<file name without suffix>``.
    root : Path
        The data folder. The lists lie in it, or in one of the two folders above.
    split_name : str
        Of the lists ``<split_name>-train.txt``, ``-val.txt`` and ``-test.txt`` with a file name
        in each line; or, if it ends in ``.json``, of one file with ``train``, ``val`` and
        ``test``, each a list of ``[file name, label, class name]``.

    Returns
    -------
    NDArray[np.int8]
        ``(N,)``: 0 train, 1 val, 2 test.

    Raises
    ------
    DataError
        If a list is missing, cannot be read, or lacks an image, or a part has none.
    """
    part_of: dict[str, int] = {}
    for part, listed in enumerate(_lists(root, split_name)):
        for name in map(_stem, listed):
            if part_of.setdefault(name, part) != part:
                raise DataError(
                    f"the lists {split_name} have {name} in {_PARTS[part_of[name]]} and in "
                    f"{_PARTS[part]}: download them again"
                )
    names = list(names)
    parts = [part_of.get(name, part_of.get(name.rpartition("/")[2])) for name in names]
    missing = [name for name, part in zip(names, parts, strict=True) if part is None]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(names)} images are not in the lists {split_name}, e.g. "
            f"{', '.join(missing[:_SHOWN])}: the images must have the names of the original "
            "archive (those of a copy on the hub do not), or use data.split=seeded"
        )
    found = np.array(parts, dtype=np.int8)
    for part, word in enumerate(_PARTS):
        if not (found == part).any():
            raise DataError(
                f"no image here is one of {word} by the lists {split_name}: complete the images, "
                "or use data.split=seeded"
            )
    return found


def _lists(root: Path, split_name: str) -> list[list[str]]:
    """Return the file names of each part."""
    if split_name.endswith(".json"):
        return _json_lists(_find(root, [split_name])[0])
    files = _find(root, [f"{split_name}-{part}.txt" for part in _PARTS])
    return [[line.strip() for line in _text(file).splitlines() if line.strip()] for file in files]


def _find(root: Path, names: list[str]) -> list[Path]:
    """Return the files, all from the nearest folder that has one of them."""
    for folder in [root, *root.parents][: _LEVELS_UP + 1]:
        if any((folder / name).is_file() for name in names):
            root = folder
            break
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise DataError(
            f"data.split=published needs {' and '.join(missing)} beside the images in {root}: "
            f"download {'them' if len(missing) > 1 else 'it'} from {_source(missing[0])}, or use "
            "data.split=seeded"
        )
    return [root / name for name in names]


def _source(name: str) -> str:
    return "where the split is published" if name.endswith(".json") else f"{_WHERE}{name}"


def _json_lists(file: Path) -> list[list[str]]:
    try:
        content = json.loads(_text(file))
        return [[str(entry[0]) for entry in content[part]] for part in _PARTS]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{file} is no split: it must have train, val and test, each a list of "
            "[file name, label, class name]"
        ) from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({type(error).__name__})") from error


def _stem(line: str) -> str:
    """``<folder>/<file name without suffix>``, or without folder if the line has none."""
    path = PurePosixPath(line.replace("\\", "/"))
    return f"{path.parent.name}/{path.stem}" if path.parent.name else path.stem
