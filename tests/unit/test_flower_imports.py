"""Only the adapters know more of Flower than it promises to keep."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = {
    "fedrsclip/run/flower_internals.py",
    "fedrsclip/site/flower_internals.py",
    "fedrsclip/flower_internals.py",
    "server_app/flower_internals.py",
}
INSIDE = re.compile(r"\bflwr\.(?!(?:app|clientapp|serverapp)\b)[a-z_]+|\bfrom flwr import")
"""A module of Flower that is not public, imported or named in a string."""


def test_only_the_adapters_name_what_is_inside_flower() -> None:
    packages = ("client_app", "fedrsclip", "fedrsclip_core", "server_app", "benchmarks", "docker")
    modules = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    inside = {
        path.relative_to(ROOT).as_posix()
        for path in modules
        if INSIDE.search(path.read_text(encoding="utf-8"))
    }
    assert inside == ADAPTERS
