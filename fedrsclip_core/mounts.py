"""Whether a folder is one that other machines may have, too, by the kind of its file system."""

import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_SHARED = {
    *("nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs"),
    *("orangefs", "panfs", "wekafs", "fuse.ceph-fuse", "fuse.glusterfs", "fuse.juicefs"),
    *("fuse.sshfs", "fuse.dfuse", "fuse.beegfs_mount"),
}
_ESCAPED = re.compile(r"\\([0-7]{3})")


def is_shared(folder: Path, mounts: Path = _MOUNTS) -> bool:
    """Whether a folder is on a file system of a network; not where that cannot be told.

    Parameters
    ----------
    folder : Path
        The folder, which need not be there.
    mounts : Path
        Linux's list of what is mounted.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    found = folder.resolve()
    above = {found, *found.parents}
    # Of several at one place the last one is seen.
    kinds = {place: kind for place, kind in map(_mount, lines) if place in above}
    return kinds[max(kinds, key=lambda place: len(place.parts))] in _SHARED if kinds else False


def _mount(line: str) -> tuple[Path, str]:
    before, _, after = line.partition(" - ")
    place = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), before.split()[4])
    return Path(place), after.split()[0]
