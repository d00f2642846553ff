"""What importing costs, and no path of one machine; import-linter holds who may import whom."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "datasets", "PIL", "matplotlib"}
MACHINE_PATH = re.compile(r"(?<![\w.~/])/(work|root|tmp)/")
TEXT_SUFFIXES = {".py", ".yaml", ".yml", ".toml", ".md", ".sh", ".cff", ".cfg"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("fedrsclip.cli", HEAVY | {"flwr", "hydra"}),
        ("fedrsclip.classifier.loading", HEAVY | {"flwr"}),
        ("server_app.app", HEAVY),
        ("client_app.app", HEAVY),
    ],
)
def test_importing_stays_light(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(*(set({sorted(forbidden)}) & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def tracked_texts() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [p for p in paths if p.is_file() and (p.suffix in TEXT_SUFFIXES or not p.suffix)]


def test_no_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked_texts()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []
