"""The folder of a map: begun, resumed and finished, or refused."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedrsclip_core.errors import DataError, FedRSCLIPError
from fedrsclip_core.runs import lock, paths
from fedrsclip_core.runs.fileio import sync_directory, write_json

SUMMARY = "map.json"
"""Written last: a map that has it is complete."""
_PARTIAL, _KEY = ".partial", "key.json"
_ELSEWHERE = "choose another folder as out, or delete this one"


def is_complete(out: Path, key: str) -> bool:
    """Whether a folder holds the map of a key.

    Raises
    ------
    DataError
        If it holds anything else than that map, finished or not.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise DataError(f"{out} is a file: {_ELSEWHERE}")
    if (out / SUMMARY).exists():
        if _key_in(out / SUMMARY) == key:
            return True
        raise DataError(
            f"{out} holds a map of another scene, by another classifier or with other settings: "
            f"{_ELSEWHERE}"
        )
    if (out / _PARTIAL).exists():
        if _key_in(out / _PARTIAL / _KEY) == key:
            return False
        raise DataError(
            f"{out} holds an unfinished map of another scene, by another classifier or with other "
            f"settings: {_ELSEWHERE}"
        )
    if any(out.iterdir()):
        raise DataError(f"{out} is not empty: {_ELSEWHERE}")
    return False


@contextmanager
def working(out: Path, key: str) -> Iterator[Path]:
    """Yield the folder of an unfinished map, which stays if it can be resumed.

    What is wrong with a scene is wrong with it the next time: then nothing stays.

    Raises
    ------
    DataError
        If another process works on it.
    """
    existed = out.exists()
    partial = out / _PARTIAL
    partial.mkdir(parents=True, exist_ok=True)
    try:
        held = lock.hold(partial)
    except BlockingIOError:
        raise DataError(f"{out} is being written by another process: wait for its end") from None
    with held:
        if not (partial / _KEY).exists():
            write_json(partial / _KEY, {"key": key})
        try:
            yield partial
        except FedRSCLIPError:
            shutil.rmtree(partial)
            if not existed:
                out.rmdir()
            raise


def finish(out: Path, partial: Path, made: Path) -> None:
    """Move finished files to where they belong, the summary last, and forget the unfinished map."""
    for file in sorted(made.iterdir(), key=lambda file: file.name == SUMMARY):
        with file.open("rb") as written:
            os.fsync(written.fileno())
        if file.name == SUMMARY:
            sync_directory(out)
        file.replace(out / file.name)
    sync_directory(out)
    shutil.rmtree(partial)


def checked_out(given: str | Path) -> Path:
    """Return the folder that a person names.

    Raises
    ------
    ConfigError
        If it would travel with the submitted app.
    """
    return paths.outside_app(paths.place(given, "out").absolute(), "out")


def _key_in(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("key")
    except (OSError, ValueError, AttributeError):
        return None


def fresh(path: Path) -> Path:
    """Return a folder that is empty."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path
