"""The Python of the documents, literally, on a run of the demo; and a tutorial from end to end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fedrsclip.cli import main
from fedrsclip.demo import mosaic
from tests.integration.launched import SMALL, Launched
from tests.unit.documents.markdown import PAGES, ROOT, blocks, commands

pytestmark = pytest.mark.integration

SNIPPETS = [pytest.param(text, id=page.name) for page in PAGES for text in blocks(page, "python")]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory with a run named first, also published, an image and a scene."""
    folder = tmp_path_factory.mktemp("documents")
    run = Launched(folder, "run", "run.name=first", *SMALL)
    assert run.wait() == 0, run.output
    run.home.rename(run.user_home / ".fedrsclip")
    Image.new("RGB", (64, 64), (20, 90, 160)).save(run.user_home / "scene.jpg")
    mosaic.write_mosaic(run.user_home / "scene.tif", 4, 0)
    first = run.user_home / ".fedrsclip" / "runs" / "first"
    assert main(["publish", str(first), f"out={run.user_home / 'published'}"]) == 0
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


def test_the_tutorial_leads_from_images_to_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rasterio", reason="rasterio is missing: fedrsclip[geo]")
    monkeypatch.chdir(tmp_path)
    words = list(commands(ROOT / "docs/tutorials/map.md"))
    assert {one[0] for one in words} >= {"run", "predict", "evaluate", "map", "publish"}
    for one in words:
        assert main(one) == 0, (one, capsys.readouterr().err)
    made = {"map.html", "classes.tif", "classes.qml", "probability.tif", "regions.geojson"}
    assert made <= {path.name for path in (tmp_path / "map").iterdir()}
    assert (tmp_path / "evaluation" / "evaluation.html").is_file()
    assert len((tmp_path / "classes.csv").read_text().splitlines()) == 641
    right, cells = mosaic.accuracy(tmp_path / "map" / "classes.tif", tmp_path / "scene_truth.tif")
    assert cells == 24 * 24
    assert right > 0.6 * cells
