"""`fedrsclip predict` as a process: killed, interrupted, with a reader that goes away."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from fedrsclip_core.demo.scenes import render
from tests.unit.classifier.test_named_classes import write

pytestmark = pytest.mark.integration

COUNT = 800
PATIENCE = 120


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prompt and many images, of which one in 250 is broken."""
    folder = tmp_path_factory.mktemp("predict")
    write(folder)
    (folder / "pics").mkdir()
    scenes = [folder / f"{k}.png" for k in range(8)]
    for k, scene in enumerate(scenes):
        Image.fromarray(render(k, 0, seed=5, domain=0)).save(scene)
    (folder / "broken").write_bytes(b"\x89PNG nothing")
    for k in range(COUNT):
        source = folder / "broken" if k % 250 == 7 else scenes[k % 8]
        os.link(source, folder / "pics" / f"{k:04d}.png")
    return folder


def started(user: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fedrsclip.cli", "predict", "prompt.safetensors", *arguments],
        cwd=user,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_rows(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not file.exists() or file.read_bytes().count(b"\n") < COUNT // 8:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(user: Path) -> bytes:
    """What an uninterrupted command writes."""
    process = started(user, "pics", "--out", "whole.csv")
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1, said
    assert said.splitlines()[-2:] == [
        f"4 of {COUNT} images could not be read",
        f"whole.csv: {COUNT} images",
    ]
    found = (user / "whole.csv").read_bytes()
    assert found.count(b"\n") == COUNT + 1
    return found


def test_killed_and_resumed_it_is_the_same_file(user: Path, whole: bytes) -> None:
    out = user / "killed.csv"
    process = started(user, "pics", "--out", out.name)
    wait_for_rows(out, process)
    process.kill()
    process.wait()
    left = out.read_bytes()
    assert len(left) < len(whole)
    resumed = started(user, "pics", "--out", out.name)
    said = resumed.communicate(timeout=PATIENCE)[1]
    assert resumed.returncode == 1, said
    assert "images are in killed.csv already" in said
    assert out.read_bytes() == whole
    assert left[: left.rindex(b"\n")] == whole[: left.rindex(b"\n")]


def test_interrupted_it_leaves_whole_rows(user: Path, whole: bytes) -> None:
    out = user / "interrupted.csv"
    process = started(user, "pics", "--out", out.name)
    wait_for_rows(out, process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == (
        f"fedrsclip: interrupted: {out.name} is whole, and the same command resumes it"
    )
    left = out.read_bytes()
    assert left.endswith(b"\n")
    assert whole.startswith(left)


def test_a_reader_that_goes_away_ends_it_quietly(user: Path) -> None:
    process = started(user, "pics", "--format", "csv")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "image,class,probability,error\n"
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(PATIENCE) == 141
    assert "Traceback" not in said
    assert "Broken pipe" not in said
