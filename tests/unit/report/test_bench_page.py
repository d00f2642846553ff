"""The page of a benchmark: tables, marks and figures have the numbers of its rows."""

import csv
import io
from html import unescape
from pathlib import Path

import pytest

from fedrsclip.bench.tables import PAIRED
from fedrsclip.report import write_report
from tests.unit.report import folders, svgs

pytestmark = pytest.mark.unit

NEAR = 0.3


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = folders.write_bench(tmp_path_factory.mktemp("home"))
    return write_report(folder).read_text(encoding="utf-8")


def area(page: str, name: str) -> str:
    start = page.index(f'<textarea id="{name}"')
    return unescape(page[page.index(">", start) + 1 : page.index("</textarea>", start)])


def test_best_and_second_best_are_marked(page: str) -> None:
    assert '<strong class="best">72.0 ± 2.8</strong>' in page
    assert '<u class="second">66.0 (n=1)</u>' in page
    # Of calibration errors the lowest is the best.
    assert '<strong class="best">10.0 ± 0.0</strong>' in page


def test_zero_shot_is_the_same_for_all_and_marked_for_none(page: str) -> None:
    assert "<td>42.0 ± 0.0</td>" in page


def test_the_csv_has_every_mean_and_difference(page: str) -> None:
    rows = list(csv.DictReader(io.StringIO(area(page, "CSV"))))
    values = {(r["table"], r["method"], r["figure"]): r["value"] for r in rows}
    assert values["Test images, last round", "fedrsclip", "personalized"] == "72.0 ± 2.8"
    paired = f"Minus fedrsclip, {PAIRED}"
    assert values[paired, "promptfl", "personalized"] == "-30.0 ± 0.0, 0:2"
    assert values[paired, "fedrsclip_without_dpac", "global"] == "-1.0 (n=1)"


def test_the_latex_marks_too(page: str) -> None:
    text = area(page, "LaTeX")
    assert r"\textbf{72.0 $\pm$ 2.8}" in text
    assert r"\underline{66.0 (n=1)}" in text
    assert r"fedrsclip\_without\_dpac" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3


def test_methods_beside_each_other(page: str) -> None:
    svg = svgs.svg_of(page, "setting-0-methods")
    found = [x for x, _ in svgs.markers(svg, "figure-1")]
    assert found == pytest.approx([42, 72, 66], abs=NEAR)
    assert svgs.tips(svg, "figure-1")[1] == "fedrsclip, personalized: 72.0 ± 2.8 %"


def test_bytes_against_accuracy(page: str) -> None:
    svg = svgs.svg_of(page, "setting-0-bytes")
    assert svgs.markers(svg, "mean-fedrsclip") == [pytest.approx((80, 72), abs=NEAR)]
    assert svgs.markers(svg, "seeds-promptfl") == [
        pytest.approx(point, abs=NEAR) for point in ((60, 40), (60, 44))
    ]


def test_bytes_of_a_round_against_accuracy(page: str) -> None:
    svg = svgs.svg_of(page, "setting-0-sent-personalized")
    ((sent, reached),) = svgs.markers(svg, "sent-fedrsclip")
    assert sent == pytest.approx(500, rel=0.02)
    assert reached == pytest.approx(72, abs=NEAR)
    # What is sent once is hollow and says so.
    assert svgs.tips(svg, "sent-promptfl") == ["promptfl: 3 kB once, 42.0 ± 2.8 %"]
    assert "promptfl (once)" in "".join(svg.itertext())
    # What sends nothing stands below all others.
    ((nothing, _),) = svgs.markers(svg, "sent-fedrsclip-without-dpac")
    assert nothing < 500
    assert "none" in "".join(svg.itertext())
    for name, size in (("LoRA", 3e5), ("all-of-CLIP", 6e7)):
        left, right, _, _ = svgs.boxes(svg, f"size-{name}")[0]
        assert (left, right) == pytest.approx((size, size), rel=0.02)


def test_a_curve_is_the_mean_of_seeds_and_its_band_their_deviation(page: str) -> None:
    svg = svgs.svg_of(page, "setting-0-personalized")
    expected = [(number, 100 * value + 5) for number, value in enumerate(folders.PERSONALIZED)]
    assert svgs.markers(svg, "curve-fedrsclip") == [
        pytest.approx(point, abs=NEAR) for point in expected
    ]
    ((left, right, low, high),) = svgs.boxes(svg, "band-fedrsclip")
    assert (left, right) == pytest.approx((0, 2), abs=NEAR)
    assert (low, high) == pytest.approx((45 - 7.07, 80 + 7.07), abs=NEAR)


def test_bars_are_paired_differences(page: str) -> None:
    svg = svgs.svg_of(page, "setting-0-against")
    ((left, right, _, _),) = svgs.boxes(svg, "bar-1-promptfl")
    assert (left, right) == pytest.approx((-30, 0), abs=NEAR)
    assert svgs.tips(svg, "bar-0-promptfl") == ["promptfl, global: +2.0 ± 0.0 points"]


def test_a_cell_that_was_not_run_is_named(page: str) -> None:
    assert "5 of 6 cells" in page
    assert "incomplete" in page
    assert "bench-small-uniform-fedrsclip_without_dpac-seed1" in page
    assert "<td>not started</td>" in page


def test_the_splits_are_named_once(page: str) -> None:
    for seed in folders.SEEDS:
        assert page.count(f"split-{seed}") == 1


def test_an_interrupted_cell_says_so(tmp_path: Path) -> None:
    folder = folders.write_bench(tmp_path)
    (tmp_path / "runs" / "bench-small-uniform-fedrsclip_without_dpac-seed1").mkdir()
    assert "<td>interrupted</td>" in write_report(folder).read_text(encoding="utf-8")


def test_without_its_description_the_means_are_shown(tmp_path: Path) -> None:
    folder = folders.write_bench(tmp_path)
    (folder / "bench.json").unlink()
    page = write_report(folder).read_text(encoding="utf-8")
    assert "bench.json is missing" in page
    assert '<strong class="best">72.0 ± 2.8</strong>' in page
    assert "The benchmark names no reference." in page


def test_lost_curves_are_named_and_the_rest_is_drawn(tmp_path: Path) -> None:
    folder = folders.write_bench(tmp_path)
    name = "bench-small-uniform-promptfl-seed0"
    (tmp_path / "runs" / name / "metrics.jsonl").write_text("{\n")
    page = write_report(folder).read_text(encoding="utf-8")
    assert f"metrics.jsonl of 1 cells cannot be read, their curves are left out: {name}" in page
    svg = svgs.svg_of(page, "setting-0-personalized")
    assert [y for _, y in svgs.markers(svg, "curve-promptfl")] == pytest.approx(
        [100 * value + 10 for value in folders.PERSONALIZED], abs=NEAR
    )


def test_damaged_rows_are_named(tmp_path: Path) -> None:
    folder = folders.write_bench(tmp_path)
    text = (folder / "results.csv").read_text()
    (folder / "results.csv").write_text(text[: len(text) // 2])
    page = write_report(folder).read_text(encoding="utf-8")
    assert "results.csv is damaged" in page
    assert "promptfl" in page


def test_a_damaged_description_is_named(tmp_path: Path) -> None:
    folder = folders.write_bench(tmp_path)
    text = (folder / "bench.json").read_text()
    (folder / "bench.json").write_text(text.replace('"main": {', '"main": 3, "before": {'))
    page = write_report(folder).read_text(encoding="utf-8")
    assert "bench.json is damaged" in page
    assert '<strong class="best">72.0 ± 2.8</strong>' in page


def test_a_row_without_a_seed_is_named(tmp_path: Path) -> None:
    folder = folders.write_bench(tmp_path)
    text = (folder / "results.csv").read_text()
    (folder / "results.csv").write_text(text.replace("promptfl,,1,", "promptfl,,x,"))
    page = write_report(folder).read_text(encoding="utf-8")
    assert "results.csv is damaged: some cells are left out" in page
