"""`fedrsclip predict` as a user types it, in one process; see integration for kills and pipes."""

import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedrsclip.classifier.loading import load_classifier
from fedrsclip.cli import main
from fedrsclip_core.demo.scenes import CLASS_NAMES, render
from tests.unit.classifier.test_named_classes import write

pytestmark = pytest.mark.unit

Captured = pytest.CaptureFixture[str]
COUNT = 7


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a prompt and images, one of which is broken."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    (tmp_path / "pics").mkdir()
    for number in range(COUNT):
        Image.fromarray(render(number, 0, seed=5, domain=0)).save(f"pics/{number}.png")
    Path("pics/4.png").write_bytes(b"\x89PNG nothing")
    return tmp_path


def predict(*arguments: str) -> int:
    return main(["predict", "prompt.safetensors", *arguments])


def test_a_csv_into_a_pipe(capfd: Captured) -> None:
    assert predict("pics", "--batch-size", "3") == 1
    said = capfd.readouterr()
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [row["image"] for row in rows] == [f"pics/{number}.png" for number in range(COUNT)]
    scores = load_classifier("prompt.safetensors").scores(["pics/2.png"])[0]
    assert rows[2]["class"] == CLASS_NAMES[scores.argmax()]
    assert float(rows[2]["probability"]) == pytest.approx(scores.max(), abs=2e-6)
    assert rows[4]["error"].startswith("not readable as an image")
    assert said.err.splitlines() == [
        "first, round 3, global, 16 classes, demo_clip",
        f"unreadable: pics/4.png: {rows[4]['error']}",
        f"1 of {COUNT} images could not be read",
    ]


def test_json_lines_with_the_next_classes(capfd: Captured) -> None:
    assert predict("pics/0.png", "--format", "jsonl", "--top", "40") == 0
    said = json.loads(capfd.readouterr().out)
    top = said["top"]
    assert {one["class"] for one in top} == set(CLASS_NAMES)
    assert [one["probability"] for one in top] == sorted(
        (one["probability"] for one in top), reverse=True
    )
    assert (said["class"], said["probability"]) == (top[0]["class"], top[0]["probability"])


def test_a_table(capfd: Captured) -> None:
    assert predict("pics", "--format", "table", "--top", "2") == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["class", "prob.", "class", "prob.", "image"]
    assert [line.index("pics/") for line in lines[1:]] == [lines[0].index("image")] * COUNT
    assert lines[5].split() == ["unreadable", "pics/4.png"]


def test_images_of_another_sensor(capfd: Captured) -> None:
    """Deeper than 8 bits, and stretched to what was an 8-bit picture."""
    rasterio = pytest.importorskip("rasterio")
    pixels = np.asarray(Image.open("pics/0.png"))
    with rasterio.open(
        "deep.tif", "w", width=64, height=64, count=3, dtype="uint16", photometric="RGB"
    ) as file:
        file.write(np.moveaxis(pixels.astype(np.uint16) * 10, 2, 0))
    assert predict("deep.tif") == 1
    assert "set data.stretch" in capfd.readouterr().err
    assert predict("deep.tif", "data.stretch=[0,2550]", "pics/0.png", "--format", "jsonl") == 1
    deep, plain = map(json.loads, capfd.readouterr().out.splitlines())
    assert "data.stretch goes up to 2550" in plain["error"]
    scores = load_classifier("prompt.safetensors").scores("pics/0.png")[0]
    assert deep["class"] == CLASS_NAMES[scores.argmax()]
    assert deep["probability"] == pytest.approx(scores.max(), abs=2e-6)
    assert predict("deep.tif", "data.stretch=[0]") == 1
    assert "data.stretch" in capfd.readouterr().err


def test_new_classes_are_said_to_be_untrained(capfd: Captured) -> None:
    assert predict("pics/0.png", "--classes", "volcano, harbor", "--out", "out.jsonl") == 0
    assert "nobody trained: volcano" in capfd.readouterr().err
    about = json.loads(Path("out.jsonl.about.json").read_text())
    assert about["untrained"] == ["volcano"]
    assert about["classifier"].endswith("nobody trained: volcano")
    assert json.loads(Path("out.jsonl").read_text())["class"] in ("volcano", "harbor")


def test_options_may_stand_anywhere(capfd: Captured) -> None:
    assert predict("--top", "1", "pics/0.png", "--format", "csv", "pics/1.png") == 0
    assert len(capfd.readouterr().out.splitlines()) == 3


def test_a_list_on_stdin(capfd: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = os.fsdecode(b"pics/odd\n\xff.png")
    Path("pics/0.png").rename(odd)
    names = b"\0".join([os.fsencode(odd), b"pics/none.png", b"pics/1.png"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names)))
    assert predict("-0", "-") == 1
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert [row["image"] for row in rows] == [
        "pics/odd\n\\udcff.png",
        "pics/none.png",
        "pics/1.png",
    ]
    assert rows[0]["class"]
    assert rows[1]["error"].startswith("there is no image at")


def test_a_name_too_long_is_an_unreadable_image(
    capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = b"x" * 5000 + b"\npics/0.png\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names)))
    assert predict("-") == 1
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert rows[0]["error"] == "cannot be read (File name too long)"
    assert rows[1]["class"]


def test_a_file_is_resumed_and_grows(capfd: Captured) -> None:
    assert predict("pics", "--out", "whole.csv", "--batch-size", "2") == 1
    whole = Path("whole.csv").read_bytes()
    assert predict("pics/0.png", "pics/1.png", "--out", "out.csv", "--batch-size", "2") == 0
    with Path("out.csv").open("ab") as file:
        file.write(b"pics/2.png,bea")
    capfd.readouterr()
    assert predict("pics", "--out", "out.csv", "--batch-size", "2") == 1
    assert Path("out.csv").read_bytes() == whole
    assert "resumed: 2 images are in out.csv already" in capfd.readouterr().err
    # What could not be read is told of again, and not tried again.
    Image.fromarray(render(4, 0, seed=5, domain=0)).save("pics/4.png")
    assert predict("pics", "--out", "out.csv") == 1
    assert f"1 of {COUNT} images could not be read" in capfd.readouterr().err
    assert Path("out.csv").read_bytes() == whole


def test_an_image_given_twice_has_two_rows_also_when_resumed() -> None:
    twice = ["pics/0.png", "pics/1.png", "pics/0.png"]
    assert predict(*twice, "--out", "out.csv") == 0
    whole = Path("out.csv").read_bytes()
    assert whole.count(b"pics/0.png") == 2
    lines = whole.splitlines(keepends=True)
    Path("out.csv").write_bytes(b"".join(lines[:2]))
    assert predict(*twice, "--out", "out.csv") == 0
    assert Path("out.csv").read_bytes() == whole


def test_interrupted_it_says_how_to_go_on(capfd: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedrsclip.classifier import stream

    found = stream.classified

    def interrupted(*given: object, **more: object) -> object:
        for number, one in enumerate(found(*given, **more)):  # type: ignore[arg-type]
            if number == 4:
                raise KeyboardInterrupt
            yield one

    monkeypatch.setattr(stream, "classified", interrupted)
    assert predict("pics", "--out", "out.csv", "--batch-size", "2") == 130
    assert "out.csv is whole, and the same command resumes it" in capfd.readouterr().err
    assert len(Path("out.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pics", "--out", "out.txt"], "let it end with .csv or .jsonl"),
        (["pics", "--out", "out.csv", "--format", "table"], "let it end with .csv or .jsonl"),
        (["pics", "--calibrated", "--out", "out.csv"], "fitted no temperature"),
        (["pics", "--classes", ",", "--out", "out.csv"], "classes names no class"),
        (["pics", "--device", "tpu", "--out", "out.csv"], "device is 'tpu'"),
        (["nowhere", "--out", "out.csv"], "there is no image or folder at nowhere"),
        (["pics", "--client", "client-9", "--out", "out.csv"], "fedrsclip: "),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_is_written(
    capfd: Captured, arguments: Sequence[str], sentence: str
) -> None:
    assert predict(*arguments) == 1
    said = capfd.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert not list(Path().glob("out.*"))


def test_no_run(capfd: Captured) -> None:
    assert main(["predict", "nothing", "pics"]) == 1
    assert "no run of that name" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [["--top", "0"], ["--batch-size", "-1"], ["--format", "xml"]])
def test_options_that_mean_nothing(arguments: Sequence[str]) -> None:
    with pytest.raises(SystemExit):
        predict("pics", *arguments)


def test_scores_do_not_depend_on_what_else_is_there(capfd: Captured) -> None:
    predict("pics/0.png")
    alone = capfd.readouterr().out.splitlines()[1].split(",")
    predict("pics")
    among = capfd.readouterr().out.splitlines()[1].split(",")
    assert alone[:2] == among[:2]
    assert np.abs(float(alone[2]) - float(among[2])) <= 2e-6
