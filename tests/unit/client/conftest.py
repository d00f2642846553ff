from pathlib import Path

import pytest

from tests.tiny_clip import make_tiny_clip
from tests.unit.client.site_folder import Client, make_images


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("images") / "scenes")


@pytest.fixture
def client(image_folder: Path, clip_folder: Path) -> Client:
    return Client(image_folder, clip_folder)
