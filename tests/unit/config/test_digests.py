"""Digests: equal for equal, different for any difference that matters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedrsclip.run.staging import stage_app
from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.wire import digests

pytestmark = pytest.mark.unit


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three small packages that the digests take for the loaded app."""
    for package in digests.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("X = 1\n")
    monkeypatch.setattr(
        digests, "package_folder", lambda package: _existing(tmp_path / package, package)
    )
    return tmp_path


def _existing(folder: Path, package: str) -> Path:
    assert (folder / "__init__.py").is_file(), package
    return folder


def test_a_changed_byte_changes_the_code_digest(app: Path) -> None:
    before = digests.files_digest(digests.app_files())
    assert digests.files_digest(digests.app_files()) == before
    seen = {before}
    for name in ("client_app/__init__.py", "server_app/__init__.py"):
        (app / name).write_bytes((app / name).read_bytes() + b" ")
        seen.add(digests.files_digest(digests.app_files()))
    (app / "server_app" / "new.py").write_text("")
    seen.add(digests.files_digest(digests.app_files()))
    (app / "server_app" / "new.py").rename(app / "server_app" / "other.py")
    seen.add(digests.files_digest(digests.app_files()))
    assert len(seen) == 5


def test_other_files_do_not_count(app: Path) -> None:
    before = digests.files_digest(digests.app_files())
    (app / "fedrsclip_core" / "weights.safetensors").write_bytes(b"x")
    assert digests.files_digest(digests.app_files()) == before


def test_code_that_is_edited_while_it_runs_keeps_its_digest(tmp_path: Path) -> None:
    app = stage_app(tmp_path / "app")
    code = (
        "from pathlib import Path\n"
        "from fedrsclip_core import errors\n"
        "from fedrsclip_core.wire import digests\n"
        "edited = Path(errors.__file__)\n"
        "print(digests.code_digest())\n"
        "edited.write_text(edited.read_text() + '# edited')\n"
        "print(digests.code_digest())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(app)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=app,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = done.stdout.split()
    assert before == after == digests.code_digest()


def test_the_loaded_packages_are_digested() -> None:
    files = digests.app_files()
    assert files["fedrsclip_core/wire/digests.py"] == Path(digests.__file__).resolve()
    assert {name.partition("/")[0] for name in files} == set(digests.PACKAGES)


def test_a_missing_package_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="no_such_app cannot be imported"):
        digests.package_folder("no_such_app")


def test_config_digest_ignores_what_belongs_to_a_site() -> None:
    config, moved, other = Config(), Config(), Config(seed=1)
    moved.data.path, moved.model.path, moved.federation.device = "/x", "/y", "cuda"
    assert digests.config_digest(config) == digests.config_digest(moved)
    assert digests.config_digest(config) != digests.config_digest(other)


def test_class_digest_depends_on_order_names_and_words() -> None:
    seen = {
        digests.class_digest(["a", "b"], ["a", "b"]),
        digests.class_digest(["b", "a"], ["b", "a"]),
        digests.class_digest(["a", "b"], ["a", "c"]),
        digests.class_digest(["a,b"], ["a", "b"]),
    }
    assert len(seen) == 4
