"""Which folders lie on a file system that other machines may have, too."""

from pathlib import Path

import pytest

from fedrsclip_core.mounts import is_shared

pytestmark = pytest.mark.unit

MOUNTS = r"""24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 24 0:40 / /home rw,relatime shared:5 master:2 - nfs4 server:/home rw,vers=4.2
31 30 8:2 / /home/me/scratch rw,relatime - xfs /dev/sdb1 rw
32 24 0:41 / /data\040of\040all rw - fuse.sshfs me@host:/data rw
33 24 0:42 / /twice rw - lustre a@tcp:/one rw
34 24 0:43 / /twice rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "shared"),
    [
        ("/", False),
        ("/homes/me", False),
        ("/home/me/.fedrsclip/features", True),
        ("/home/me/scratch/features", False),
        ("/data of all/features", True),
        ("/twice/features", False),  # the last one mounted is the one that is seen
    ],
)
def test_the_nearest_mount_counts(folder: str, shared: bool, tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert is_shared(Path(folder), mounts) == shared


def test_where_nobody_knows_it_is_this_machines(tmp_path: Path) -> None:
    assert not is_shared(tmp_path, tmp_path / "no-such-file")
