"""What one has to know of a HuggingFace data set before any image is needed, kept as JSON.

Importing ``datasets`` takes seconds, and every message of a deployment is a new process. So the
labels and the names of the Arrow files are written down once; they are believed as long as those
files, and the local data folder if there is one, are as they were.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from fedrsclip_core.data.hub import columns, duplicates, loading
from fedrsclip_core.data.hub.commits import is_commit, newest_commit
from fedrsclip_core.data.hub.rows import ArrowRows
from fedrsclip_core.data.hub.spec import HubSpec
from fedrsclip_core.data.hub.split_names import (
    NO_PART,
    PART_NAMES,
    TRAIN,
    as_listed,
    is_part,
    parts_of,
)
from fedrsclip_core.data.hub.stream import first_pass
from fedrsclip_core.errors import DataError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.fileio import sha256_of, write_json
from fedrsclip_core.runs.records import UnreadableError, read_object

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]

_FORMAT = 3
FileStat = list[str | int]


class _Written(TypedDict):
    """A :class:`HubIndex` on disk."""

    files: list[list[str | int]]
    image_column: str
    names: list[str]
    labels: list[int]
    parts: list[int]
    groups: list[list[int]]
    notes: list[str]
    commit: str | None
    streams: list[str]
    hashes: list[str | None]
    version: str


@dataclass(frozen=True)
class HubIndex:
    """Labels and whereabouts of the rows.

    Attributes
    ----------
    files : list
        ``[path, size, mtime_ns]`` of the Arrow files, in row order.
    image_column : str
        Where their images are.
    names : list[str]
        The data set's own classes; numbers as digits.
    labels : list[int]
        Per row, an index into ``names``.
    parts : list[int]
        Per row: 0 train, 1 val, 2 test; ``EQUAL`` for one of train that val or test has, too,
        ``NO_PART`` for one that is none of these.
    groups : list[list[int]]
        Rows of train that are equal.
    notes : list[str]
        What a person should know of how the data set was read, a sentence each.
    commit : str or None
        Where the rows come from the hub, their commit there.
    streams : list[str]
        The splits in row order, if they are streamed: then there are no ``files``.
    hashes : list[str or None]
        Of streamed rows the sha256 of each image, ``None`` if a row has none.
    version : str
        Identity of the rows.
    """

    files: list[FileStat]
    image_column: str
    names: list[str]
    labels: list[int]
    parts: list[int]
    groups: list[list[int]]
    notes: list[str]
    commit: str | None
    streams: list[str]
    hashes: list[str | None]
    version: str


def find_index(spec: HubSpec) -> HubIndex:
    """Return the index of a data set, built at the first use.

    Raises
    ------
    DataError
        If the data set cannot be loaded or lacks a column, it cannot be told what its splits are
        for, or it is not of the commit asked for.
    """
    if spec.path is not None and not loading.data_files(spec.path):
        raise DataError(f"there is no data set at {spec.path}: correct data.path")
    index = _read(_file(spec))
    if index is None:
        index = _build_streamed(spec) if spec.streaming else _build(spec)
        write_json(_file(spec), asdict(index), mode=0o600)
        if index.commit is not None:
            pinned = replace(spec, revision=index.commit)
            write_json(_file(pinned), asdict(index), mode=0o600)
    return index


def known_commit(spec: HubSpec) -> str | None:
    """Return the commit of the written index; ``None`` without one."""
    index = _read(_file(spec))
    return None if index is None else index.commit


def forget_index(spec: HubSpec) -> None:
    """Have the index built again at the next use."""
    _file(spec).unlink(missing_ok=True)


def roots_of(spec: HubSpec) -> list[Path]:
    """Return the folders in which files that rows name may lie.

    Of a local copy anywhere: whoever gives it, gives its paths. What comes from the hub may name
    only files that came with it.
    """
    if spec.path is not None:
        folder = spec.path if spec.path.is_dir() else loading.data_files(spec.path)[0].parent
        return [folder.resolve(), Path("/")]
    from datasets import config
    from huggingface_hub import constants

    places = (config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, constants.HF_HUB_CACHE)
    return [Path(place).resolve() for place in places]


def _file(spec: HubSpec) -> Path:
    return paths.home() / "datasets" / f"{_key(spec)}.json"


def _key(spec: HubSpec) -> str:
    local = None if spec.path is None else [str(spec.path.resolve()), *_listing(spec.path)]
    identity = asdict(replace(spec, path=None)) | {"path": local}
    return sha256_of(json.dumps([_FORMAT, identity], sort_keys=True))[:32]


def _listing(path: Path) -> Iterator[FileStat]:
    if not path.is_dir():
        yield from map(_stat, loading.data_files(path))
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            yield _stat(Path(folder, name))


def _stat(file: Path) -> FileStat:
    try:
        stat = file.stat()
    except FileNotFoundError:  # a link to nowhere
        return [str(file), 0, 0]
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
        streamed = len(index.labels) if index.streams else 0
        whole = len(index.labels) == len(index.parts) and len(index.hashes) == streamed
    except (UnreadableError, OSError, ValueError, TypeError, IndexError):
        return None
    return index if fresh and inside and whole else None


@dataclass(frozen=True)
class _Used:
    """The splits that are used, joined: what their rows are, and what was said of them."""

    splits: "dict[str, Dataset]"
    parts: list[int]
    notes: list[str]


@dataclass(frozen=True)
class _Known:
    """What an index says of whereabouts and origin; as :class:`HubIndex`."""

    commit: str | None
    notes: list[str]
    version: str
    files: list[FileStat] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    hashes: list[str | None] = field(default_factory=list)


def _build(spec: HubSpec) -> HubIndex:
    loaded = loading.load(spec)
    used = _used(spec, loaded.splits)
    image, label = _columns_of(spec, used.splits)
    used = _labelled(spec, loaded.splits, used, label)
    files = [
        _stat(Path(cached["filename"])) for s in used.splits.values() for cached in s.cache_files
    ]
    commit = _commit(spec, files)
    rows = ArrowRows([str(file[0]) for file in files], image, roots_of(spec))
    known = _Known(
        files=files,
        commit=commit,
        notes=[*loaded.notes, *used.notes, *_columns_note(spec, image, label)],
        version=sha256_of(json.dumps(files))[:32],
    )
    return _index(spec, known, used, image, label, list(_hashes(rows, len(used.parts))))


def _build_streamed(spec: HubSpec) -> HubIndex:
    """Read all rows once, and keep what is said of them."""
    commit = _streamed_commit(spec)
    pinned = replace(spec, revision=commit or spec.revision)
    loaded = loading.stream(pinned)
    # One with a column of splits is chosen from later; names decide among several.
    wanted = parts_of(list(loaded.splits), spec.chosen, str(spec)) if len(loaded.splits) > 1 else {}
    streams = {name: loaded.splits[name] for name in wanted or loaded.splits}
    image, label = _columns_of(spec, streams)
    roots = roots_of(spec)
    passes = {name: first_pass(pinned, s, image, label, roots) for name, s in streams.items()}
    seen = {name: one.labels for name, one in passes.items() if one.hashes}
    used = _labelled(spec, seen, _used(spec, seen), label)
    others = as_listed([name for name in loaded.splits if name not in streams])
    left_out = [f"splits that are left out: {others}"] if others else []
    hashes = [content for name in used.splits for content in passes[name].hashes]
    identity = [_key(pinned), commit, list(used.splits), len(hashes)]
    known = _Known(
        streams=list(used.splits),
        hashes=hashes,
        commit=commit,
        notes=[*loaded.notes, *used.notes, *left_out, *_columns_note(spec, image, label)],
        version=sha256_of(json.dumps(identity))[:32],
    )
    return _index(spec, known, used, image, label, hashes)


def _columns_of(spec: HubSpec, splits: "Mapping[str, Dataset]") -> tuple[str, str]:
    """Return the columns of image and class, which all splits must have."""
    first = next(iter(splits.values()))
    image, label = columns.find_columns(
        first.features, spec.image_column, spec.label_column, str(spec)
    )
    for split in splits.values():
        columns.find_columns(split.features, image, label, str(spec))
    if spec.path is None and columns.holds_paths(first.features, image):
        raise DataError(
            f"the images of {spec} are paths of files, which did not come with it: download it "
            "with `hf download --repo-type dataset` and give data.path"
        )
    return image, label


def _index(
    spec: HubSpec,
    known: _Known,
    used: _Used,
    image: str,
    label: str,
    hashes: Sequence[str | None],
) -> HubIndex:
    """Complete an index by classes, and by what is done with equal images."""
    names, labels = _classes(spec, list(used.splits.values()), label)
    found = duplicates.find(hashes, used.parts, labels)
    if TRAIN not in found.parts:
        raise DataError(
            f"every training image of {spec} is in val or test, too: name other splits in "
            "data.train_splits, data.val_splits and data.test_splits"
        )
    return HubIndex(
        files=known.files,
        image_column=image,
        names=names,
        labels=labels,
        parts=found.parts,
        groups=found.groups,
        notes=[*known.notes, *found.notes],
        commit=known.commit,
        streams=known.streams,
        hashes=known.hashes,
        version=known.version,
    )


def _streamed_commit(spec: HubSpec) -> str | None:
    """Return the commit whose rows are streamed; ``None`` for a local copy.

    Raises
    ------
    DataError
        If the hub cannot be asked for it.
    """
    if spec.path is not None or is_commit(spec.revision):
        return None if spec.path is not None else spec.revision
    commit = newest_commit(spec)
    if commit is None:
        raise DataError(
            f"{spec} is to be read from the hub (data.streaming), which cannot be reached: try "
            "again online, or give data.path to a local copy"
        )
    return commit


def _used(spec: HubSpec, loaded: "dict[str, Dataset]") -> _Used:
    """Choose the splits; of a single one with a column ``split``, the rows."""
    if not loaded:
        raise DataError(f"{spec} has no rows")
    if len(loaded) == 1:
        ((name, split),) = loaded.items()
        by_column = _by_column(spec, name, split)
        if by_column is not None:
            return by_column
    part_of = parts_of(list(loaded), spec.chosen, str(spec))
    in_order = sorted(part_of, key=lambda name: (part_of[name], name))
    parts = [part_of[name] for name in in_order for _ in range(len(loaded[name]))]
    counts = {name: len(split) for name, split in loaded.items()}
    return _Used({name: loaded[name] for name in in_order}, parts, _splits_notes(counts, part_of))


def _labelled(spec: HubSpec, loaded: "dict[str, Dataset]", used: _Used, label: str) -> _Used:
    """Leave splits out of which no row has a label, as of a test split whose labels are secret."""
    secret = {
        name: split
        for name, split in used.splits.items()
        if all(value is None for value in columns.labels_of(split, label, str(spec)))
    }
    if not secret or len(secret) == len(used.splits):
        return used
    known = _used(spec, {name: loaded[name] for name in loaded if name not in secret})
    said = as_listed([f"{name} ({len(split)})" for name, split in secret.items()])
    return replace(known, notes=[*known.notes, f"splits without labels are left out: {said}"])


def _by_column(spec: HubSpec, name: str, split: "Dataset") -> _Used | None:
    """Take the parts from a column that has the names of splits, if there is one."""
    named = [one for one in split.column_names if one.lower() in columns.SPLIT_COLUMNS]
    if len(named) != 1 or not columns.holds_names(split.features, named[0]):
        return None
    values = columns.labels_of(split, named[0], str(spec))
    counts = Counter(value for value in values if value is not None)
    asked = {name for names in spec.splits for name in names} & set(counts)
    if not asked and (len(counts) < 2 or not any(map(is_part, counts))):
        return None
    part_of = parts_of(sorted(counts), spec.chosen, f"column {named[0]!r} of {spec}")
    parts = [part_of.get(value or "", NO_PART) for value in values]
    return _Used({name: split}, parts, _splits_notes(counts, part_of))


def _splits_notes(counts: Mapping[str, int], part_of: Mapping[str, int]) -> list[str]:
    """Say which splits are what, and which are left out."""
    if len(counts) == 1:
        return []
    said = []
    for part, what in [*enumerate(PART_NAMES), (None, "left out")]:
        names = [name for name in counts if part_of.get(name) == part]
        if names:
            said.append(f"{what}: {as_listed([f'{name} ({counts[name]})' for name in names])}")
    return [f"splits with their images: {'; '.join(said)}"]


def _columns_note(spec: HubSpec, image: str, label: str) -> list[str]:
    """Name the columns if they were found."""
    if (spec.image_column or "image", spec.label_column or "label") == (image, label):
        return []
    return [f"columns found: {image} holds the image, {label} the class"]


def _classes(
    spec: HubSpec, splits: "Sequence[Dataset]", column: str
) -> tuple[list[str], list[int]]:
    """Return the data set's classes and that of each row."""
    names: list[str] = []
    labels: list[str] = []
    for split in splits:
        own = columns.labels_of(split, column, str(spec))
        if missing := own.count(None):
            raise DataError(f"{missing} of {len(own)} rows of {spec} have no label: take them out")
        known = [name for name in own if name is not None]
        declared = columns.declared_names(split, column)
        if all(name.isdecimal() for name in declared or known):
            beside = columns.named_beside(split, column, known)
            declared = [] if beside else declared
            known = [beside[name] for name in known] if beside else known
        names += [n for n in declared or sorted(set(known), key=_by_number) if n not in names]
        labels += known
    number = {name: c for c, name in enumerate(names)}
    return names, [number[name] for name in labels]


def _by_number(name: str) -> tuple[int, str]:
    return (int(name), name) if name.isdecimal() else (0, name)


def _hashes(rows: ArrowRows, count: int) -> Iterator[str | None]:
    """Yield the sha256 of each row's image, ``None`` if it cannot be read."""
    for i in range(count):
        try:
            yield hashlib.sha256(rows.encoded(i)).hexdigest()
        except DataError:
            yield None


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
    commit = found if is_commit(found) else None
    asked = spec.revision
    if is_commit(asked) and commit != asked:
        raise DataError(
            f"the hub cannot be reached, and the cached copy of {spec} is of commit "
            f"{commit or 'unknown'}, not {asked}: load it once while online, or correct "
            "data.hub_revision"
        )
    return commit
