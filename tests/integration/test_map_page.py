"""The page of a map in a real browser: what is pointed at is what the map says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrsclip.map.page import render
from fedrsclip.map.result import NO_DATA, MapResult
from tests.integration.browser import OpenPage, Scheme, Visit
from tests.unit.map.results import made_up, of_cells

pytestmark = pytest.mark.integration

PHONE, DESK = 360, 1440
ROWS, COLUMNS = 12, 16
NAMES = ("forest", "harbor", "<b>solar & farm</b>")
LONG = tuple(f"class {k} <i>averylongnamewithoutanyblank</i> and more of it" for k in range(100))

PIXELS = """() => {
    const canvas = document.getElementById("classes");
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    copy.drawImage(canvas, 0, 0);
    return [...copy.getImageData(0, 0, canvas.width, canvas.height).data];
}"""

# The least contrast of text with what is behind it, and whose it is.
CONTRAST = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b]
        .map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
    const behind = (element) => {
        const colour = parse(getComputedStyle(element).backgroundColor);
        return colour[3] === 0 && element.parentElement ? behind(element.parentElement) : colour;
    };
    let least = [99, ""];
    for (const element of document.querySelectorAll("main *")) {
        const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!text || !element.checkVisibility() || element.closest("script")) continue;
        const [a, b] = [parse(getComputedStyle(element).color), behind(element)].map(light);
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < least[0]) least = [ratio, element.outerHTML];
    }
    return least;
}"""


@pytest.fixture(scope="module")
def result() -> MapResult:
    # The last column and row reach beyond the scene by half a cell.
    return made_up(ROWS, COLUMNS, NAMES, scene_cells=(COLUMNS - 0.5, ROWS - 0.5))


@pytest.fixture
def file(result: MapResult, tmp_path: Path) -> Path:
    return write(result, tmp_path)


def write(result: MapResult, folder: Path) -> Path:
    page = folder / "map.html"
    page.write_text(render(result), encoding="utf-8")
    return page


def opened(open_page: OpenPage, file: Path, **how: Any) -> Visit:
    visit = open_page(file, **how)
    visit.page.wait_for_selector("body[data-ready]")
    return visit


def box(visit: Visit, selector: str) -> tuple[float, float, float, float]:
    found = visit.page.locator(selector).bounding_box()
    assert found is not None
    return found["x"], found["y"], found["width"], found["height"]


def point(visit: Visit, row: float, column: float) -> None:
    """Move the mouse to a place of the map, in cells."""
    x, y, width, height = box(visit, "#layers")
    visit.page.mouse.move(x + width * column / (COLUMNS - 0.5), y + height * row / (ROWS - 0.5))


def value(visit: Visit) -> str:
    return visit.page.locator("#value").inner_text()


def of_cell(result: MapResult, row: int, column: int) -> str:
    """Return what the page says of a cell's class."""
    number = result.classes[row, column]
    if number == NO_DATA:
        return "no data"
    return f"{NAMES[number]}, {100 * result.probability[row, column]:.0f} %"


def colours(visit: Visit) -> Any:
    """Return what the canvas shows, as red, green, blue and alpha of each cell."""
    return np.array(visit.page.evaluate(PIXELS)).reshape(ROWS, COLUMNS, 4)


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("names", [NAMES, LONG], ids=["three", "hundred"])
def test_it_is_sound_in_every_dress(
    open_page: OpenPage, tmp_path: Path, width: int, scheme: Scheme, names: tuple[str, ...]
) -> None:
    file = write(made_up(40, 60, names, title=names[-1]), tmp_path)
    visit = opened(open_page, file, width=width, scheme=scheme)
    assert visit.overflow() == 0
    ratio, whose = visit.page.evaluate(CONTRAST)
    assert ratio >= 4.5, whose
    visit.page.locator("#numbers summary").click()
    assert visit.page.locator("#numbers tbody tr").count() == len(names) + 1
    assert visit.overflow() == 0
    assert visit.complaints == []
    assert visit.foreign_requests == []
    _, _, stage_width, stage_height = box(visit, "#stage")
    assert stage_width / stage_height == pytest.approx(60 / 40, rel=0.01)


def test_what_is_pointed_at_is_what_the_map_says(
    open_page: OpenPage, file: Path, result: MapResult
) -> None:
    visit = opened(open_page, file)
    for row, column in [(0, 0), (0, 1), (3, 7), (ROWS - 1, COLUMNS - 1), (ROWS - 1, 0)]:
        point(visit, row + 0.25, column + 0.25)
        assert value(visit).startswith(of_cell(result, row, column) + " · ")
        assert value(visit).endswith(f"row {row}, column {column}")
    point(visit, 3, 7.5)
    east, north = 500_000 + 50 * 7.5, 5_400_000 - 50 * 3
    said = value(visit).partition(" · ")[2].partition(" (EPSG:32632)")[0].split(", ")
    assert [float(number) for number in said] == pytest.approx([east, north], abs=1)


def test_the_cells_are_drawn_where_they_are(
    open_page: OpenPage, file: Path, result: MapResult
) -> None:
    visit = opened(open_page, file)
    expected = [[int(text[k : k + 2], 16) for k in (1, 3, 5)] for text in result.colours]
    has_data = result.classes != NO_DATA
    drawn = colours(visit)
    assert (drawn[has_data][:, :3] == np.array(expected)[result.classes[has_data]]).all()
    assert (drawn[..., 3] == 255).all()
    x, y, width, height = box(visit, "#scene")
    canvas = box(visit, "#classes")
    reach = width * COLUMNS / (COLUMNS - 0.5), height * ROWS / (ROWS - 0.5)
    assert canvas == pytest.approx((x, y, *reach), abs=0.05)
    assert box(visit, "#stage") == pytest.approx((x, y, width, height), abs=0.05)
    rendering = "(canvas) => getComputedStyle(canvas).imageRendering"  # cells have edges
    assert visit.page.locator("#classes").evaluate(rendering) == "pixelated"


def test_the_legend_shows_and_hides_classes(
    open_page: OpenPage, file: Path, result: MapResult
) -> None:
    visit = opened(open_page, file)
    page = visit.page

    def visible() -> Any:
        return colours(visit)[..., 3] > 0

    harbor = page.get_by_role("button", name="harbor")
    harbor.click()
    assert harbor.get_attribute("aria-pressed") == "false"
    assert (visible() == (result.classes != 1)).all()
    page.get_by_role("button", name="None").click()
    assert not visible().any()
    assert page.locator(".class[aria-pressed=true]").count() == 0
    harbor.focus()
    page.keyboard.press("Enter")
    assert (visible() == (result.classes == 1)).all()
    page.get_by_role("button", name="no data").click()
    assert (visible() == np.isin(result.classes, (1, NO_DATA))).all()
    page.get_by_role("button", name="All").click()
    assert visible().all()
    assert visit.complaints == []


def test_the_slider_fades_the_classes(open_page: OpenPage, file: Path) -> None:
    visit = opened(open_page, file)
    slider = visit.page.get_by_role("slider")
    opacity = "getComputedStyle(document.getElementById('classes')).opacity"
    for percent in (0, 35, 100):
        slider.fill(str(percent))
        assert float(visit.page.evaluate(opacity)) == pytest.approx(percent / 100)
        assert visit.page.locator("#opacity-value").inner_text() == f"{percent} %"


def test_the_keyboard_walks_through_the_cells(
    open_page: OpenPage, file: Path, result: MapResult
) -> None:
    visit = opened(open_page, file)
    visit.page.locator("#stage").focus()
    keyboard = visit.page.keyboard
    row, column = ROWS // 2, COLUMNS // 2
    keyboard.press("ArrowDown")
    for key, by_row, by_column in [
        ("ArrowDown", 1, 0),
        ("ArrowRight", 0, 1),
        ("ArrowUp", -1, 0),
        ("Shift+ArrowLeft", 0, -10),
    ]:
        keyboard.press(key)
        row, column = row + by_row, max(0, column + by_column)
        assert value(visit).endswith(f"row {row}, column {column}")
        assert value(visit).startswith(of_cell(result, row, column))
        assert visit.page.locator("#spoken").text_content() == value(visit)
    x, y, width, height = box(visit, "#scene")
    size = width / (COLUMNS - 0.5), height / (ROWS - 0.5)
    expected = (x + size[0] * column, y + size[1] * row, *size)
    assert box(visit, "#cell") == pytest.approx(expected, abs=0.1)


def test_zooming_keeps_what_is_under_the_pointer(
    open_page: OpenPage, file: Path, result: MapResult
) -> None:
    visit = opened(open_page, file)
    page = visit.page
    point(visit, 4.5, 5.5)
    for _ in range(3):
        page.keyboard.down("Control")
        page.mouse.wheel(0, -100)
        page.keyboard.up("Control")
    page.wait_for_selector("#stage.zoomed")
    zoomed = box(visit, "#layers")[2] / box(visit, "#stage")[2]
    assert zoomed > 1.5
    point(visit, 4.5, 5.5)
    assert value(visit).endswith("row 4, column 5")
    x, y, width, height = box(visit, "#stage")
    page.mouse.move(x + width / 2, y + height / 2)
    before = value(visit)
    page.mouse.down()
    page.mouse.move(x + width / 2 + 60, y + height / 2 + 40, steps=4)
    page.mouse.up()
    page.mouse.move(x + width / 2 + 60, y + height / 2 + 41)
    assert value(visit).partition("row")[2] == before.partition("row")[2]
    page.get_by_role("button", name="Whole scene").click()
    assert box(visit, "#layers") == pytest.approx(box(visit, "#stage"), abs=0.05)


def test_the_scale_is_that_of_the_scene(open_page: OpenPage, file: Path) -> None:
    visit = opened(open_page, file)
    scale = visit.page.locator("#scale")
    for said, metres in [("200 m", 200), ("50 m", 50)]:
        assert scale.inner_text() == said
        pixels = box(visit, "#layers")[2] * metres / (50 * COLUMNS)
        assert box(visit, "#scale")[2] == pytest.approx(pixels, abs=0.5)
        for _ in range(3):
            visit.page.get_by_role("button", name="Zoom in").click()
    on_screen = box(visit, "#scale")[2] / box(visit, "#layers")[2]
    visit.page.emulate_media(media="print")
    assert box(visit, "#scale")[2] / box(visit, "#layers")[2] == pytest.approx(on_screen, rel=0.01)


def test_the_wheel_alone_scrolls_the_page(open_page: OpenPage, file: Path) -> None:
    visit = opened(open_page, file)
    point(visit, 4.5, 5.5)
    visit.page.mouse.wheel(0, 200)
    for _ in range(100):
        if visit.page.evaluate("scrollY") > 0:
            break
        visit.page.wait_for_timeout(50)
    assert visit.page.evaluate("scrollY") > 0
    assert box(visit, "#layers") == pytest.approx(box(visit, "#stage"), abs=0.05)


def test_a_finger_reads_a_cell(open_page: OpenPage, file: Path, result: MapResult) -> None:
    visit = opened(open_page, file, width=PHONE)
    x, y, width, height = box(visit, "#stage")
    row, column = 5, 9
    visit.page.touchscreen.tap(
        x + width * (column + 0.5) / (COLUMNS - 0.5), y + height * (row + 0.5) / (ROWS - 0.5)
    )
    assert value(visit).startswith(of_cell(result, row, column))
    assert visit.complaints == []


def test_fingers_move_and_zoom_what_is_zoomed(open_page: OpenPage, file: Path) -> None:
    visit = opened(open_page, file, width=PHONE)
    device = visit.page.context.new_cdp_session(visit.page)
    x, y, width, height = box(visit, "#stage")
    middle = x + width / 2, y + height / 2

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": at, "y": down, "id": k} for k, (at, down) in enumerate(places)]
        device.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

    for _ in range(2):
        visit.page.get_by_role("button", name="Zoom in").tap()
    before = box(visit, "#layers")
    touch("Start", middle)
    touch("Move", (middle[0] + 20, middle[1] + 15))
    touch("Move", (middle[0] + 40, middle[1] + 30))
    touch("End")
    moved = box(visit, "#layers")
    assert moved[:2] == pytest.approx((before[0] + 40, before[1] + 30), abs=1)
    assert visit.page.evaluate("scrollY") == 0
    touch("Start", (middle[0] - 30, middle[1]), (middle[0] + 30, middle[1]))
    touch("Move", (middle[0] - 60, middle[1]), (middle[0] + 60, middle[1]))
    touch("End")
    assert box(visit, "#layers")[2] == pytest.approx(2 * moved[2], rel=0.02)
    assert visit.complaints == []


def test_a_scene_without_data_or_of_one_cell_is_drawn(open_page: OpenPage, tmp_path: Path) -> None:
    nothing = np.full((2, 3), NO_DATA, np.int32)
    empty = opened(open_page, write(of_cells(nothing, nothing, NAMES), tmp_path))
    assert empty.page.get_by_text("No cell has data.").is_visible()
    empty.page.locator("#stage").hover()
    assert value(empty).startswith("no data")
    assert empty.complaints == []
    one = opened(open_page, write(made_up(1, 1, NAMES), tmp_path), width=PHONE)
    one.page.locator("#stage").tap()
    assert value(one).endswith("row 0, column 0")
    assert one.complaints == []


def test_a_map_of_millions_of_cells_is_read_right(open_page: OpenPage, tmp_path: Path) -> None:
    side = 3200  # more than the page holds: it shows one cell of each four
    cells = np.random.default_rng(1).integers(3, size=(side, side), dtype=np.int32)
    small = {"scene": np.zeros((64, 64, 3), np.uint8), "scene_valid": np.ones((64, 64), bool)}
    result = of_cells(cells, np.full(cells.shape, 0.5), NAMES, **small)
    visit = opened(open_page, write(result, tmp_path))
    for x in range(10, 310, 30):
        visit.page.locator("#stage").hover(position={"x": x + 0.3, "y": x / 2 + 0.9})
        name, _, place = value(visit).partition(", 50 %")
        row, column = (int(text.split()[-1]) for text in place.split("row")[1].split(","))
        assert name == NAMES[cells[row, column]]
    assert visit.complaints == []


def test_paper_is_light_and_has_map_and_legend(open_page: OpenPage, file: Path) -> None:
    visit = opened(open_page, file, scheme="dark", media="print")
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    assert visit.page.locator("#classes").is_visible()
    assert visit.page.locator(".class .name").first.is_visible()
    assert not visit.page.locator("#opacity").is_visible()
