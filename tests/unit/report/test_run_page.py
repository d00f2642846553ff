"""The page of a run: every figure has the numbers of the run's files."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from fedrsclip.report import write_report
from fedrsclip_core.errors import DataError, ReportError
from tests.unit.report import folders, svgs

pytestmark = pytest.mark.unit

NEAR = 0.15
"""Places are written with two decimals of a pixel."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = folders.write_run(tmp_path_factory.mktemp("home"))
    return write_report(folder).read_text(encoding="utf-8")


def figure(page: str, panel: str) -> ElementTree.Element:
    return svgs.svg_of(page, panel)


def test_the_headline_is_the_last_round(page: str) -> None:
    start = page.index('<ol class="headline">')
    headline = page[start : page.index("</ol>", start)]
    values = [part.partition("<small>")[0] for part in headline.split('class="value">')[1:]]
    assert values == ["42.0", "45.0", "75.0", "65.0"]


def test_the_way_to_personalized(page: str) -> None:
    found = svgs.markers(figure(page, "steps"), "steps")
    assert found == [pytest.approx(p, abs=NEAR) for p in ((0, 42), (1, 45), (2, 75))]
    assert svgs.markers(figure(page, "steps"), "worst") == [pytest.approx((2, 65), abs=NEAR)]
    assert svgs.tips(figure(page, "steps"), "clients")[0] == "north, global: 40.0 %"


@pytest.mark.parametrize(
    ("mode", "values"), [("global", folders.GLOBAL), ("personalized", folders.PERSONALIZED)]
)
def test_accuracy_over_rounds(page: str, mode: str, values: tuple[float, ...]) -> None:
    found = svgs.markers(figure(page, "rounds"), mode)
    expected = [(number, 100 * value) for number, value in enumerate(values)]
    assert found == [pytest.approx(point, abs=NEAR) for point in expected]


def test_the_band_reaches_from_worst_to_best(page: str) -> None:
    ((left, right, low, high),) = svgs.boxes(figure(page, "rounds"), "span")
    assert (left, right) == pytest.approx((0, 2), abs=NEAR)
    assert (low, high) == pytest.approx((30, 85), abs=NEAR)


def test_a_dot_per_client_is_as_large_as_it_has_images(page: str) -> None:
    svg = figure(page, "clients")
    assert svgs.middles(svg, "clients") == [
        pytest.approx(p, abs=NEAR) for p in ((40, 85), (50, 65))
    ]
    widths = [right - left for left, right, _, _ in svgs.boxes(svg, "clients")]
    assert widths[0] / widths[1] == pytest.approx((500 / (80 + 420 * 0.75)) ** 0.5, abs=0.02)
    assert svgs.tips(svg, "clients")[1].endswith("30 training images")


def test_of_very_many_clients_some_are_drawn(tmp_path: Path) -> None:
    one = folders.client(0, shares=True)
    clients = [one | {"name": f"c{k}", "partition_id": k} for k in range(1000)]
    folder = folders.write_run(tmp_path, clients=clients)
    page = write_report(folder).read_text(encoding="utf-8")
    tips = svgs.tips(figure(page, "clients"), "clients")
    assert len(tips) == 200
    assert [tip.partition(":")[0] for tip in tips[:3]] == ["c0", "c5", "c10"]
    assert "for 1000 of 1000" in page
    assert page.count("Shown are 200 of 1000; results.json has all.") == 2
    squares = svgs.tips(figure(page, "partition"), "cells")
    assert {tip.partition(",")[0] for tip in squares} == {f"c{5 * k}" for k in range(200)}


def test_the_partition_has_a_square_per_class_of_a_client(page: str) -> None:
    svg = figure(page, "partition")
    assert svgs.middles(svg, "cells") == [
        pytest.approx(p, abs=NEAR) for p in ((0, 0), (1, 0), (0, 1), (1, 1))
    ]
    assert svgs.tips(svg, "cells")[3] == "south, harbor: 10"


def test_the_confusion_matrix_sums_the_clients(page: str) -> None:
    svg = figure(page, "confusion")
    total = np.sum(list(folders.CONFUSION.values()), axis=0)
    expected = [(column, row) for row, column in np.argwhere(total).tolist()]
    assert svgs.middles(svg, "cells") == [pytest.approx(p, abs=NEAR) for p in expected]
    assert svgs.tips(svg, "cells")[1] == "forest taken for harbor: 7 of 20"


def test_the_worst_pairs_come_first(page: str) -> None:
    pairs = page[page.index('<ol class="pairs">') : page.index("</ol>", page.index('"pairs">'))]
    assert pairs.index("7 of 20 images, 35.0 %") < pairs.index("1 of 10 images, 10.0 %")
    assert pairs.count("<li>") == 3


def test_losses_and_cosines(page: str) -> None:
    for term, value in folders.LOSS.items():
        found = svgs.markers(figure(page, "losses"), term)
        assert found == [pytest.approx((n, value), abs=0.02) for n in (1, 2)]
    for term in ("loss_dpac", "loss_cmfac"):
        found = svgs.markers(figure(page, "cosines"), term)
        assert found == [pytest.approx((n, 1 - folders.LOSS[term]), abs=0.01) for n in (1, 2)]


def test_bytes_clients_and_seconds(page: str) -> None:
    ((_, _, low, high),) = svgs.boxes(figure(page, "traffic"), "down-2")
    assert (low, high) == pytest.approx((0, 2.004), abs=0.02)
    ((_, _, low, high),) = svgs.boxes(figure(page, "participation"), "dropped-2")
    assert (low, high) == pytest.approx((1, 2), abs=0.02)
    ((_, _, low, high),) = svgs.boxes(figure(page, "stages"), "training-1")
    assert (low, high) == pytest.approx((0, 2), abs=0.02)
    assert "late: no answer in time" in page
    assert "training 4 s, evaluation 0 s, start, preparation and writing 8 s" in page


def test_settings_digests_and_command(page: str) -> None:
    assert "<dt>n_ctx</dt><dd>4</dd>" in page
    assert "c0de" * 16 in page
    assert "fedrsclip run data=folder</textarea>" in page
    assert "Add data.path of your machine." in page


def test_every_figure_is_described_and_has_its_numbers(page: str) -> None:
    for panel in page.split('<article class="panel')[1:]:
        if "<svg" not in panel:
            continue
        svg = svgs.svg_of('<article class="panel' + panel, panel.split('id="')[1].split('"')[0])
        title, description = svg.attrib["aria-labelledby"].split()
        said = {e.get("id"): e.text for e in svg if e.get("id") in (title, description)}
        assert svg.get("role") == "img"
        assert all(said[name] for name in (title, description))
        assert "<details><summary>The numbers" in panel


def test_ids_are_one_of_a_kind_and_all_references_hold(page: str) -> None:
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
    for mark in ('href="#', "url(#"):
        for part in page.split(mark)[1:]:
            assert part.replace(")", '"').split('"')[0] in ids


def test_the_same_files_give_the_same_figures(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    first, second = (write_report(folder).read_text(encoding="utf-8") for _ in range(2))
    assert first.split("<footer>")[0] == second.split("<footer>")[0]


def test_the_page_asks_nobody_for_anything(page: str) -> None:
    assert "default-src 'none'" in page
    outside = page.replace("http://www.w3.org/2000/svg", "").replace(
        "http://www.w3.org/1999/xlink", ""
    )
    assert "http:" not in outside
    assert "https:" not in outside
    assert len(page) < 1_000_000


def test_names_are_escaped(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    results = (folder / "results.json").read_text().replace("north", "<b>no & rth")
    (folder / "results.json").write_text(results)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "<b>no" not in page
    assert "&lt;b&gt;no &amp; rth" in page


def image_folder(root: Path) -> Path:
    for color, name in enumerate(folders.CLASSES[:2]):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (90, 60), (90 * color, 120, 30)).save(root / name / "sentinel.png")
    return root


def test_images_are_shown_only_when_asked_for(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    assert "data:image" not in write_report(folder).read_text()
    page = write_report(folder, images=image_folder(tmp_path / "images")).read_text()
    # Three pairs have four classes with images of theirs between them; river has none.
    assert page.count('src="data:image/jpeg;base64,') == 4
    assert "sentinel" not in page
    assert "data:image" not in write_report(folder).read_text()


def test_folders_of_other_classes_are_passed_over(tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images")
    (images / "unknown" / "deep").mkdir(parents=True)
    page = write_report(folders.write_run(tmp_path), images=images).read_text()
    assert page.count('src="data:image/jpeg;base64,') == 4


def test_no_images_is_one_sentence(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    with pytest.raises(DataError, match="--images cannot be used"):
        write_report(folder, images=tmp_path / "nowhere")


def test_another_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="neither a run nor a benchmark"):
        write_report(tmp_path)
