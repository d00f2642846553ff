"""The bar of long work: it counts, tells lines above it, and goes away."""

import threading

import pytest

from fedrsclip.predict import progress
from fedrsclip.predict.progress import Watched

pytestmark = pytest.mark.unit


def test_a_bar_counts_and_tells(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LONG", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    counted = threading.Event()

    def count() -> int:
        counted.set()
        return 500

    with Watched(shown=True, count=count) as watched:
        for _ in range(3):
            watched.advance(50)
        assert counted.wait(10)
        watched.say("unreadable: [bold]x[/bold].jpg")
        watched.advance(50)
    said = capfd.readouterr().err
    assert "unreadable: [bold]x[/bold].jpg\n" in said
    assert "200/" in said
    assert "/s" in said


def test_short_work_has_no_bar(capfd: pytest.CaptureFixture[str]) -> None:
    with Watched(shown=True, count=None) as watched:
        watched.advance(10**6)
        watched.say("a line")
    assert capfd.readouterr().err == "a line\n"
