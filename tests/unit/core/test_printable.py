"""Nothing from outside steers a terminal or floods a log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrsclip_core.printable import LONGEST_LINE, printable, printable_lines

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("north-1: Ölhafen 42 %", "north-1: Ölhafen 42 %"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\r\nround 99", r"a\r\nround 99"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnihton\u2066", r"\u202egnihton\u2066"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("line\u2028end", r"line\u2028end"),
        ("\ud800", r"\ud800"),
        ("\x00", r"\x00"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(), max_size=300), st.integers(1, 100))
def test_any_text_becomes_short_and_printable(text: str, longest: int) -> None:
    shown = printable(text, longest)
    assert shown.isprintable()
    assert len(shown) <= longest + len("... (300 characters)")
    assert printable(shown) == shown
    shown.encode()


def test_what_is_cut_says_so() -> None:
    assert printable("x" * 900_000, 3) == "xxx... (900000 characters)"
    assert len(printable("\x1b" * 900_000)) < LONGEST_LINE + 30


def test_lines_stay_lines() -> None:
    assert printable_lines("a\n\x1b[2Jb\n") == "a\n\\x1b[2Jb\n"
