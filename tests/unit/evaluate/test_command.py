"""`fedrsclip evaluate` on folders of the demo's scenes: figures, parts, classes, mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedrsclip.classifier.loading import load_classifier
from fedrsclip.classifier.scene_classifier import SceneClassifier
from fedrsclip.cli import main
from fedrsclip.evaluate.labelled import open_labelled
from fedrsclip.evaluate.measure import evaluate
from fedrsclip_core.clip import assets
from fedrsclip_core.config.schema import Config
from fedrsclip_core.demo.scenes import CLASS_NAMES, render
from fedrsclip_core.learning.classifier import Classifier
from fedrsclip_core.learning.optimal_transport import Transport
from fedrsclip_core.runs import paths
from tests.unit.classifier.test_loading import write_prompt
from tests.unit.data.hub.rows import make_rows

pytestmark = pytest.mark.unit

CLASSES = ("beach", "forest", "harbor", "lake")


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    return write_prompt(tmp_path / "prompt.safetensors", assets.demo_clip_folder(), Config())


def make_scenes(root: Path, count: int = 3, first: int = 0) -> Path:
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for number in range(first, first + count):
            pixels = render(CLASS_NAMES.index(name), number, seed=5, domain=0)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def figures(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["evaluate", *map(str, arguments)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def test_figures_are_those_of_the_classifier(
    prompt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_scenes(tmp_path / "scenes")
    found = figures(capsys, prompt, f"data.path={folder}")
    classifier = load_classifier(prompt)
    files = [(CLASS_NAMES.index(c), f) for c in CLASSES for f in sorted((folder / c).iterdir())]
    answers = classifier.scores([file for _, file in files]).argmax(axis=1)
    expected = np.zeros((len(CLASS_NAMES), len(CLASS_NAMES)), dtype=int)
    np.add.at(expected, ([label for label, _ in files], answers), 1)
    result, zero_shot = found["result"], found["zero_shot"]
    assert isinstance(result, dict) and isinstance(zero_shot, dict)
    assert result["confusion"] == expected.tolist()
    assert result["accuracy"] == pytest.approx(expected.trace() / 12)
    assert (found["images"], found["part"], found["data"]) == (12, "all", "scenes")
    # The prompt is made of other words than the template: they must not be the same classifier.
    assert zero_shot["confusion"] != result["confusion"]
    by_class = {one["name"]: one for one in found["classes"]}  # type: ignore[attr-defined]
    assert by_class["beach"]["images"] == 3 and by_class["river"]["recall"] is None


def test_the_table_and_the_page(
    prompt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = make_scenes(tmp_path / "scenes"), tmp_path / "out"
    assert main(["evaluate", str(prompt), f"data.path={folder}", f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert "12 images of scenes, in 4 of 16 classes; without images: denseresidential" in said
    assert "CLIP's own words" in said and "points (95 % interval" in said
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.html", "evaluation.json"]
    page = (out / "evaluation.html").read_text()
    assert str(tmp_path) not in page and "default-src 'none'" in page
    assert str(tmp_path) not in (out / "evaluation.json").read_text()


def test_a_second_evaluation_encodes_nothing(
    prompt: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = make_scenes(tmp_path / "scenes")
    first = figures(capsys, prompt, f"data.path={folder}")

    def encode(*_: object) -> None:
        raise AssertionError("an image was encoded again")

    monkeypatch.setattr("fedrsclip_core.clip.image_encoder.ImageEncoder.encode", encode)
    assert figures(capsys, prompt, f"data.path={folder}") == first


def test_the_part_that_is_for_testing(
    prompt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_scenes(tmp_path / "scenes" / "train", 4)
    make_scenes(tmp_path / "scenes" / "test", 2, first=10)
    given = (prompt, f"data.path={tmp_path / 'scenes'}")
    for extra, part, images in (((), "test", 8), (("--part", "train"), "train", 16)):
        found = figures(capsys, *given, *extra)
        assert (found["part"], found["images"]) == (part, images)
    assert figures(capsys, *given, "--part", "all")["images"] == 24
    assert "no image is in the part val" in refused(capsys, *given, "--part", "val")
    assert "the data have no part val" in refused(
        capsys, prompt, f"data.path={tmp_path / 'scenes' / 'train'}", "--part", "val"
    )


def test_classes_that_are_called_otherwise(
    prompt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_scenes(tmp_path / "scenes")
    (folder / "lake").rename(folder / "Lake")
    said = refused(capsys, prompt, f"data.path={folder}")
    assert "no class Lake: say which are meant by \"data.class_aliases={'Lake':'lake'}\"" in said
    found = figures(capsys, prompt, f"data.path={folder}", "data.class_aliases={'Lake':'lake'}")
    assert found["images"] == 12
    (folder / "beach").rename(folder / "volcano")
    said = refused(capsys, prompt, f"data.path={folder}", "data.class_aliases={'Lake':'lake'}")
    assert "no class volcano: leave such folders out by data.other_classes=ignore" in said
    given = ("data.class_aliases={'Lake':'lake'}", "data.other_classes=ignore")
    assert figures(capsys, prompt, f"data.path={folder}", *given)["images"] == 9


def test_unreadable_images_are_named_and_left_out(
    prompt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_scenes(tmp_path / "scenes")
    (folder / "beach" / "1.png").write_bytes(b"\x89PNG nothing")
    assert "1 of 12 images are unreadable, more than data.max_unreadable" in refused(
        capsys, prompt, f"data.path={folder}"
    )
    given = ["evaluate", str(prompt), f"data.path={folder}", "data.max_unreadable=0.1"]
    assert main(given) == 0
    said = capsys.readouterr()
    assert "beach/1.png" in said.err and "; 1 image could not be read and left out" in said.out


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "no images are given: data.path=DIR"),
        (["prompt.n_ctx=8"], "'prompt.n_ctx=8' is not understood: evaluate takes data="),
        (["data.path={}", "data.class_names=[a,b]"], "data.class_names is not taken"),
        (["data.path={}", "data.shots=3"], "data.shots is not read by evaluate"),
        (["data.path={}/nowhere"], "there is no data folder"),
        (["data=folder"], "data.path is not set"),
        (["data.path={}", "out="], "out is empty"),
        (["data.path={}", "out={}"], "there is something at"),
    ],
)
def test_mistakes(
    given: list[str],
    sentence: str,
    prompt: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_scenes(tmp_path / "scenes")
    assert sentence in refused(capsys, prompt, *(text.replace("{}", str(folder)) for text in given))


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_scenes(tmp_path / "scenes")
    said = refused(capsys, "nobody", f"data.path={folder}")
    assert "no run of that name" in said and str(paths.runs_dir()) in said


def test_what_classifies_by_patches(prompt: Path, tmp_path: Path) -> None:
    """A client's prompts that are kept apart (fedotp) are matched to each image's patches."""
    folder = make_scenes(tmp_path / "scenes")
    made = load_classifier(prompt)
    text = np.stack([made.classifier.text, made.classifier.text[::-1]])  # (2, n_cls, dim)
    by_patches = Classifier(text, Transport(0.8, 0.1))
    classifier = SceneClassifier(
        made.class_names, by_patches, made.logit_scale, made.encoder, made.reading
    )
    labelled = open_labelled([f"data.path={folder}"], made.class_names, made.reading, None)
    found = evaluate(classifier, labelled)
    files = [labelled.source.image(int(i)) for i in labelled.indices]
    answers = classifier.scores(files).argmax(axis=1)
    assert found.answers.hits.tolist() == (answers == labelled.source.labels).tolist()
    assert found.gain is None and found.verdict == ""


def test_a_data_set_of_the_hub(
    prompt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_rows(tmp_path / "png", [0, 1, 1, 2])  # river, beach, lake
    rows.save_to_disk(tmp_path / "copy")
    found = figures(capsys, prompt, "data=hub", f"data.path={tmp_path / 'copy'}")
    assert (found["images"], found["data"]) == (4, "copy")
    counts = {one["name"]: one["images"] for one in found["classes"]}  # type: ignore[attr-defined]
    assert (counts["river"], counts["beach"], counts["lake"], counts["forest"]) == (1, 2, 1, 0)


def test_words_that_nobody_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_scenes(tmp_path / "scenes")
    for name in CLASSES:
        (folder / name).rename(folder / f"my {name}")
    prompt = write_prompt(tmp_path / "prompt.safetensors", assets.demo_clip_folder(), Config())
    asked = ",".join(f"my {name}" for name in CLASSES)
    found = figures(capsys, prompt, f"data.path={folder}", "--classes", asked)
    assert found["class_names"] == [f"my {name}" for name in CLASSES]
    assert "nobody trained" in str(found["classifier"])
    assert isinstance(found["result"], dict) and found["result"]["top5"] is None
