import json
from pathlib import Path

import pytest

from benchmarks.growth import extrapolated
from benchmarks.inputs import class_names
from benchmarks.measuring import (
    Report,
    add_dtypes,
    arguments,
    chosen_dtypes,
    in_turns,
    markdown,
    medians,
    publish,
    settings_of,
)
from benchmarks.site_steps import Steps, steps_in
from fedrsclip import machine

pytestmark = pytest.mark.unit


def test_variants_take_turns_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []

    def variant(name: str, value: float):  # type: ignore[no-untyped-def]
        def measure() -> float:
            calls.append(name)
            return value + len(calls)

        return measure

    found = in_turns({"a": variant("a", 0.0), "b": variant("b", 100.0)}, 2, warm_up=1)
    assert calls == ["a", "b"] * 3
    assert found == {"a": [3.0, 5.0], "b": [104.0, 106.0]}
    assert medians(found) == {"a": 4.0, "b": 105.0}


def test_a_report_is_one_table_and_one_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"what": "a", "ms": 1234.5, "difference": 1.5e-7, "none": None}]
    file = tmp_path / "out" / "report.json"
    publish(Report("step", {"classes": 21}, list(rows), ["How to read it."]), file)
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("step: ") and "CPUs" in table[0]
    assert table[1] == "classes=21"
    assert table[3:6] == [
        "| what | ms | difference | none |",
        "|---|---|---|---|",
        "| a | 1234 | 1.5e-07 |  |",
    ]
    assert table[-1] == "How to read it."
    written = json.loads(file.read_text())
    assert (written["name"], written["rows"]) == ("step", rows)
    assert {"cpu", "cpus", "load_1min", "torch"} <= written["machine"].keys()


@pytest.mark.parametrize(
    ("flags", "given", "dtypes"),
    [
        ({"avx2"}, "", ["float32"]),
        ({"avx512_bf16"}, "", ["float32", "bfloat16"]),
        ({"avx2"}, "--device cuda", ["float32", "bfloat16"]),
        ({"avx2"}, "--dtypes bfloat16", ["bfloat16"]),
        ({"avx512_bf16"}, "--dtypes float32", ["float32"]),
    ],
)
def test_bfloat16_is_measured_where_there_is_any(
    flags: set[str], given: str, dtypes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    parser = arguments("One sentence.")
    add_dtypes(parser)
    parser.add_argument("--device", default="cpu")
    assert chosen_dtypes(parser.parse_args(given.split())) == dtypes


def test_where_the_file_goes_is_no_setting() -> None:
    options = arguments("One sentence.\n\nMore.", threads=2).parse_args(["--json", "x.json"])
    assert options.json == Path("x.json")
    assert settings_of(options) == {"threads": 2}


def test_zero_is_not_written_as_a_power_of_ten() -> None:
    assert markdown(Report("r", {}, [{"a": 0.0}])).splitlines()[-1] == "| 0 |"


def test_steps_are_read_from_the_sites_own_logs(tmp_path: Path) -> None:
    line = "2026-01-01T00:00:00Z run first, round 2: 3 steps in 0.250 of 0.400 s, loss 4.5\n"
    (tmp_path / "client-0.log").write_text(f"train: features of 12 images are ready\n{line}")
    (tmp_path / "client-1.log").write_text("nothing\n")
    assert list(steps_in(tmp_path)) == [Steps("first", 2, 3, 0.25, 0.4)]


def test_class_names_differ() -> None:
    assert len(set(class_names(1000))) == 1000


def test_a_line_goes_through_the_two_measured_sizes() -> None:
    small = {"of": "images", "number": 100, "s": 2.0, "peak RSS, MiB": 50.0, "unit": "u"}
    large = {"of": "images", "number": 200, "s": 3.0, "peak RSS, MiB": 70.0, "unit": "u"}
    row = extrapolated(small, large, 1000)
    assert row["of"] == "images (extrapolated)"
    assert (row["s"], row["peak RSS, MiB"], row["ms each"]) == (11.0, 230.0, 11.0)
