"""Names of classes as people have them: any script, long ones, many, and what looks like markup."""

import re
import warnings
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from fedrsclip.report import draw_pictures, labels, write_report
from fedrsclip.report.drawing import Cell, drawing, heat_map
from fedrsclip.report.labels import elided
from fedrsclip.report.panel import to_png, to_svg
from tests.unit.report import folders

pytestmark = pytest.mark.unit

NAMES = {
    "chinese": "农田",
    "emoji": "forest 🌲",
    "arabic": "غابة",
    "hindi": "जंगल",
    "german": "Straße",
    "formula": "$x^2",
    "broken formula": "a $_{ b^$ $",
    "dollars": "$5 to $10",
    "tags": "<script>alert(1) & <svg>",
    "markup": "[bold red]x",
    "percent": "50 % {x} %s",
    "long": "a very long name of a class " * 12,
}


@pytest.fixture(autouse=True)
def _every_warning_is_an_error() -> None:
    warnings.simplefilter("error")


def _run(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    monkeypatch.setattr(folders, "CLASSES", ("forest", name, "river"))
    folders._composed.cache_clear()
    try:
        return folders.write_run(folder)
    finally:  # later tests have other names
        folders._composed.cache_clear()


@pytest.mark.parametrize("sort", NAMES)
def test_both_pictures_and_the_page_are_drawn(
    sort: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = NAMES[sort].strip()
    folder = _run(tmp_path, monkeypatch, name)
    said: list[str] = []
    page = write_report(folder, say=said.append).read_text(encoding="utf-8")
    assert (folder / "partition.png").is_file() and (folder / "accuracy.png").is_file()
    assert "Not drawn" not in page and "<script>alert" not in page
    assert name in unescape(re.sub(r"<[^>]*>", " ", page))
    assert [name in line for line in said] == [True] * len(labels.lacking([name]))
    with Image.open(folder / "partition.png") as image:
        assert max(image.size) < 3000


def test_what_no_font_has_is_escaped_in_a_picture_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "_covered", lambda signs: ([], signs))
    folder = _run(tmp_path, monkeypatch, "农田")
    said: list[str] = []
    draw_pictures(folder, say=said.append)
    (line,) = said
    assert "all signs of '农田':" in line and "fedrsclip report first" in line
    cells = [Cell(0, 0, "1", 1.0, "#000000", "tip")]
    with drawing():
        drawn = heat_map(cells, ["农田"], ["forest"]).figure
        labels.show_all_signs(drawn, escape=True)
        shown = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
        assert shown == [r"\u519c\u7530"]
        svg = to_svg(heat_map(cells, ["农田"], ["forest"]), "a", "title", "what it shows")
    assert "农田" in svg


def test_an_installed_font_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mathematical letters are in a font that comes with matplotlib, and not in its usual one."""
    monkeypatch.setattr(labels, "_NO_LETTERS", ("Last Resort",))
    labels._covered.cache_clear()
    try:
        sign = "\U0001d538"
        foreign = labels._foreign(sign + "forest")
        families, left = labels._covered(foreign)
        assert not left and (not foreign or families)
        with drawing():
            drawn = heat_map([Cell(0, 0, "1", 1.0, "#000000", "tip")], [sign], ["forest"])
            assert to_png(drawn, "title")
    finally:
        labels._covered.cache_clear()


@pytest.mark.parametrize("count", [1, 21, 65, 200, 1000])
def test_however_many_classes_are_drawn_small_enough(count: int) -> None:
    names = [f"class number {index}" for index in range(count)]
    cells = [Cell(k, k, "1", 1.0, "#000000", "tip") for k in range(count)]
    with drawing():
        drawn = heat_map(cells, names, names)
        axes = drawn.figure.axes[0]
        shown = [label.get_text() for label in axes.get_yticklabels()]
        assert drawn.width < 2500 and shown[0] == names[0]
        size = axes.get_yticklabels()[0].get_fontsize()
        side = drawn.figure.get_figheight() * 72 / count
        step = len(shown) // max(1, sum(map(bool, shown)))
        assert size >= 9 and step * side >= size


def test_long_names_lose_their_middle() -> None:
    assert elided("forest") == "forest"
    assert elided("a" * 36) == "a" * 36
    assert elided("a" * 30 + "b" * 30) == "a" * 17 + "…" + "b" * 17
