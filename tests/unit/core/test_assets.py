"""The demo CLIP that comes with the package."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedrsclip_core.clip import assets
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.errors import ModelError

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    assets.demo_clip_folder.cache_clear()
    yield
    assets.demo_clip_folder.cache_clear()


@pytest.fixture
def code_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As in a run: the code is a copy without weights, and no other entry of the path has them."""
    app = tmp_path / "app"
    (app / "fedrsclip_core").mkdir(parents=True)
    monkeypatch.setattr(assets, "__file__", str(app / "fedrsclip_core" / "clip" / "assets.py"))
    monkeypatch.setattr(sys, "path", [str(app)])
    return app


def with_weights(root: Path, content: bytes | None = None) -> Path:
    folder = root / "fedrsclip_core" / "assets" / "demo_clip"
    source = Path(__file__).parents[3] / "fedrsclip_core" / "assets" / "demo_clip"
    shutil.copytree(source, folder)
    if content is not None:
        (folder / "model.safetensors").write_bytes(content)
    return folder


def test_the_packaged_weights_are_found_and_are_a_clip() -> None:
    files = find_clip(ModelConfig(), None)
    assert files.folder == assets.demo_clip_folder()
    assert files.folder.parts[-3:] == ("fedrsclip_core", "assets", "demo_clip")
    assert files.width > 0
    assert files.max_positions >= 32


def test_an_installed_package_further_down_the_path(
    code_without_weights: Path, tmp_path: Path
) -> None:
    folder = with_weights(tmp_path / "site-packages")
    sys.path.append(str(tmp_path / "site-packages"))
    assert assets.demo_clip_folder() == folder


def test_other_weights_are_passed_over(code_without_weights: Path, tmp_path: Path) -> None:
    with_weights(tmp_path / "old", b"older weights")
    folder = with_weights(tmp_path / "new")
    sys.path.extend([str(tmp_path / "old"), str(tmp_path / "new")])
    assert assets.demo_clip_folder() == folder


def test_only_other_weights(code_without_weights: Path, tmp_path: Path) -> None:
    with_weights(tmp_path / "old", b"older weights")
    sys.path.append(str(tmp_path / "old"))
    with pytest.raises(ModelError, match=r"is not the one that this version expects: reinstall"):
        assets.demo_clip_folder()


def test_no_weights_at_all(code_without_weights: Path) -> None:
    with pytest.raises(ModelError, match=r"the demo CLIP is not installed: install the package"):
        assets.demo_clip_folder()
