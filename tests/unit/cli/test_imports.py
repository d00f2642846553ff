"""A start that is given as a place: what travels names its content, and no path."""

from pathlib import Path

import pytest

from fedrsclip.run.imports import with_imports
from fedrsclip.run.preparation import prepare
from fedrsclip.run.submission import deployed
from fedrsclip_core.clip import assets
from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import ConfigError, RunError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.fileio import sha256_of_file, write_json
from fedrsclip_core.runs.published import CONFIG, PROMPT, check_published, description
from fedrsclip_core.runs.shared_prompt import read_shared_prompt
from tests.hub_endpoint import COMMIT, hub_endpoint
from tests.unit.classifier.test_loading import write_prompt
from tests.unit.runs.test_published import point_at

pytestmark = pytest.mark.unit

KEY = "run.shared_init_from"
SMALL = ("method=promptfl", "prompt.n_ctx=6", "data.images_per_class=3", "federation.num_clients=1")


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A prompt of six vectors for the demo CLIP."""
    folder = tmp_path / "published"
    file = write_prompt(folder / PROMPT, assets.demo_clip_folder(), Config())
    write_json(folder / CONFIG, description(read_shared_prompt(file), sha256_of_file(file)))
    check_published(folder)
    return folder


@pytest.mark.parametrize("place", ["", PROMPT])
def test_a_place_is_imported_and_named_by_its_content(place: str, published: Path) -> None:
    said: list[str] = []
    digest = sha256_of_file(published / PROMPT)
    given = [f"{KEY}={published / place}", "seed=1"]
    assert with_imports(given, said.append) == [f"{KEY}=sha256:{digest}", "seed=1"]
    assert said == [f"{KEY} is {published / place}: this run records sha256:{digest}"]
    (kept,) = paths.imports_dir().iterdir()
    assert kept.read_bytes() == (published / PROMPT).read_bytes()


def test_no_path_travels(published: Path) -> None:
    found = prepare([*SMALL, f"{KEY}={published}"], echo=lambda _line: None)
    travels = str(found.submission.run_config())
    assert "sha256:" in travels and str(published) not in travels


def test_names_of_runs_and_of_imports_stay(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = [f"{KEY}={'first'}", f"{KEY}=null", f"{KEY}=sha256:{'0' * 64}", f"{KEY}=a/b@{COMMIT}"]
    assert with_imports(kept, print) == kept
    assert with_imports([f"{KEY}=published"], print) != [f"{KEY}=published"]
    # A run of this name is meant rather than a folder that is called so.
    (paths.runs_dir() / "published").mkdir(parents=True)
    assert with_imports([f"{KEY}=published"], print) == [f"{KEY}=published"]


def test_the_hubs_commit_is_recorded(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_endpoint() as endpoint:
        endpoint.repositories["me/scenes"] = published
        point_at(endpoint.url, monkeypatch)
        found = prepare([*SMALL, f"{KEY}=me/scenes"], echo=lambda _line: None)
    assert found.submission.config.run.shared_init_from == f"me/scenes@{COMMIT}"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("{}/nowhere", "and nothing is there: give a folder that was published"),
        ("{}/empty", "there is no shared prompt at"),
        ("{}/foreign.txt", "foreign.txt is damaged"),
    ],
)
def test_places_that_are_none(given: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign.txt").write_text("nothing")
    with pytest.raises(RunError, match=sentence):
        with_imports([f"{KEY}={given.replace('{}', str(tmp_path))}"], print)
    assert not paths.imports_dir().exists()


def test_what_does_not_fit_is_refused_before_anything_starts(published: Path) -> None:
    with pytest.raises(RunError, match=r"holds shared_prompt \(6, 128\), expected .*\(4, 128\)"):
        prepare([*SMALL, "prompt.n_ctx=4", f"{KEY}={published}"], echo=lambda _line: None)


def test_a_deployments_server_is_given_no_path_of_another_machine(published: Path) -> None:
    with pytest.raises(ConfigError, match="a path, which is none at the server: copy"):
        deployed([f"{KEY}={published}"])
    named = deployed([f"{KEY}=me/scenes@v1.0"])
    assert named.config.run.shared_init_from == "me/scenes@v1.0"
