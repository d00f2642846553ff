"""Files of a model folder: read with a sentence for what is wrong, hashed once."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedrsclip_core.errors import ModelError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.fileio import sha256_of, write_json

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in ``file``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelError
        If it holds something else, or cannot be read.
    """
    try:
        require_content(file)
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no JSON object: copy it again")
    return found


def require_content(file: Path) -> None:
    """Refuse a file that only says where its content is.

    Raises
    ------
    OSError
        If it cannot be read.
    ModelError
        If it is a git-LFS pointer.
    """
    with file.open("rb") as opened:
        start = opened.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        raise ModelError(
            f"{file} is a git-LFS pointer, a note in place of the file: run `git lfs pull` in "
            f"{file.parent}, or download the file itself"
        )


def remembered(what: str, files: Sequence[Path], compute: Callable[[], str]) -> str:
    """Return a digest of files, computed once; later calls believe path, size, time and inode.

    Parameters
    ----------
    what : str
        Which digest; another way to compute it needs another name.
    files : Sequence[Path]
        All that it depends on.
    compute : Callable[[], str]
        Returns 64 hexadecimal digits.
    """
    memo = paths.home() / "fingerprints" / f"{sha256_of(what, *map(_identity, files))}.json"
    try:
        known = json.loads(memo.read_text(encoding="utf-8"))["sha256"]
        if isinstance(known, str) and len(known) == 64:
            return known
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digest = compute()
    # A home without room is no reason to refuse a CLIP: it is hashed again.
    with suppress(OSError):
        write_json(memo, {"sha256": digest})
    return digest


def _identity(file: Path) -> str:
    stat = file.stat()
    return f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
