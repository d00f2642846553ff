"""The page of an evaluation in a real browser: sound, alone, and true to the figures beside it."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedrsclip.cli import main
from fedrsclip_core.clip import assets
from fedrsclip_core.config.schema import Config
from tests.integration.browser import OpenPage, Scheme
from tests.unit.classifier.test_loading import write_prompt

pytestmark = pytest.mark.integration

PHONE, DESK = 375, 1440
PANELS = ("classes", "confidence", "confusion")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of words that stand before the class names, on a few of the demo's scenes."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("evaluated")
        patch.setenv("FEDRSCLIP_HOME", str(folder / "home"))
        prompt = write_prompt(folder / "prompt.safetensors", assets.demo_clip_folder(), Config())
        scenes, out = ("data=demo_scenes", "data.images_per_class=4"), folder / "out"
        assert main(["evaluate", str(prompt), *scenes, f"out={out}"]) == 0
        return out


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "dark"), (DESK, "light")])
def test_the_page_is_sound(
    open_page: OpenPage, evaluation: Path, width: int, scheme: Scheme
) -> None:
    visit = open_page(evaluation / "evaluation.html", width=width, scheme=scheme)
    assert visit.complaints == []
    assert visit.foreign_requests == []
    assert visit.overflow() == 0
    for panel in PANELS:
        assert visit.page.locator(f"#{panel} svg[role=img]").count() == 1, panel


def test_the_page_says_what_the_figures_say(open_page: OpenPage, evaluation: Path) -> None:
    found = json.loads((evaluation / "evaluation.json").read_text())
    visit = open_page(evaluation / "evaluation.html")
    large = visit.page.locator(".headline .value").all_text_contents()
    for text, part in zip(large, ("zero_shot", "result"), strict=False):
        assert text == f"{100 * found[part]['accuracy']:.1f}%"
    assert visit.page.locator(".verdict").text_content() == found["verdict"]
    said = visit.page.locator("[id='confusion-cells'] title").all_text_contents()
    images = [int(text.rpartition(": ")[2].split(" of ")[0]) for text in said]
    matrix = np.array(found["result"]["confusion"])
    assert images == matrix[matrix > 0].tolist()
    bars = visit.page.locator("[id^='classes-recall-'] title").all_text_contents()
    assert bars[0] == f"beach: {100 * found['classes'][0]['recall']:.1f} %"
