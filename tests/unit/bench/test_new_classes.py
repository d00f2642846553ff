"""Classes that a run did not know are classified by what does not depend on its classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedrsclip.bench.new_classes import new_accuracies
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.shared_tensors import SHARED_OFFSETS, SHARED_PROMPT
from fedrsclip_core.learning.prompts import random_prompt
from fedrsclip_core.runs.shared_prompt import SharedPrompt, write_shared_prompt
from tests.tiny_clip import make_tiny_clip
from tests.unit.client.site_folder import CLASSES, OVERRIDES, make_images

pytestmark = pytest.mark.unit

PROMPT = {SHARED_PROMPT: 20 * random_prompt(4, 32, 1.0, "any")}
OFFSETS = {SHARED_OFFSETS: 100 * random_prompt(1, 24, 1.0, "offsets")}
SAVED = SharedPrompt(
    shared=PROMPT,
    class_names=CLASSES[:1],
    words=CLASSES[:1],
    model="local",
    hub_id="",
    revision="",
    dtype="float32",
    clip="",
    templates=("a photo of a {}.",),
    run="first",
    server_round=1,
)


def test_class_offsets_say_nothing_of_new_classes(tmp_path: Path) -> None:
    images, clip = make_images(tmp_path / "images"), make_tiny_clip(tmp_path / "clip")
    names = f"data.class_names=[{','.join(CLASSES)}]"
    config = compose([*OVERRIDES, names, f"data.path={images}", f"model.path={clip}"])
    config.data.path, config.model.path = str(images), str(clip)

    def found(shared: dict[str, np.ndarray] | None) -> dict[str, float | None]:
        path = tmp_path / "saved.safetensors"
        if shared is None:
            return new_accuracies(config, list(CLASSES[1:]), None)
        write_shared_prompt(path, replace(SAVED, shared=shared))
        return new_accuracies(config, list(CLASSES[1:]), path)

    assert found(None).keys() == {"zero_shot"}
    alone = found(OFFSETS)
    assert alone["global"] == alone["zero_shot"]
    prompt = found(PROMPT)
    assert found(PROMPT | OFFSETS) == prompt
    assert prompt["global"] != prompt["zero_shot"]
