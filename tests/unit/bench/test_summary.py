"""Statistics and tables with values that were worked out by hand."""

import math

import pytest

from fedrsclip.bench.figures import Row
from fedrsclip.bench.summary import Difference, difference_text, paired, summarise, text
from fedrsclip.bench.tables import latex, markdown, sources, tables

pytestmark = pytest.mark.unit


def row(method: str, seed: int, value: float | None, *, split: str = "s", **more: object) -> Row:
    found: Row = {"setting": "uniform", "method": method, "variant": "", "seed": seed}
    if value is not None:
        found |= {"test_global": value, "split_digest": f"{split}{seed}"}
    return found | more


def test_mean_and_deviation_of_the_sample() -> None:
    found = summarise([1.0, 2.0, 6.0, None])
    assert found is not None
    assert (found.mean, found.number) == (3.0, 3)
    assert found.deviation == pytest.approx(math.sqrt(7))  # (4 + 1 + 9) / 2


def test_one_value_has_no_deviation_and_none_has_no_mean() -> None:
    one = summarise([5.0])
    assert one is not None and one.deviation is None
    assert summarise([None]) is None


def test_differences_are_of_equal_seeds_and_splits() -> None:
    mine = [row("a", 0, 10.0), row("a", 1, 14.0), row("a", 2, 99.0)]
    others = [row("b", 1, 8.0), row("b", 0, 9.0), row("b", 2, 1.0, split="another")]
    found = paired(mine, others, "test_global")
    assert found is not None
    assert (found.mean, found.number) == (3.5, 2)  # 1 and 6
    assert found.deviation == pytest.approx(math.sqrt(12.5))


def test_an_unfinished_cell_is_no_pair() -> None:
    assert paired([row("a", 0, None)], [row("b", 0, None)], "test_global") is None


def of_seeds(*values: float) -> list[Row]:
    return [row("a", seed, value) for seed, value in enumerate(values)]


def differing_by(*values: float) -> Difference:
    found = paired(of_seeds(*values), of_seeds(*[0.0] * len(values)), "test_global")
    assert found is not None
    return found


def test_wilcoxons_test_from_six_pairs_on() -> None:
    assert differing_by(1, 2, 3, 4, 5).p is None
    # Of 2^6 signs two are as one-sided as this.
    assert differing_by(1, 2, 3, 4, 5, 6).p == pytest.approx(2 / 64)
    assert differing_by(-1, -2, -3, -4, -5, -6).p == pytest.approx(2 / 64)
    # Ranks below zero sum up to 1: {} and {1} on either side.
    assert differing_by(-1, 2, 3, 4, 5, 6).p == pytest.approx(4 / 64)
    assert differing_by(*[0.0] * 6).p == 1


def test_seeds_up_and_down() -> None:
    found = differing_by(0.5, -2, 0, 1)
    assert (found.up, found.down, found.number) == (2, 1, 4)
    # Equal but for the last bits.
    found = differing_by(0.1 + 0.2 - 0.3, 1)
    assert (found.up, found.down) == (1, 0)


def test_text_of_a_difference() -> None:
    six = differing_by(1, 2, 3, 4, 5, 6)
    assert difference_text(six, 6) == "+3.5 ± 1.9, 6:0, p=0.031"
    assert difference_text(six, 8) == "+3.5 ± 1.9 (n=6), 6:0, p=0.031"
    assert difference_text(differing_by(-1, 2), 2) == "+0.5 ± 2.1, 1:1"
    assert difference_text(differing_by(-1), 1) == "-1.0"
    assert difference_text(None, 2) == ""


def test_text() -> None:
    assert text(summarise([1.0, 2.0, 6.0]), 3) == "3.0 ± 2.6"
    assert text(summarise([1.0, 2.0, 6.0]), 5) == "3.0 ± 2.6 (n=3)"
    assert text(summarise([4.0]), 1, signed=True) == "+4.0"
    assert text(None, 3) == ""


def test_tables_leave_out_what_is_not_known() -> None:
    rows = [row("promptfl", 0, 40.0), row("promptfl", 1, 42.0), row("local", 0, None)]
    rows += [row("local", 1, None), row("fedrsclip", 0, 43.0), row("fedrsclip", 1, 41.0)]
    main, more, differences = tables(rows, 2, "fedrsclip")
    assert main.rows[0] == ("promptfl", "", "41.0 ± 1.4", "", "", "", "")
    assert main.rows[1] == ("local", *[""] * 6)
    assert more.rows[2] == ("fedrsclip", *[""] * 11)
    assert differences.rows == (
        ("promptfl", "-1.0 ± 2.8, 1:1", "", "", ""),
        ("local", "", "", "", ""),
    )


def test_markdown_and_latex_say_the_same() -> None:
    rows = [row("promptfl_ft", 0, 40.0), row("fedrsclip", 0, 43.0)]
    made = tables(rows, 1, "fedrsclip")
    plain, tex = markdown(made, "caption"), latex(made, "caption")
    assert "| promptfl_ft |  | 40.0 |  |  |  |  |" in plain
    assert r"promptfl\_ft &  & 40.0 &  &  &  &  \\" in tex
    assert "| promptfl_ft | -3.0 |  |  |  |" in plain
    assert r"promptfl\_ft & $-$3.0 &  &  &  \\" in tex


def test_latex_names_the_split_and_the_command_of_each_run() -> None:
    rows = [
        row("promptfl", 0, 40.0, repeat="fedrsclip run method=promptfl"),
        row("local", 1, 41.0, repeat="fedrsclip run method=local"),
        row("fedrsclip", 0, 43.0, repeat="fedrsclip run"),
        row("fedrsclip", 1, None),
    ]
    assert sources(rows).splitlines()[2:] == [
        "% uniform, seed 0, split sha256 s0",
        "%   promptfl: fedrsclip run method=promptfl",
        "%   fedrsclip: fedrsclip run",
        "% uniform, seed 1, split sha256 s1",
        "%   local: fedrsclip run method=local",
    ]


def test_without_the_reference_there_is_nothing_to_compare() -> None:
    assert len(tables([row("promptfl", 0, 1.0)], 1, None)) == 2
