"""What a container or a service may use: the quotas of Linux's control groups, both versions."""

from collections.abc import Iterator
from pathlib import Path

_CGROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_UNLIMITED = 2**60
"""Bytes from which a limit is none: version 1 says the largest number of pages."""


def cpu_quota(root: Path = _CGROUPS, own: Path = _OWN) -> float | None:
    """Return how many CPUs' time this process gets; ``None``: no group limits it.

    Parameters
    ----------
    root : Path
        Where the groups are mounted.
    own : Path
        The file that says in which group this process is.
    """
    found = []
    for folder in _folders(root, own, "cpu"):
        quota, period = _words(folder / "cpu.max", 2)
        if quota == period == "":
            (quota,), (period,) = (
                _words(folder / f"cpu.cfs_{name}_us", 1) for name in ("quota", "period")
            )
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            found.append(int(quota) / int(period))
    return min(found, default=None)


def memory_left(root: Path = _CGROUPS, own: Path = _OWN) -> int | None:
    """Return the bytes that groups leave to this process; ``None``: no group limits it.

    What the kernel may take back, the cache of files, is not counted as used.
    """
    found = []
    for folder in _folders(root, own, "memory"):
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            (limit,), (used,) = _words(folder / limit_name, 1), _words(folder / used_name, 1)
            if limit.isdecimal() and used.isdecimal() and int(limit) < _UNLIMITED:
                found.append(max(0, int(limit) - int(used) + _cached(folder)))
    return min(found, default=None)


def _folders(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and of those above it."""
    for line in _read(own).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            top = root
        elif controller in controllers.split(","):
            top = root / controllers if (root / controllers).is_dir() else root / controller
        else:
            continue
        # Inside a container the group's path is often the host's, and only the top is there.
        folder = top / group.lstrip("/")
        yield folder
        while folder != top and top in folder.parents:
            folder = folder.parent
            yield folder


def _cached(folder: Path) -> int:
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdecimal():
            return int(value)
    return 0


def _words(file: Path, count: int) -> tuple[str, ...]:
    words = _read(file).split()
    return tuple(words) if len(words) == count else ("",) * count


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
