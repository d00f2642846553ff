"""What one has to know of a HuggingFace data set before any image is needed, kept as JSON.

Importing ``datasets`` takes seconds, and every message of a deployment is a new process. So the
labels and the names of the Arrow files are written down once; they are believed as long as those
files, and the local data folder if there is one, are as they were.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from fedrsclip_core.errors import DataError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.fileio import sha256_of, write_json
from fedrsclip_core.runs.records import UnreadableError, read_object

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]

_FORMAT = 2
_COMMIT = re.compile("[0-9a-f]{40}")
FileStat = list[str | int]


@dataclass(frozen=True)
class HubSpec:
    """Which data set: an id on the hub with its revision, or a local path; and its columns."""

    hub_id: str | None
    revision: str | None
    path: Path | None
    image_column: str
    label_column: str

    def __str__(self) -> str:
        return f"data set {self.hub_id if self.path is None else self.path}"


class _Written(TypedDict):
    """A :class:`HubIndex` on disk."""

    files: list[list[str | int]]
    names: list[str]
    labels: list[int]
    test_from: int
    commit: str | None


@dataclass(frozen=True)
class HubIndex:
    """Labels and whereabouts of the rows.

    Attributes
    ----------
    files : list
        ``[path, size, mtime_ns]`` of the Arrow files, in row order.
    names : list[str]
        The data set's own classes.
    labels : list[int]
        Per row, an index into ``names``.
    test_from : int
        First row of the ``test`` split, the number of rows without one.
    commit : str or None
        Where the rows come from the hub, their commit there.
    """

    files: list[FileStat]
    names: list[str]
    labels: list[int]
    test_from: int
    commit: str | None

    @property
    def version(self) -> str:
        """Identity of the rows."""
        return sha256_of(json.dumps(self.files))[:32]


def find_index(spec: HubSpec) -> HubIndex:
    """Return the index of a data set, built at the first use.

    Raises
    ------
    DataError
        If the data set cannot be loaded or lacks a column, or is not of the commit asked for.
    """
    if spec.path is not None and not spec.path.exists():
        raise DataError(f"there is no data set at {spec.path}: correct data.path")
    index = _read(_file(spec))
    if index is None:
        index = _build(spec)
        write_json(_file(spec), asdict(index), mode=0o600)
        if index.commit is not None:
            pinned = replace(spec, revision=index.commit)
            write_json(_file(pinned), asdict(index), mode=0o600)
    return index


def _file(spec: HubSpec) -> Path:
    return paths.home() / "datasets" / f"{_key(spec)}.json"


def _key(spec: HubSpec) -> str:
    local = None if spec.path is None else [str(spec.path.resolve()), *_listing(spec.path)]
    identity = [spec.hub_id, spec.revision, local, spec.image_column, spec.label_column]
    return sha256_of(json.dumps([_FORMAT, *identity]))[:32]


def _listing(path: Path) -> Iterator[FileStat]:
    if path.is_file():
        yield _stat(path)
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            yield _stat(Path(folder, name))


def _stat(file: Path) -> FileStat:
    stat = file.stat()
    return [str(file), stat.st_size, stat.st_mtime_ns]


def _read(file: Path) -> HubIndex | None:
    """Return a written index if its Arrow files are as they were."""
    try:
        found = read_object(file, _Written)
        if found is None:
            return None
        index = HubIndex(**found)
        fresh = all(_stat(Path(str(known[0]))) == known for known in index.files)
        inside = all(0 <= label < len(index.names) for label in index.labels)
    except (UnreadableError, OSError, ValueError, TypeError, IndexError):
        return None
    return index if fresh and inside else None


def _build(spec: HubSpec) -> HubIndex:
    train_and_others, test = _load(spec)
    names: list[str] = []
    labels: list[int] = []
    files: list[FileStat] = []
    for split in [*train_and_others, *test]:
        _check_columns(spec, split)
        files += [_stat(Path(cached["filename"])) for cached in split.cache_files]
        own = _labels(spec, split)
        names += [name for name in _names(spec, split, own) if name not in names]
        number = {name: c for c, name in enumerate(names)}
        labels += [number[name] for name in own]
    test_from = sum(len(split) for split in train_and_others)
    return HubIndex(files, names, labels, test_from, _commit(spec, files))


def _commit(spec: HubSpec, files: list[FileStat]) -> str | None:
    """Return the commit that the library has loaded: its cache has a folder for each.

    Raises
    ------
    DataError
        If another was asked for: without the hub the library takes what it has.
    """
    if spec.path is not None or not files:
        return None
    found = Path(str(files[0][0])).parent.name
    commit = found if _COMMIT.fullmatch(found) else None
    asked = spec.revision
    if asked is not None and _COMMIT.fullmatch(asked) and commit != asked:
        raise DataError(
            f"the hub cannot be reached, and the cached copy of {spec} is of commit "
            f"{commit or 'unknown'}, not {asked}: load it once while online, or correct "
            "data.hub_revision"
        )
    return commit


def _load(spec: HubSpec) -> "tuple[list[Dataset], list[Dataset]]":
    """Return the splits that are not ``test``, train first, and the one that is."""
    import datasets
    from datasets.exceptions import DatasetsError  # type: ignore[import-untyped]

    datasets.disable_progress_bars()
    try:
        loaded = _load_any(spec)
    except (OSError, ValueError, DatasetsError) as error:
        where = (
            "is it on this machine's hub cache or the hub reachable, and data.hub_id right?"
            if spec.path is None
            else "data.path must hold parquet files, an image folder or a save_to_disk copy"
        )
        raise DataError(f"{spec} cannot be loaded ({type(error).__name__}): {where}") from error
    if isinstance(loaded, datasets.Dataset):
        return [loaded], []
    others = sorted((name for name in loaded if name != "test"), key=lambda n: (n != "train", n))
    return [loaded[name] for name in others], [loaded["test"]] if "test" in loaded else []


def _load_any(spec: HubSpec) -> Any:
    import datasets

    if spec.path is None:
        return datasets.load_dataset(str(spec.hub_id), revision=spec.revision)
    if spec.path.is_file():
        return datasets.load_dataset("parquet", data_files=str(spec.path.resolve()))
    if any((spec.path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return datasets.load_from_disk(str(spec.path), keep_in_memory=False)
    return datasets.load_dataset(str(spec.path.resolve()))


def _check_columns(spec: HubSpec, split: "Dataset") -> None:
    import datasets

    for key, column in (("image", spec.image_column), ("label", spec.label_column)):
        if column not in split.column_names:
            raise DataError(
                f"{spec} has no column {column!r}: set data.{key}_column to one of "
                f"{', '.join(split.column_names)}"
            )
    if not isinstance(split.features[spec.image_column], datasets.Image):
        raise DataError(
            f"column {spec.image_column!r} of {spec} holds no images: correct data.image_column"
        )


def _labels(spec: HubSpec, split: "Dataset") -> list[str]:
    """Class name of each row."""
    import datasets

    feature = split.features[spec.label_column]
    table = split.select_columns([spec.label_column]).with_format("arrow")[:]
    values: list[Any] = table.column(0).to_pylist()
    if isinstance(feature, datasets.ClassLabel):
        names = feature.names
        values = [names[v] if v is not None and v >= 0 else None for v in values]
    elif not all(value is None or isinstance(value, str) for value in values):
        raise DataError(
            f"column {spec.label_column!r} of {spec} holds neither ClassLabel nor names: set "
            "data.label_column or save the data set with class names"
        )
    if missing := values.count(None):
        raise DataError(f"{missing} of {len(values)} rows of {spec} have no label: take them out")
    return values


def _names(spec: HubSpec, split: "Dataset", labels: list[str]) -> list[str]:
    declared = getattr(split.features[spec.label_column], "names", None)
    return list(declared) if declared else sorted(set(labels))
