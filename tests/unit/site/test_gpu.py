"""A message's process is forked from one that must not have touched the GPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.unit,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

FORKED = """
from multiprocessing import get_context
from fedrsclip.site.superexec import LIBRARIES

def on_the_gpu():
    import torch
    assert float(torch.ones(8, 8, device="cuda").sum()) == 64

if __name__ == "__main__":
    context = get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES, "fedrsclip.site.preload"])
    for _ in range(2):
        process = context.Process(target=on_the_gpu)
        process.start()
        process.join(120)
        assert process.exitcode == 0, process.exitcode
"""


def test_a_forked_process_can_use_the_gpu(tmp_path: Path) -> None:
    script = tmp_path / "forked.py"
    script.write_text(FORKED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
