"""The built wheel, alone in an environment that knows no checkout."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.integration.launched import SMALL, Launched

pytestmark = pytest.mark.integration

_ROOT = Path(__file__).parents[2]


def _installed(wheel: Path, folder: Path) -> str:
    """Unpack the wheel into a new environment beside this one's dependencies; return its python.

    A folder that a ``.pth`` file adds has its own ``.pth`` files ignored, so that the editable
    install of the checkout is not seen.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    variables = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", vars=variables))
    zipfile.ZipFile(wheel).extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    for script in Path(sys.executable).parent.glob("fl[ow]*r*"):
        _, code = script.read_text().split("\n", 1)  # the first line names the interpreter
        copy = folder / "bin" / script.name
        copy.write_text(f"#!{python}\n{code}")
        copy.chmod(0o755)
    return str(python)


def test_the_wheel_runs_in_an_empty_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=_ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    python = _installed(wheel, tmp_path / "environment")
    where = [python, "-c", "import fedrsclip_core, server_app; print(fedrsclip_core.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert Path(found.strip()).is_relative_to(tmp_path)

    one = Launched(tmp_path / "run", "run", *SMALL, python=python)
    assert one.wait() == 0, one.output
    assert one.results["status"] == "completed"
    assert str(_ROOT) not in one.output

    # The page's templates are in the wheel, too.
    made = Launched(tmp_path / "run", "report", one.results["run"], python=python)
    assert made.wait() == 0, made.output
    assert (one.home / "runs" / one.results["run"] / "report.html").is_file()

    Image.new("RGB", (64, 64), (20, 90, 160)).save(tmp_path / "run" / "empty" / "scene.png")
    predicted = ("predict", one.results["run"], "scene.png", "--out", "classes.csv")
    made = Launched(tmp_path / "run", *predicted, python=python)
    assert made.wait() == 0, made.output
    rows = (tmp_path / "run" / "empty" / "classes.csv").read_text().splitlines()
    assert rows[1].startswith("scene.png,")

    # As are those of maps, and the scene to try them on.
    mosaic = Launched(tmp_path / "run", "data", "mosaic", "out=scene.tif", "tiles=2", python=python)
    assert mosaic.wait() == 0, mosaic.output
    mapped = ("map", one.results["run"], "scene.tif", "out=map")
    made = Launched(tmp_path / "run", *mapped, python=python)
    assert made.wait() == 0, made.output
    assert (tmp_path / "run" / "empty" / "map" / "map.html").is_file()

    # And the model card's and the evaluation's.
    for words in (
        ("publish", one.results["run"], "out=published"),
        ("data", "images", "out=images", "images=2"),
        ("evaluate", "published", "data.path=images", "out=evaluation"),
    ):
        made = Launched(tmp_path / "run", *words, python=python)
        assert made.wait() == 0, made.output
    assert (tmp_path / "run" / "empty" / "evaluation" / "evaluation.html").is_file()
