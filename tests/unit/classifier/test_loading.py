"""The classifier that is loaded from what a run leaves behind."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from fedrsclip.classifier.loading import load_classifier
from fedrsclip_core.clip import assets
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.config.reading import Reading
from fedrsclip_core.config.schema import DTYPES, Config
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.demo.scenes import CLASS_NAMES, render
from fedrsclip_core.errors import DataError, ModelError
from fedrsclip_core.learning.prompts import word_prompt
from fedrsclip_core.runs.shared_prompt import write_shared_prompt
from server_app.results import RunState, shared_prompt
from tests.tiny_clip import make_tiny_clip
from tests.unit.data.imagery.files import png

pytestmark = pytest.mark.unit

INIT = "a satellite photo of a"


class State(RunState):
    """A run whose clients named their CLIP."""

    clip = ""

    def digests(self) -> dict[str, str | None]:
        return {"clip": self.clip}


def write_prompt(
    path: Path, folder: Path, config: Config, shared: np.ndarray | None = None
) -> Path:
    files = find_clip(config.model, folder)
    state = State(config, "a-run")
    state.clip = files.digest
    prompt = word_prompt(files, INIT, 6, 0.0) if shared is None else shared
    state.shared = {SHARED_PROMPT: prompt}
    saved = shared_prompt(state)
    assert saved is not None
    write_shared_prompt(path, saved)
    return path


@pytest.fixture
def demo_prompt(tmp_path: Path) -> Path:
    config = Config()
    return write_prompt(tmp_path / "shared_prompt.safetensors", assets.demo_clip_folder(), config)


def scenes(count: int) -> tuple[list[Image.Image], list[str]]:
    images, names = [], []
    for index, name in enumerate(CLASS_NAMES):
        for number in range(count):
            images.append(Image.fromarray(render(index, number, seed=5, domain=0)))
            names.append(name)
    return images, names


def test_tells_demo_scenes_apart(demo_prompt: Path) -> None:
    classifier = load_classifier(demo_prompt)
    images, names = scenes(5)
    scores = classifier.scores(images)
    assert classifier.class_names == list(CLASS_NAMES)
    assert scores.shape == (len(images), len(CLASS_NAMES))
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)
    right = np.mean(
        [CLASS_NAMES[c] == name for c, name in zip(scores.argmax(1), names, strict=True)]
    )
    assert right > 3 / len(CLASS_NAMES)


def test_the_towers_have_the_precision_of_the_run(tmp_path: Path) -> None:
    config = Config()
    image = [Image.fromarray(render(0, 0, seed=5, domain=0))]
    scores = []
    for dtype in DTYPES:
        config.model.dtype = dtype
        file = write_prompt(tmp_path / dtype, assets.demo_clip_folder(), config)
        scores.append(load_classifier(file).scores(image))
    assert 0 < np.abs(scores[0] - scores[1]).max() < 0.1


def test_probabilities_equal_the_plain_clip(tmp_path: Path) -> None:
    folder = make_tiny_clip(tmp_path / "clip")
    config = Config()
    config.model.name = "local"
    config.data.name = "folder"
    config.data.class_names = ["harbor", "GolfCourse", "forest"]
    files = find_clip(config.model, folder)
    shared = word_prompt(files, INIT, 5, 0.0)
    path = write_prompt(tmp_path / "prompt.safetensors", folder, config, shared)
    images = scenes(1)[0][:3]

    model = CLIPModel.from_pretrained(folder)
    texts = [f"{INIT} {words}." for words in ("harbor", "golf course", "forest")]
    inputs = CLIPTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=images, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs, **pixels).logits_per_image.softmax(dim=1).numpy()
    scores = load_classifier(path, folder).scores(images)
    assert np.abs(scores - expected).max() < 1e-4
    assert np.ptp(expected) > 0.05


def test_takes_files_and_images_alike(demo_prompt: Path, tmp_path: Path) -> None:
    classifier = load_classifier(str(demo_prompt))
    image = scenes(1)[0][0]
    image.save(tmp_path / "scene.png")
    name = classifier.predict(image)
    assert name == classifier.predict(tmp_path / "scene.png")
    assert name == classifier.predict(str(tmp_path / "scene.png"))
    rows = classifier.scores([image.convert("RGBA"), tmp_path / "scene.png"])
    assert np.abs(rows[0] - rows[1]).max() < 1e-6
    assert classifier.scores([]).shape == (0, len(CLASS_NAMES))


def test_unreadable_images_are_named(demo_prompt: Path, tmp_path: Path) -> None:
    classifier = load_classifier(demo_prompt)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(DataError, match=r"broken.jpg: not readable as an image"):
        classifier.predict(tmp_path / "broken.jpg")
    with pytest.raises(DataError, match=r"there is no image at .*missing.jpg"):
        classifier.predict(tmp_path / "missing.jpg")
    with pytest.raises(DataError, match=r"pixels of mode I;16 are not supported"):
        classifier.predict(Image.fromarray(np.zeros((8, 8), np.uint16)))


def test_an_image_opened_by_others_is_read_as_its_file_is(
    demo_prompt: Path, tmp_path: Path
) -> None:
    classifier, image = load_classifier(demo_prompt), scenes(1)[0][0].crop((0, 0, 64, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    given = [tmp_path / "turned.png", Image.open(tmp_path / "turned.png")]
    first, second = map(classifier.prepare, given)
    assert first.equal(second)
    rows = classifier.scores(given)
    # Rows of one batch of equal images may differ in their last bits.
    assert np.abs(rows[0] - rows[1]).max() < 1e-6
    assert np.abs(rows[0] - classifier.scores([image])[0]).max() > 1e-3
    (tmp_path / "deep.png").write_bytes(png(np.full((8, 8, 3), 2000, np.uint16), 2))
    with Image.open(tmp_path / "deep.png") as opened:
        assert opened.mode == "RGB"  # so Pillow says
        with pytest.raises(DataError, match="3 bands of 16-bit"):
            classifier.predict(opened)


def test_deep_scenes_are_read_as_in_training(tmp_path: Path) -> None:
    """The file of the shared prompt says how; another sensor's scenes can be read otherwise."""
    config = Config()
    config.data.bands, config.data.stretch = ["3", "2", "1"], ["0", "3000"]
    folder = assets.demo_clip_folder()
    classifier = load_classifier(write_prompt(tmp_path / "deep.safetensors", folder, config))
    plain = load_classifier(write_prompt(tmp_path / "plain.safetensors", folder, Config()))
    scene = scenes(1)[0][3]
    pixels = np.asarray(scene, np.float64)
    for name, top in (("a", 3000), ("b", 10000)):
        deep = np.rint(pixels[..., ::-1] * top / 255).astype(np.uint16)
        (tmp_path / f"{name}.png").write_bytes(png(deep, 2))
    expected = plain.scores([scene])
    assert np.abs(classifier.scores([tmp_path / "a.png"]) - expected).max() < 1e-5
    with pytest.raises(DataError, match=r"a\.png: has 3 bands of 16-bit .*set data\.stretch"):
        plain.predict(tmp_path / "a.png")
    reading = Reading(("3", "2", "1"), ("0", "10000"))
    other = load_classifier(tmp_path / "deep.safetensors", reading=reading)
    assert np.abs(other.scores([tmp_path / "b.png"]) - expected).max() < 1e-5


def test_another_clip_is_refused(demo_prompt: Path, tmp_path: Path) -> None:
    other = make_tiny_clip(tmp_path / "other")
    with pytest.raises(ModelError, match=r"trained for another CLIP \(model 'demo_clip'"):
        load_classifier(demo_prompt, other)


def test_a_clip_in_the_clients_folders_must_be_given(tmp_path: Path) -> None:
    folder = make_tiny_clip(tmp_path / "clip")
    config = Config()
    config.model.name = "local"
    path = write_prompt(tmp_path / "prompt.safetensors", folder, config)
    with pytest.raises(ModelError, match="give model_path the folder"):
        load_classifier(path)


def test_a_run_without_class_names(tmp_path: Path) -> None:
    config = Config()
    config.data.name = "folder"
    path = write_prompt(tmp_path / "prompt.safetensors", assets.demo_clip_folder(), config)
    with pytest.raises(ModelError, match="names no classes"):
        load_classifier(path)


def test_files_that_are_no_shared_prompt(demo_prompt: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no shared prompt at"):
        load_classifier(tmp_path / "nowhere.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(demo_prompt.read_bytes()[:-10])
    with pytest.raises(ModelError, match="is damaged"):
        load_classifier(cut)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"shared_prompt": np.zeros((4, 8), np.float32)}, foreign)
    with pytest.raises(ModelError, match="is not a shared prompt of a run"):
        load_classifier(foreign)


@pytest.mark.parametrize(
    ("shared", "sentence"),
    [
        (np.full((4, 128), np.nan, np.float32), "not a finite float32 matrix"),
        (np.zeros((4, 4), np.float32), "vectors of shared_prompt have 4 numbers but the CLIP"),
    ],
)
def test_prompts_that_do_not_fit(tmp_path: Path, shared: np.ndarray, sentence: str) -> None:
    path = tmp_path / "prompt.safetensors"
    write_prompt(path, assets.demo_clip_folder(), Config(), shared)
    with pytest.raises(ModelError, match=sentence):
        load_classifier(path)
