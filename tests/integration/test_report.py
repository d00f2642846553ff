"""The pages of a real run and a real benchmark, in a real browser."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fedrsclip.cli import main
from tests.integration.browser import OpenPage, Scheme, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.integration

PHONE, DESK = 375, 1440
MAX_BYTES = 3_000_000
SMALL = ("data.images_per_class=20", "federation.num_rounds=2")
FIGURES = ("steps", "rounds", "clients", "participation", "losses", "cosines", "traffic", "stages")
HEAT_MAPS = ("partition", "confusion")

# Where a mark is on the screen, taken back through the axes of its own figure: [[x, y], ...].
READ = """(group) => {
    const svg = group.ownerSVGElement, axes = svg.querySelector("[data-x]");
    const [x, y] = [axes.dataset.x, axes.dataset.y].map((text) => text.split(" ").map(Number));
    const back = svg.getScreenCTM().inverse();
    const value = ([from, to, low, high], at) => low + (at - from) / (to - from) * (high - low);
    return [...group.querySelectorAll("use")].map((mark) => {
        const box = mark.getBoundingClientRect();
        const centre = new DOMPoint(box.x + box.width / 2, box.y + box.height / 2);
        const place = centre.matrixTransform(back);
        return [value(x, place.x), value(y, place.y)];
    });
}"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one run and one benchmark, made by the commands that make them."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("reported")
        patch.setenv("FEDRSCLIP_HOME", str(path))
        grid = [
            "bench.settings=[uniform]",
            # Its constraints are plain means of cosines, which a page draws.
            "bench.methods=[promptfl,fedrsclip]",
            "bench.reference=fedrsclip",
            "bench.seeds=[0]",
        ]
        assert main(["bench", "bench=demo", "bench.name=small", "bench.jobs=1", *grid, *SMALL]) == 0
        assert main(["report", "bench-small-uniform-fedrsclip-seed0"]) == 0
        assert main(["report", "small"]) == 0
        return path


@pytest.fixture
def run(home: Path) -> Path:
    return home / "runs" / "bench-small-uniform-fedrsclip-seed0"


@pytest.fixture
def bench(home: Path) -> Path:
    return home / "bench" / "small"


def marks(visit: Visit, panel: str, name: str) -> "Locator":
    return visit.page.locator(f"[id='{panel}-{name}']")


@pytest.mark.parametrize("kind", ["run", "bench"])
@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_sound_in_every_dress(
    open_page: OpenPage,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    kind: str,
    width: int,
    scheme: Scheme,
) -> None:
    file = request.getfixturevalue(kind) / "report.html"
    assert file.stat().st_size < MAX_BYTES
    visit = open_page(file, width=width, scheme=scheme)
    assert visit.complaints == []
    assert visit.foreign_requests == []
    assert visit.overflow() == 0
    assert visit.screenshot(tmp_path / "page.png").stat().st_size > 10_000
    for figure in visit.page.locator("svg[role=img]").all():
        box = figure.bounding_box()
        assert box is not None
        assert box["width"] > 200
        assert box["height"] > 100


def test_all_figures_of_a_run_are_drawn(open_page: OpenPage, run: Path) -> None:
    visit = open_page(run / "report.html")
    for panel in (*FIGURES, *HEAT_MAPS):
        assert visit.page.locator(f"#{panel} svg[role=img]").count() == 1, panel
    assert visit.page.locator("article.panel .absent").count() == 0


def test_the_drawn_accuracies_are_those_of_the_rounds(open_page: OpenPage, run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    tests = {r["round"]: r["test"] for r in map(json.loads, lines) if r["test"] is not None}
    for width in (PHONE, DESK):
        visit = open_page(run / "report.html", width=width)
        for mode, values in (
            ("global", {n: test["global"] for n, test in tests.items()}),
            ("personalized", {n: test["personalized"]["mean"] for n, test in tests.items()}),
        ):
            drawn = marks(visit, "rounds", mode).evaluate(READ)
            expected = [[number, 100 * value] for number, value in values.items()]
            assert drawn == [pytest.approx(point, abs=0.6) for point in expected]


def test_the_drawn_losses_are_those_of_the_rounds(open_page: OpenPage, run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [(r["round"], r["loss"]) for r in map(json.loads, lines) if r["loss"] is not None]
    visit = open_page(run / "report.html")
    drawn = marks(visit, "losses", "loss_fused").evaluate(READ)
    expected = [[number, loss["loss_fused"]] for number, loss in losses]
    assert drawn == [pytest.approx(point, abs=0.04) for point in expected]
    cosines = marks(visit, "cosines", "loss_dpac").evaluate(READ)
    assert cosines == [
        pytest.approx([number, 1 - loss["loss_dpac"]], abs=0.01) for number, loss in losses
    ]


def test_the_heat_maps_say_what_the_files_hold(open_page: OpenPage, run: Path) -> None:
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    visit = open_page(run / "report.html")
    said = marks(visit, "partition", "cells").locator("title").all_text_contents()
    counts = [n for client in results["clients"] for n in client["label_counts"] if n]
    assert [int(text.rpartition(": ")[2]) for text in said] == counts
    said = marks(visit, "confusion", "cells").locator("title").all_text_contents()
    images = sum(int(text.rpartition(": ")[2].split(" of ")[0]) for text in said)
    assert images == results["last"]["test"]["images"]


def test_dark_and_light_differ_and_paper_is_light(open_page: OpenPage, run: Path) -> None:
    def background(scheme: Scheme, media: str) -> str:
        visit = open_page(run / "report.html", scheme=scheme, media=media)
        line = marks(visit, "rounds", "global").locator("path").first
        color = line.evaluate("(path) => getComputedStyle(path).stroke")
        page = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return f"{page} {color}"

    light, dark = background("light", "screen"), background("dark", "screen")
    assert light != dark
    assert background("dark", "print").split(") ")[1] == light.split(") ")[1]


def test_the_keyboard_reaches_everything(open_page: OpenPage, run: Path) -> None:
    visit = open_page(run / "report.html")
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the figures"
    wanted = page.locator("a[href], summary, .scroll, textarea, button:visible").all()
    wanted = [element for element in wanted if element.is_visible()]
    for element in wanted[1:]:
        page.keyboard.press("Tab")
        assert element.evaluate("(one) => one === document.activeElement")
        outline = element.evaluate("(one) => getComputedStyle(one).outlineStyle")
        assert outline != "none"
    summary = page.locator("#rounds summary")
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("#rounds table").is_visible()


def test_copying_gives_the_text(open_page: OpenPage, bench: Path) -> None:
    visit = open_page(bench / "report.html")
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.page.locator("button[data-copies=LaTeX]").click()
    visit.page.get_by_role("button", name="Copied").wait_for()
    copied = visit.page.evaluate("navigator.clipboard.readText()")
    assert copied == visit.page.locator("#LaTeX").input_value()
    assert r"\textbf{" in copied
    assert visit.complaints == []


def test_the_benchmark_shows_its_cells(open_page: OpenPage, home: Path, bench: Path) -> None:
    visit = open_page(bench / "report.html")
    for panel in ("methods", "bytes", "personalized", "global", "against"):
        assert visit.page.locator(f"#setting-0-{panel} svg[role=img]").count() == 1, panel
    for index, method in enumerate(("promptfl", "fedrsclip")):
        results = home / "runs" / f"bench-small-uniform-{method}-seed0" / "results.json"
        last = json.loads(results.read_text(encoding="utf-8"))["last"]["test"]
        drawn = marks(visit, "setting-0-methods", "figure-0").evaluate(READ)
        assert drawn[index][0] == pytest.approx(100 * last["global"], abs=0.6)
        row = visit.page.locator("#setting-0-table-1 tbody tr").nth(index).all_inner_texts()[0]
        assert f"{100 * last['personalized']['mean']:.1f}" in row


def test_a_run_that_was_killed_is_drawn_too(open_page: OpenPage, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / run.name
    shutil.copytree(run, folder)
    (folder / "results.json").unlink()
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    (folder / "metrics.jsonl").write_text(lines[:-40], encoding="utf-8")
    assert main(["report", str(folder)]) == 0
    visit = open_page(folder / "report.html", width=PHONE)
    assert visit.complaints == []
    assert visit.overflow() == 0
    assert visit.page.get_by_text("This run was interrupted").is_visible()
    assert visit.page.get_by_text("the last line of metrics.jsonl is cut off").is_visible()
    assert marks(visit, "rounds", "global").count() == 1
