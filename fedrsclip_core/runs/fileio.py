"""Files and folders that are whole or absent: made under a temporary name, then renamed."""

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` atomically.

    Parameters
    ----------
    path : Path
        The target; its parents are created.
    data : bytes
        The complete new content.
    mode : int
        Permission bits of the new file.

    Raises
    ------
    OSError
        If the disk is full or not writable; the previous file is then intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace ``path`` atomically with UTF-8 text."""
    write_bytes(path, text.encode(), mode=mode)


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Replace ``path`` atomically with indented JSON."""
    write_text(path, to_json(value, indent=2) + "\n", mode=mode)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return JSON that every reader takes: NaN and infinity, which it does not have, are null."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_line(path: Path, line: str) -> None:
    """Append one line and sync it; a reader sees whole lines or, after a crash, a cut last one.

    Raises
    ------
    OSError
        If the disk is full or not writable; the file is then as it was.
    """
    append_bytes(path, (line + "\n").encode())


def append_bytes(path: Path, data: bytes) -> None:
    """Append and sync, all or, unless the machine dies, nothing.

    Raises
    ------
    OSError
        If the disk is full or not writable; the file is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            if file.write(data) != len(data):  # what still fitted on a full disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``path`` at the end, and goes if there is an error.

    Parameters
    ----------
    path : Path
        The target, absent or an empty folder; its parents are created.

    Raises
    ------
    OSError
        If the disk is full or not writable, or ``path`` is not empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield staged
        staged.chmod(0o755)
        staged.rename(path)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    sync_directory(path.parent)


def sync_directory(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut (a no-op where folders cannot be opened)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(*parts: bytes | str) -> str:
    """Hex digest over length-prefixed parts, so that no two different lists collide by joining."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
