"""The page of a map holds what the map says, in one file of a bounded size."""

import base64
import json
import re
import zlib
from typing import Any

import numpy as np
import pytest

from fedrsclip.map import page
from fedrsclip.map.page import render
from fedrsclip.map.result import NO_DATA
from tests.unit.map.results import CELL_AREA, made_up, of_cells

pytestmark = pytest.mark.unit


def inside(text: str, name: str) -> str:
    return text.partition(f'id="{name}">')[2].partition("</script>")[0]


def said(text: str) -> dict[str, Any]:
    return dict(json.loads(inside(text, "about-cells")))


def planes(text: str) -> Any:
    about = said(text)
    data = zlib.decompress(base64.b64decode(inside(text, "cells")))
    return np.frombuffer(data, np.uint8).reshape(3, about["rows"], about["columns"])


def classes(text: str) -> Any:
    low, high, _ = planes(text).astype(int)
    codes = low | high << 8
    return np.where(codes == 2**16 - 1, NO_DATA, codes)


def test_the_cells_are_those_of_the_map() -> None:
    result = made_up(30, 20, tuple(f"class {k}" for k in range(300)))
    text = render(result)
    assert (classes(text) == result.classes).all()
    has_data = result.classes != NO_DATA
    per_cent = np.rint(100 * result.probability[has_data])
    assert (planes(text)[2][has_data] == per_cent).all()


def test_areas_are_sorted_and_shares_are_of_what_has_data() -> None:
    cells = np.array([[1, 1, 1], [0, NO_DATA, 2]], np.int32)
    text = render(of_cells(cells, np.full((2, 3), 0.5), ("forest", "harbor", "lake", "beach")))
    listed = re.findall(r'class="name">(.*?)</span>.*?class="share">(.*?)</span>', text)
    assert listed == [
        ("harbor", "60.0 %"),
        ("forest", "20.0 %"),
        ("lake", "20.0 %"),
        ("no data", "16.7 % of the cells"),
    ]
    assert f"{3 * CELL_AREA:.5f} km²" in text
    assert "1 class not found here" in text
    assert '<p class="absent">beach</p>' in text


@pytest.mark.parametrize("evil", ["</script><script>alert(1)</script>", "<b>&\"'", "{{ title }}"])
def test_names_are_text(evil: str) -> None:
    result = made_up(names=(evil, "b"), title=evil, classifier=evil, settings={evil: evil})
    text = render(result)
    assert said(text)["names"][0] == evil
    assert evil == "{{ title }}" or evil not in text
    assert text.count("<script") == 3


def test_a_larger_map_is_thinned_to_cells_that_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    result = made_up(11, 17)
    monkeypatch.setattr(page, "_MOST_CELLS", 30)
    text = render(result)
    about = said(text)
    step = about["step"]
    assert about["rows"] * about["columns"] <= 30 + 11 + 17
    rows = np.minimum(np.arange(0, 11, step) + step // 2, 10)
    columns = np.minimum(np.arange(0, 17, step) + step // 2, 16)
    assert (classes(text) == result.classes[np.ix_(rows, columns)]).all()
    assert about["shape"] == [11, 17]
    assert f"one cell of each {step} x {step}" in text


def test_a_map_without_any_data_says_so() -> None:
    nothing = np.full((3, 4), NO_DATA, np.int32)
    text = render(of_cells(nothing, np.zeros((3, 4)), ("forest",)))
    assert "No cell has data." in text
    assert "100.0 % of the cells" in text
    assert (classes(text) == NO_DATA).all()


def test_one_cell_is_a_map() -> None:
    text = render(made_up(1, 1, ("forest",)))
    assert "100.0 %" in text
    assert 'class="swatch none"' not in text


def test_a_turned_scene_has_its_own_transform() -> None:
    turned = (30.0, 40.0, 7.0, 40.0, -30.0, 9.0)
    assert said(render(made_up(transform=turned)))["transform"] == list(turned)


def test_a_scene_that_leaves_the_earth_has_no_scale() -> None:
    assert said(render(made_up(metres_across=800.0)))["metres"] == 800
    assert said(render(made_up(metres_across=float("nan"))))["metres"] is None


@pytest.mark.parametrize(("size", "digits"), [(50.0, 1), (0.3, 3), (0.0005, 6), (5000.0, 0)])
def test_coordinates_tell_a_hundredth_of_a_cell(size: float, digits: int) -> None:
    assert said(render(made_up(cell_size=(size, size))))["digits"] == digits


def test_a_crs_without_a_code_is_called_by_its_name() -> None:
    wkt = 'PROJCS["Own grid",GEOGCS["WGS 84",DATUM["WGS_1984"]],UNIT["metre",1]]'
    assert said(render(made_up(crs=wkt)))["crs"] == "Own grid"


def test_the_scene_is_transparent_where_it_has_no_data() -> None:
    from io import BytesIO

    from PIL import Image

    result = made_up()
    found = re.search(r'src="data:image/webp;base64,([^"]+)"', render(result))
    assert found
    picture = np.asarray(Image.open(BytesIO(base64.b64decode(found[1]))))
    assert ((picture[..., 3] > 0) == result.scene_valid).all()
    difference = picture[..., :3].astype(int) - result.scene
    assert np.abs(difference[result.scene_valid]).mean() < 8


def test_nine_million_cells_are_less_than_three_bytes_each() -> None:
    rng = np.random.default_rng(0)
    cells = np.kron(rng.integers(16, size=(150, 150)), np.ones((20, 20), int)).astype(np.int32)
    names = tuple(map(str, range(16)))
    small = {"scene": np.zeros((64, 64, 3), np.uint8), "scene_valid": np.ones((64, 64), bool)}
    result = of_cells(cells, rng.uniform(0.3, 1, cells.shape), names, **small)
    text = render(result)
    assert said(text)["step"] == 1
    assert len(text) < 12_000_000
