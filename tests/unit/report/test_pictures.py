"""The two pictures in a run's folder: the report's own figures on white."""

import json
from pathlib import Path

import pytest
from PIL import Image, ImageColor

from fedrsclip.report import draw_pictures, write_report
from fedrsclip.report.drawing import BLUE, HEAT, ORANGE, VERMILLION
from tests.unit.report import folders

pytestmark = pytest.mark.unit

WHITE = (255, 255, 255)


def colors(path: Path) -> set[object]:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        assert {image.getpixel(place) for place in ((0, 0), (0, image.height - 1))} == {WHITE}
        return {color for _, color in image.getcolors(image.width * image.height) or ()}


def test_both_are_drawn_in_their_colours(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    write_report(folder)
    accuracy, partition = (folder / name for name in ("accuracy.png", "partition.png"))
    drawn = [path.read_bytes() for path in (accuracy, partition)]
    assert drawn == [path.read_bytes() for path in draw_pictures(folder)]
    assert colors(accuracy) >= {ImageColor.getrgb(BLUE), ImageColor.getrgb(VERMILLION)}
    assert ImageColor.getrgb(HEAT) in colors(partition)


def test_the_same_files_give_the_same_bytes_and_other_files_do_not(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    first, again = ([path.read_bytes() for path in draw_pictures(folder)] for _ in range(2))
    assert first == again
    lines = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(lines.replace('"global": 0.45', '"global": 0.2'))
    changed = [path.read_bytes() for path in draw_pictures(folder)]
    assert [one == other for one, other in zip(first, changed, strict=True)] == [False, True]


def test_clients_that_share_no_counts_are_shown_by_their_totals(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path, "partition=site", "privacy=deployment")
    _, partition = draw_pictures(folder)
    assert colors(partition) >= {ImageColor.getrgb(BLUE), ImageColor.getrgb(ORANGE)}
    assert ImageColor.getrgb(HEAT) not in colors(partition)


def test_a_benchmark_has_a_picture_of_bytes_and_accuracy_per_mode(tmp_path: Path) -> None:
    folder = folders.write_bench(tmp_path)
    write_report(folder)
    drawn = sorted(folder.glob("bytes-*"))
    assert [path.name for path in drawn] == [
        "bytes-uniform-global.png",
        "bytes-uniform-global.svg",
        "bytes-uniform-personalized.png",
        "bytes-uniform-personalized.svg",
    ]
    assert colors(drawn[0]) >= {ImageColor.getrgb(VERMILLION), ImageColor.getrgb(BLUE)}
    vector = drawn[1].read_text(encoding="utf-8")
    assert "small: uniform" in vector and "all of CLIP" in vector
    assert VERMILLION in vector  # a colour of its own, not the page's
    first = [path.read_bytes() for path in drawn]
    write_report(folder)
    assert first == [path.read_bytes() for path in drawn]


def test_before_the_first_round_there_is_nothing_to_draw(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    for name in ("metrics.jsonl", "results.json"):
        (folder / name).unlink()
    assert draw_pictures(folder) == []
    assert not list(folder.glob("*.png"))


def test_rounds_of_sampled_clients_are_hollow(tmp_path: Path) -> None:
    folder = folders.write_run(tmp_path)
    assert "sampled clients only" not in write_report(folder).read_text(encoding="utf-8")
    records = [folders.record(number) | {"sampled": number == 1} for number in range(3)]
    lines = [json.dumps(record) + "\n" for record in records]
    (folder / "metrics.jsonl").write_text("".join(lines))
    page = write_report(folder).read_text(encoding="utf-8")
    assert "sampled clients only" in page
    assert "Hollow: only sampled clients evaluated this round." in page
