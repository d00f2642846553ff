"""`fedrsclip map` as a process: killed in the middle, it goes on where it was."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fedrsclip_core.demo.scenes import render
from tests.unit.classifier.test_named_classes import write
from tests.unit.map.scenes import write_scene

pytestmark = pytest.mark.integration

PATIENCE = 300


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prompt and a scene of 3249 overlapping windows."""
    folder = tmp_path_factory.mktemp("map")
    write(folder)
    rows = [[render(c, r, seed=5, domain=0) for c in range(8)] for r in range(8)]
    pixels = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    write_scene(folder / "scene.tif", pixels[:512, :512], compress="deflate")
    return folder


def started(user: Path, out: str) -> subprocess.Popen[str]:
    words = ["prompt.safetensors", "scene.tif", f"out={out}", "tile=64", "overlap=0.875"]
    return subprocess.Popen(
        [sys.executable, "-m", "fedrsclip.cli", "map", *words, "--batch-size", "8"],
        cwd=user,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_map_is_resumed_to_the_same_bytes(user: Path) -> None:
    whole = started(user, "whole")
    said = whole.communicate(timeout=PATIENCE)
    assert whole.returncode == 0, said
    assert "3249 windows of 64 pixels" in said[0]

    killed = started(user, "killed")
    deadline = time.monotonic() + PATIENCE
    state = user / "killed" / ".partial" / "state.npz"
    while not state.exists():
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    assert sorted(path.name for path in (user / "killed").iterdir()) == [".partial"]
    with np.load(state) as saved:
        assert 0 < int(saved["window_rows"]) <= 57

    resumed = started(user, "killed")
    said = resumed.communicate(timeout=PATIENCE)
    assert resumed.returncode == 0, said
    names = sorted(path.name for path in (user / "whole").iterdir())
    assert sorted(path.name for path in (user / "killed").iterdir()) == names
    for name in set(names) - {"map.html"}:  # which says when it was written
        assert (user / "killed" / name).read_bytes() == (user / "whole" / name).read_bytes(), name
