"""Open a data set with the ``datasets`` library, or say in one sentence why that cannot be."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrsclip_core.data.hub.spec import HubSpec
from fedrsclip_core.data.hub.split_names import as_listed, is_part
from fedrsclip_core.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]

_SAVED = ("state.json", "dataset_dict.json")
_BUILDERS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".tar": "webdataset",
}
_ROWS = (".parquet", ".arrow", ".tar")
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES = 1024
_SHOWN = 150
"""Characters of the library's words that a sentence repeats."""
_PARQUET_BRANCH = "refs/convert/parquet"
_NUMBERED = re.compile(r"([-_.]?[0-9]+)*(-of-[0-9]+)?$")
_IMAGES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"}


@dataclass(frozen=True)
class Loaded:
    """A data set as the library gives it.

    Attributes
    ----------
    splits : dict
        The splits that have rows, by name; ``all`` for a data set without splits.
    notes : list[str]
        What a person should know of it, a sentence each.
    """

    splits: "dict[str, Dataset]"
    notes: list[str]


def load(spec: HubSpec) -> Loaded:
    """Load a data set.

    Raises
    ------
    DataError
        If it cannot be loaded.
    """
    loaded = _loaded(spec, streaming=False)
    return replace(loaded, splits={n: split for n, split in loaded.splits.items() if len(split)})


def stream(spec: HubSpec) -> Loaded:
    """Open a data set to be read row after row, without a copy on the disk.

    Its splits are ``IterableDataset`` with images as they are stored; whether they have rows is not
    known.

    Raises
    ------
    DataError
        If it cannot be opened, or does not say beforehand which columns it has.
    """
    loaded = _loaded(spec, streaming=True)
    if any(split.features is None for split in loaded.splits.values()):
        raise DataError(
            f"{spec} does not say which columns it has before it is read: load it without "
            "data.streaming"
        )
    return replace(loaded, splits={n: split.decode(False) for n, split in loaded.splits.items()})


def _loaded(spec: HubSpec, *, streaming: bool) -> Loaded:
    import datasets
    from datasets.exceptions import DatasetsError  # type: ignore[import-untyped]
    from huggingface_hub.utils.logging import set_verbosity

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # it logs what it raises, too
    set_verbosity(logging.ERROR)  # it tells of every retry
    _refuse_pointers(spec)
    try:
        loaded, notes = _opened(spec, streaming)
    except (OSError, ValueError, RuntimeError, TypeError, DatasetsError) as error:
        raise _unloadable(spec, error) from error
    return Loaded(dict(loaded) if isinstance(loaded, dict) else {"all": loaded}, notes)


def _opened(spec: HubSpec, streaming: bool) -> tuple[Any, list[str]]:
    import datasets

    if spec.path is not None and any((spec.path / name).is_file() for name in _SAVED):
        if spec.config is not None:
            raise DataError(f"{spec} has no configurations: leave data.hub_config out")
        saved = datasets.load_from_disk(str(spec.path), keep_in_memory=False)
        return (_iterable(saved) if streaming else saved), []
    place, options = _place(spec)
    _check_config(spec, place, options)
    builder = datasets.load_dataset_builder(place, spec.config, revision=spec.revision, **options)
    notes = _unread(spec, builder.config.data_files or {})
    if streaming:
        return builder.as_streaming_dataset(), notes
    builder.download_and_prepare()
    return builder.as_dataset(), notes


def _iterable(saved: Any) -> Any:
    if isinstance(saved, dict):
        return {name: split.to_iterable_dataset() for name, split in saved.items()}
    return saved.to_iterable_dataset()


def _place(spec: HubSpec) -> tuple[str, dict[str, Any]]:
    """Return what ``load_dataset`` is to load, and its options."""
    if spec.path is None:
        return str(spec.hub_id), {}
    if spec.path.is_dir():
        return str(spec.path.resolve()), {}
    files = data_files(spec.path)
    suffix = files[0].suffix.lower()
    if suffix not in _BUILDERS or any(file.suffix.lower() != suffix for file in files):
        raise DataError(
            f"{spec} is no file of a data set: data.path must be a folder, or files of one of "
            f"{', '.join(_BUILDERS)}; unpack an archive of images, and use data=folder"
        )
    options: dict[str, Any] = {"data_files": _by_split(files)}
    return _BUILDERS[suffix], options | ({"sep": "\t"} if suffix == ".tsv" else {})


def _by_split(files: Sequence[Path]) -> dict[str, list[str]]:
    """Return files by the split that their names say, all as ``train`` if they say none."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in files:
        name = re.sub(r"\W", "_", _NUMBERED.sub("", file.stem)) or file.stem
        found[name].append(str(file))
    if len(found) > 1 and any(is_part(name) for name in found):
        return dict(found)
    return {"train": [str(file) for file in files]}


def data_files(path: Path) -> list[Path]:
    """Return the file of this path, or the files that it means if it has wildcards."""
    if path.exists():
        return [path.resolve()]
    path = path.absolute()
    return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def _unread(spec: HubSpec, data_files: Mapping[Any, Sequence[str]]) -> list[str]:
    """Say which files of a local folder the library does not take for rows.

    It knows splits by words in the names of files and folders, and reads then nothing else.

    Raises
    ------
    DataError
        If it has taken one folder of classes for a split, and reads no other.
    """
    if spec.path is None or not spec.path.is_dir() or spec.config is not None:
        return []
    read = {Path(file).resolve() for files in data_files.values() for file in files}
    suffixes = {file.suffix.lower() for file in read}
    root = spec.path.resolve()
    others = [f for f in _all_files(root) if f.suffix.lower() in suffixes and f not in read]
    if not others:
        return []
    if len(data_files) == 1 and suffixes & _IMAGES:
        raise DataError(
            f"the datasets library takes a folder in {spec.path} for a split by its name, and "
            f"would read {len(read)} images of {len(read) + len(others)}: use data=folder"
        )
    folders = sorted({str(file.relative_to(root).parent) for file in others})
    return [f"{len(others)} files are not read, in {as_listed(folders)}: they are of no split"]


def _check_config(spec: HubSpec, place: str, options: dict[str, Any]) -> None:
    """Refuse a configuration that is not there, and to choose one of several."""
    import datasets

    if options and spec.config is not None:
        raise DataError(f"{spec} has no configurations: leave data.hub_config out")
    if options:
        return
    names = datasets.get_dataset_config_names(place, revision=spec.revision)
    default = datasets.get_dataset_default_config_name(place, revision=spec.revision)
    if spec.config is not None and spec.config not in names:
        raise DataError(
            f"{spec} has no configuration {spec.config!r}: set data.hub_config to one of "
            f"{as_listed(names)}"
        )
    if spec.config is None and len(names) > 1 and default is None:
        raise DataError(
            f"{spec} has several configurations and none by default: set data.hub_config to one "
            f"of {as_listed(names)}"
        )


def _unloadable(spec: HubSpec, error: Exception) -> DataError:
    if "Dataset scripts are no longer supported" in str(error):
        return DataError(
            f"{spec} is made by a script, which the library no longer runs: {_instead(spec)}"
        )
    failed = f"{spec} cannot be loaded ({_reason(error)})"
    if "Invalid string class label" in str(error.__cause__):  # what it makes of an archive's name
        return DataError(
            f"{failed}: the library cannot read archives of images; unpack them for data=folder"
        )
    if spec.path is None:
        return DataError(
            f"{failed}: is it on this machine's hub cache or the hub reachable, and data.hub_id "
            "right?"
        )
    return DataError(
        f"{failed}: data.path must hold whole parquet files, an image folder, WebDataset shards or "
        "a save_to_disk copy"
    )


def _reason(error: Exception) -> str:
    """Return the kind and first line of an error, or of the one that it comes from."""
    cause = error.__cause__ or error
    first = str(cause).strip().partition("\n")[0][:_SHOWN]
    return f"{type(cause).__name__}: {first}" if first else type(cause).__name__


def _instead(spec: HubSpec) -> str:
    if spec.path is None:
        return (
            "most such sets have a copy in parquet, which data.hub_revision="
            f"{_PARQUET_BRANCH} takes; otherwise unpack its archive and use data=folder"
        )
    return (
        "take the copy in parquet from the hub (branch "
        f"{_PARQUET_BRANCH}), or unpack its archive and use data=folder"
    )


def _refuse_pointers(spec: HubSpec) -> None:
    """Refuse files that git left in place of the data."""
    if spec.path is None:
        return
    for file in _all_files(spec.path):
        if is_pointer(file):
            raise DataError(
                f"{file} is a pointer of git-lfs, not the data: run `git lfs pull` in its folder, "
                "or download the data set again with `hf download`"
            )


def is_data_set(path: Path) -> bool:
    """Whether a path holds rows of a data set, rather than images in folders or a list of them."""
    if path.is_file():
        return path.suffix.lower() in (*_ROWS, ".json", ".jsonl")
    files = [path / name for name in (*_SAVED, f"{path.name}.py")]
    rows = (file for pattern in ("*", "*/*") for file in path.glob(pattern))
    return any(file.is_file() for file in files) or any(f.suffix.lower() in _ROWS for f in rows)


def is_pointer(file: Path) -> bool:
    """Whether git-lfs has left a pointer in place of a file."""
    try:
        if file.stat().st_size > _POINTER_BYTES:
            return False
        with file.open("rb") as opened:
            return opened.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def _all_files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in sorted(path.rglob("*")) if file.is_file())
    else:
        yield from data_files(path)
