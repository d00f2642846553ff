"""What is published is whole, reads back, says what is known, and names no client, no place."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from fedrsclip.classifier.loading import load_classifier
from fedrsclip.cli import main
from fedrsclip_core.clip import assets
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.demo.scenes import CLASS_NAMES, render
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.published import check_published
from fedrsclip_core.runs.run_folder import RunFolder
from tests.hub_endpoint import hub_endpoint
from tests.unit.classifier.test_loading import write_prompt
from tests.unit.report.folders import CLIENTS, write_run
from tests.unit.runs.test_published import point_at

pytestmark = pytest.mark.unit

FILES = ["README.md", "accuracy.png", "config.json", "shared_prompt.safetensors"]


@pytest.fixture
def run() -> RunFolder:
    folder = RunFolder(write_run(paths.home(), "data=uc_merced"))
    write_prompt(folder.shared_prompt, assets.demo_clip_folder(), Config())
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["publish", *map(str, arguments)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def test_a_folder_for_the_hub(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "published"
    assert main(["publish", "first", f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert "publish again with name=owner/name license=ID" in said
    assert f"hf upload owner/name {out}" in said
    prompt = check_published(out)
    assert prompt.class_names == CLASS_NAMES
    assert (out / "shared_prompt.safetensors").read_bytes() == run.shared_prompt.read_bytes()


def test_the_card(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "published"
    given = ["name=me/scenes", "license=cc-by-4.0"]
    assert main(["publish", str(run.path), f"out={out}", *given]) == 0
    _, header, text = (out / "README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(header)
    assert ModelCard.load(out / "README.md").data.to_dict() == about
    assert about["license"] == "cc-by-4.0" and about["library_name"] == "fedrsclip"
    # The last round's global accuracy in tests/unit/report/folders.py.
    (result,) = about["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 45.0
    assert result["dataset"]["name"] == "UC Merced Land Use, test part"
    for line in (
        "| the CLIP alone, by hand-written templates | 42.0 |",
        "| **with what is published here** | **45.0** |",
        "- Images: UC Merced Land Use (Yang, Yi",
        "It is not differentially private",
        "fedrsclip predict me/scenes images/",
        "![Test accuracy over the rounds of the federation](accuracy.png)",
    ):
        assert line in text


def test_nothing_of_a_client_or_a_machine_is_published(run: RunFolder, tmp_path: Path) -> None:
    about = json.loads((run.path / "run.json").read_text())
    about["overrides"] += " data.path=/secret/images"
    (run.path / "run.json").write_text(json.dumps(about))
    out = tmp_path / "published"
    assert main(["publish", "first", f"out={out}"]) == 0
    hidden = [*CLIENTS, "client-", "/secret", str(tmp_path), str(Path.home())]
    for file in out.iterdir():
        content = file.read_bytes()
        for word in hidden:
            assert word.encode() not in content, f"{word} in {file.name}"


def test_the_hub_gives_the_same_classifier(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "published"
    assert main(["publish", "first", f"out={out}"]) == 0
    images = [Image.fromarray(render(c, 0, seed=5, domain=0)) for c in range(3)]
    expected = load_classifier("first").scores(images)
    assert np.array_equal(load_classifier(out).scores(images), expected)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_endpoint() as endpoint:
        endpoint.repositories["me/scenes"] = out
        point_at(endpoint.url, monkeypatch)
        found = load_classifier(f"me/scenes@{endpoint.commit}")
    assert np.array_equal(found.scores(images), expected)
    assert {path.rsplit("/", 1)[1] for path in endpoint.asked if "/resolve/" in path} == set(
        FILES[2:]
    )


def test_class_names_cannot_break_the_card(tmp_path: Path) -> None:
    config = Config()
    config.data.name = "folder"
    config.data.class_names = ["a | b`", "<script>"]
    folder = RunFolder(write_run(paths.home()))
    shared = {SHARED_PROMPT: np.zeros((4, 128), np.float32)}
    write_prompt(folder.shared_prompt, assets.demo_clip_folder(), config, shared[SHARED_PROMPT])
    assert main(["publish", "first", f"out={tmp_path / 'out'}"]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| `a \\| b'` | `a \\| b'` |" in text and "| `<script>` | `<script>` |" in text
    assert "- Images: not stated" in text


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "out is not set: out=DIR"),
        (["out={}"], "there is something at"),
        (["out={}/new", "license=My Licence"], "give the hub's identifier"),
        (["out={}/new", "name=scenes"], "give owner/name as on the hub"),
        (["out={}/new", "colour=red"], "'colour=red' is not understood"),
    ],
)
def test_mistakes(
    given: list[str],
    sentence: str,
    run: RunFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    place = str(tmp_path / "there")
    assert sentence in refused(capsys, "first", *(text.replace("{}", place) for text in given))
    assert not (tmp_path / "there" / "new").exists()


def test_runs_that_cannot_be_published(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"out={tmp_path / 'published'}"
    assert "there is no run at nobody, nor" in refused(capsys, "./nobody", out)
    assert "there is no run at nobody" in refused(capsys, "nobody", out)
    with run.hold():
        assert "run first is running: publish one" in refused(capsys, "first", out)
    content = run.shared_prompt.read_bytes()
    run.shared_prompt.write_bytes(content[:-5])
    assert "shared_prompt.safetensors is damaged" in refused(capsys, "first", out)
    run.shared_prompt.unlink()
    assert "run first shares nothing" in refused(capsys, "first", out)
    config = Config()
    config.data.name = "folder"
    write_prompt(run.shared_prompt, assets.demo_clip_folder(), config)
    assert "run first names no classes" in refused(capsys, "first", out)
    (run.path / "results.json").unlink()
    assert "run first is interrupted" in refused(capsys, "first", out)
    assert not (tmp_path / "published").exists()
    assert not list(tmp_path.glob(".published*"))
