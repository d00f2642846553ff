"""The Python of the documents, literally, on a run of the demo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.integration.launched import SMALL, Launched
from tests.unit.documents.markdown import PAGES, blocks

pytestmark = pytest.mark.integration

SNIPPETS = [pytest.param(text, id=page.name) for page in PAGES for text in blocks(page, "python")]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory with a run named first, and an image."""
    folder = tmp_path_factory.mktemp("documents")
    run = Launched(folder, "run", "run.name=first", *SMALL)
    assert run.wait() == 0, run.output
    run.home.rename(run.user_home / ".fedrsclip")
    Image.new("RGB", (64, 64), (20, 90, 160)).save(run.user_home / "scene.jpg")
    return run.user_home


def execute(code: str, user: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "FEDRSCLIP_HOME"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"HOME": str(user)},
        cwd=user,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", SNIPPETS)
def test_each_snippet_runs_and_prints(code: str, user: Path) -> None:
    assert execute(code, user).strip()


@pytest.mark.parametrize("module", ["fedrsclip", "fedrsclip.classifier.scene_classifier"])
def test_the_examples_of_the_api_are_true(module: str, user: Path) -> None:
    code = f"import doctest, {module} as m; print(doctest.testmod(m, raise_on_error=True))"
    assert "attempted=0" not in execute(code, user)
