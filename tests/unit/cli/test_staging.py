"""The submitted app is what is loaded, without assets, wherever it was installed."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fedrsclip.run.staging import stage_app
from fedrsclip_core.wire.digests import PACKAGES, app_files, code_digest, package_folder

pytestmark = pytest.mark.unit

_DIGEST = (
    "import sys; from fedrsclip_core.wire.digests import code_digest, package_folder;"
    "print(code_digest(), package_folder('server_app'))"
)


def _digest_in(folder: Path) -> tuple[str, Path]:
    """Return the digest that a process computes which imports the app from ``folder``."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); {_DIGEST}"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True
    )
    digest, location = result.stdout.split()
    return digest, Path(location)


def test_a_staged_app_has_the_digest_of_the_loaded_code(tmp_path: Path) -> None:
    app = stage_app(tmp_path / "app")
    digest, location = _digest_in(app)
    assert location == app.resolve() / "server_app"
    assert digest == code_digest()
    (app / "client_app" / "__init__.py").write_text("'''Changed.'''\n")
    assert _digest_in(app)[0] != digest


def test_a_staged_app_has_only_code_and_pyproject(tmp_path: Path) -> None:
    app = stage_app(tmp_path / "app")
    staged = {p.relative_to(app).as_posix() for p in app.rglob("*") if p.is_file()}
    assert staged == {*app_files(), "pyproject.toml"}
    assert {Path(name).suffix for name in staged} == {".py", ".toml"}
    project = tomllib.loads((app / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["flwr"]["app"]["fab-include"]
    # Flower refuses a pattern without files.
    assert len(patterns) == 3 and all(any(app.glob(pattern)) for pattern in patterns)


def test_a_staged_app_needs_a_resolved_configuration_and_says_so(tmp_path: Path) -> None:
    code = (
        "from fedrsclip_core.config.compose import from_run_config\n"
        "from fedrsclip_core.config.resolved import to_json\n"
        "from fedrsclip_core.config.schema import Config\n"
        "assert from_run_config({'configuration': to_json(Config())}) == Config()\n"
        "from_run_config({'hydra-overrides': 'seed=1'})\n"
    )
    app = stage_app(tmp_path / "app")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(app)!r})\n{code}"],
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert "ConfigError: the app came with neither configuration nor conf/" in done.stderr
    size = sum(path.stat().st_size for path in app.rglob("*") if path.is_file())
    assert size < 5 * 2**20


def test_an_app_from_an_installed_wheel_is_the_same(tmp_path: Path) -> None:
    installed, app = tmp_path / "site-packages", tmp_path / "app"
    for package in PACKAGES:
        shutil.copytree(
            package_folder(package),
            installed / package,
            ignore=shutil.ignore_patterns("assets", "__pycache__"),
        )
    root = package_folder("fedrsclip_core").parent
    shutil.copytree(root / "conf", installed / "fedrsclip_core" / "conf")
    shutil.copy(root / "pyproject.toml", installed / "fedrsclip_core" / "app_pyproject.toml")
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r});"
        "from pathlib import Path; from fedrsclip.run.staging import stage_app;"
        f"stage_app(Path({str(app)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert _digest_in(app)[0] == _digest_in(installed)[0] == code_digest()


def test_pyproject_keeps_flower_from_downloading_and_takes_overrides() -> None:
    root = package_folder("fedrsclip_core").parent
    pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    required = {
        line.split("[")[0].split(">")[0].split("=")[0].strip()
        for line in [*project["dependencies"], *extras["tensorboard"], *extras["geo"]]
    }
    assert set(pyproject["tool"]["uv"]["exclude-dependencies"]) == required
    assert "dependency-groups" not in pyproject
    app = pyproject["tool"]["flwr"]["app"]
    assert app["config"] == {"hydra-overrides": "", "configuration": ""}
    assert "federations" not in pyproject["tool"]["flwr"]
