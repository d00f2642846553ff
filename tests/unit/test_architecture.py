"""The rules of who may import what, read from the source itself."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("fedrsclip", "fedrsclip_core", "server_app", "client_app")
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
)
MAX_LINES = 320
HEAVY = {"torch", "transformers", "datasets", "PIL", "matplotlib"}
MACHINE_PATH = re.compile(r"(?<![\w.~/])/(work|root|tmp)/")
TEXT_SUFFIXES = {".py", ".yaml", ".yml", ".toml", ".md", ".sh", ".cff", ".cfg"}


def imports_of(module: str) -> Iterator[tuple[str, int]]:
    """Every absolute import, also inside functions, by top-level package and line."""
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            yield (node.module or "").split(".")[0], node.lineno


def offences(modules: list[str], forbidden: set[str]) -> list[str]:
    return [
        f"{module}:{line} imports {name}"
        for module in modules
        for name, line in imports_of(module)
        if name in forbidden
    ]


def within(package: str, *exceptions: str) -> list[str]:
    return [m for m in MODULES if m.startswith(f"{package}/") and m not in exceptions]


def test_there_is_something_to_check() -> None:
    assert all(len(within(package)) >= 5 for package in PACKAGES)
    assert "flwr" in dict(imports_of("fedrsclip_core/wire/records.py"))
    assert "hydra" in dict(imports_of("fedrsclip_core/config/compose.py"))


def test_only_the_wire_contract_of_core_imports_flower() -> None:
    assert offences(within("fedrsclip_core", "fedrsclip_core/wire/records.py"), {"flwr"}) == []


def test_only_the_configuration_imports_hydra() -> None:
    modules = [module for module in MODULES if module != "fedrsclip_core/config/compose.py"]
    assert offences(modules, {"hydra", "omegaconf"}) == []


def test_the_two_apps_do_not_know_each_other() -> None:
    assert offences(within("server_app"), {"client_app", "fedrsclip"}) == []
    assert offences(within("client_app"), {"server_app", "fedrsclip"}) == []


def test_core_does_not_know_the_apps() -> None:
    assert offences(within("fedrsclip_core"), {"client_app", "server_app", "fedrsclip"}) == []


def test_the_server_names_neither_torch_nor_transformers() -> None:
    assert offences(within("server_app"), {"torch", "transformers", "datasets", "PIL"}) == []


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("fedrsclip.cli", HEAVY | {"flwr", "hydra"}),
        ("fedrsclip.predict", HEAVY | {"flwr"}),
        ("server_app.app", HEAVY - {"matplotlib", "PIL"}),
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


def test_modules_are_small() -> None:
    sizes = {m: len((ROOT / m).read_text(encoding="utf-8").splitlines()) for m in MODULES}
    assert {m: size for m, size in sizes.items() if size > MAX_LINES} == {}


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
