"""What control groups leave to a process, in the forms of both versions."""

from pathlib import Path

import pytest

from fedrsclip_core import machine
from fedrsclip_core.quotas import cpu_quota, memory_left

pytestmark = pytest.mark.unit

GIB = 2**30


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("own", "files", "cpus", "memory"),
    [
        ("0::/", {"cpu.max": "150000 100000", "memory.max": "max"}, 1.5, None),
        (
            "0::/",
            {
                "cpu.max": "max 100000",
                "memory.max": f"{4 * GIB}",
                "memory.current": f"{3 * GIB}",
                "memory.stat": f"anon 5\ninactive_file {GIB}",
            },
            None,
            2 * GIB,
        ),
        # A service in a slice: the narrowest group counts.
        (
            "0::/a.slice/b.service",
            {
                "a.slice/cpu.max": "200000 100000",
                "a.slice/b.service/cpu.max": "400000 100000",
                "a.slice/memory.max": f"{2 * GIB}",
                "a.slice/memory.current": "0",
                "a.slice/b.service/memory.max": "max",
            },
            2.0,
            2 * GIB,
        ),
        # In a container the path may be the host's, and only the top is mounted.
        ("0::/docker/1234", {"cpu.max": "50000 100000"}, 0.5, None),
        (
            "4:memory:/docker/1\n3:cpu,cpuacct:/docker/1",
            {
                "cpu,cpuacct/docker/1/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000",
                "memory/docker/1/memory.limit_in_bytes": f"{GIB}",
                "memory/docker/1/memory.usage_in_bytes": f"{2 * GIB}",
            },
            3.0,
            0,
        ),
        (
            "4:memory:/\n3:cpu,cpuacct:/",
            {
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/memory.usage_in_bytes": "5",
            },
            None,
            None,
        ),
        ("0::/", {"cpu.max": "much"}, None, None),
        ("", {}, None, None),
    ],
)
def test_the_narrowest_group_counts(
    own: str, files: dict[str, str], cpus: float | None, memory: int | None, tmp_path: Path
) -> None:
    root = _write(tmp_path / "cgroup", files)
    (tmp_path / "own").write_text(own)
    assert cpu_quota(root, tmp_path / "own") == cpus
    assert memory_left(root, tmp_path / "own") == memory
    assert cpu_quota(root, tmp_path / "absent") is None


@pytest.mark.parametrize(("quota", "cpus"), [(None, 4), (2.5, 2), (0.5, 1), (64.0, 4)])
def test_a_quota_bounds_the_cpus(
    quota: float | None, cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    assert machine.available_cpus() == cpus


def test_memory_is_the_least_of_machine_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_free_memory", lambda: 5 * GIB)
    for left, expected in ((None, 5 * GIB), (GIB, GIB), (8 * GIB, 5 * GIB)):
        monkeypatch.setattr(machine, "memory_left", lambda left=left: left)
        assert machine.available_memory() == expected
