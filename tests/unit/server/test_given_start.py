"""What a run may start from: another CLIP, other classes, other tensors are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedrsclip_core.config.shared_tensors import (
    SHARED_COEFFICIENTS,
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
)
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.fileio import sha256_of, sha256_of_file, write_json
from fedrsclip_core.runs.imported import import_prompt
from fedrsclip_core.runs.published import CONFIG, PROMPT, description
from fedrsclip_core.runs.shared_prompt import SharedPrompt, write_shared_prompt
from server_app.given_start import fitting_start
from tests.hub_endpoint import hub_endpoint
from tests.unit.runs.test_published import SAVED, point_at
from tests.unit.server.fake_runs import go
from tests.unit.server.fakes import DIM, Fakes, small_config

pytestmark = pytest.mark.unit

CLASSES = ("forest", "harbor", "river")
COEFFICIENTS = np.arange(6, dtype=np.float32).reshape(3, 2)
SHAPES = {SHARED_COEFFICIENTS: (3, 2)}


def imported(tmp_path: Path, **changes: object) -> str:
    """Import a prompt of three classes and return its name."""
    saved = replace(
        SAVED, shared={SHARED_COEFFICIENTS: COEFFICIENTS}, class_names=CLASSES, words=CLASSES
    )
    changed: SharedPrompt = replace(saved, **changes)  # type: ignore[arg-type]
    write_shared_prompt(tmp_path / "given.safetensors", changed)
    return import_prompt(tmp_path / "given.safetensors")


def test_offsets_follow_their_classes(tmp_path: Path) -> None:
    name = imported(tmp_path)
    found = fitting_start(name, SHAPES, SAVED.clip, CLASSES)
    assert np.array_equal(found[SHARED_COEFFICIENTS], COEFFICIENTS)
    found = fitting_start(name, SHAPES, SAVED.clip, ("river", "forest", "harbor"))
    assert np.array_equal(found[SHARED_COEFFICIENTS], COEFFICIENTS[[2, 0, 1]])
    # A server that does not know the classes' names knows their number.
    assert fitting_start(name, SHAPES, SAVED.clip, ()).keys() == SHAPES.keys()


def test_directions_that_classes_share_stay_in_place(tmp_path: Path) -> None:
    directions = np.arange(3 * DIM, dtype=np.float32).reshape(3, DIM)
    factors = {SHARED_OFFSETS_U: np.eye(3, dtype=np.float32), SHARED_OFFSETS_V: directions}
    shapes = {SHARED_OFFSETS_U: (3, 3), SHARED_OFFSETS_V: (3, DIM)}
    name = imported(tmp_path, shared=factors)
    found = fitting_start(name, shapes, SAVED.clip, CLASSES[::-1])
    product = found[SHARED_OFFSETS_U] @ found[SHARED_OFFSETS_V]
    assert np.array_equal(product, directions[::-1])


def test_a_prompt_starts_a_run_of_any_classes(tmp_path: Path) -> None:
    name = imported(tmp_path, shared=SAVED.shared)
    found = fitting_start(name, {SHARED_PROMPT: (3, 4)}, SAVED.clip, ("lake", "sea"))
    assert np.array_equal(found[SHARED_PROMPT], SAVED.shared[SHARED_PROMPT])


@pytest.mark.parametrize(
    ("classes", "clip", "shapes", "sentence"),
    [
        (CLASSES, "other", SHAPES, "was trained for another CLIP"),
        (("forest", "harbor", "lake"), SAVED.clip, SHAPES, "has no offset of 'lake': class off"),
        (CLASSES[:2], SAVED.clip, SHAPES, "has one of 'river', too: class offsets"),
        (CLASSES, SAVED.clip, {SHARED_PROMPT: (3, 4)}, r"\(3, 2\), expected shared_prompt \(3, 4"),
    ],
)
def test_what_does_not_fit(
    classes: tuple[str, ...],
    clip: str,
    shapes: dict[str, tuple[int, int]],
    sentence: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(RunError, match=sentence):
        fitting_start(imported(tmp_path), shapes, clip, classes)


def test_an_imported_file_that_has_changed(tmp_path: Path) -> None:
    name = imported(tmp_path)
    (kept,) = paths.imports_dir().iterdir()
    kept.write_bytes(kept.read_bytes() + b" ")
    with pytest.raises(RunError, match="is damaged: remove it"):
        fitting_start(name, SHAPES, SAVED.clip, CLASSES)
    kept.unlink()
    with pytest.raises(RunError, match="no such file was imported on this machine"):
        fitting_start(name, SHAPES, SAVED.clip, CLASSES)


def test_the_server_fetches_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies at that path where the server was started is not meant."""
    folder = tmp_path / "published"
    write_shared_prompt(folder / PROMPT, SAVED)
    write_json(folder / CONFIG, description(SAVED, sha256_of_file(folder / PROMPT)))
    (tmp_path / "me" / "scenes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_endpoint() as endpoint:
        endpoint.repositories["me/scenes"] = folder
        point_at(endpoint.url, monkeypatch)
        found = fitting_start("me/scenes@v1", {SHARED_PROMPT: (3, 4)}, SAVED.clip, CLASSES)
        assert np.array_equal(found[SHARED_PROMPT], SAVED.shared[SHARED_PROMPT])
        with pytest.raises(RunError, match="is me/other: the hub shows no model me/other"):
            fitting_start("me/other", {SHARED_PROMPT: (3, 4)}, SAVED.clip, CLASSES)


def test_a_run_starts_from_an_imported_prompt(tmp_path: Path) -> None:
    start = np.full((4, 8), 0.5, np.float32)
    config = small_config()
    config.run.shared_init_from = imported(
        tmp_path, shared={SHARED_PROMPT: start}, clip=sha256_of("clip")
    )
    found = go(Fakes(config)).shared[SHARED_PROMPT]
    np.testing.assert_allclose(found, start + 2 * 14 / 6, rtol=0, atol=1e-5)
