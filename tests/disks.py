"""Real file systems of a few pages, which get full."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def full_disk(refuses: Callable[[str], bool] = lambda name: True) -> Iterator[None]:
    """Let a disk be full where a file is synced whose name ``refuses`` returns true for."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("looks a file's name up in /proc")
    sync = os.fsync

    def full(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if refuses(path.name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        sync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        yield


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a file system of ``size`` (as in ``64k``); skip the test where none can be mounted."""
    place.mkdir(mode=0o700, parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system of its own needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room; return the file that takes it."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 2**12):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return path
