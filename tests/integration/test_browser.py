"""The browser of the other tests sees what they rely on it to see."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.browser import Media, OpenPage, Scheme, Visit

pytestmark = pytest.mark.integration

PHONE, DESK = 375, 1440
VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'
STYLE = """
body { margin: 0; background: rgb(255, 255, 255) }
@media (prefers-color-scheme: dark) { body { background: rgb(0, 0, 0) } }
@media print { body { background: rgb(0, 128, 0) } }
"""
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def write(folder: Path, body: str, *, head: str = VIEWPORT) -> Path:
    page = folder / "page with a blank.html"
    page.write_text(
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>a page</title>{head}"
        f"<style>{STYLE}</style></head><body><h1 id=top>Hello</h1>{body}</body></html>",
        encoding="utf-8",
    )
    return page


def let_go_on(visit: Visit, seen: Callable[[], list[str]]) -> None:
    """Give a page the time until something is seen, of which a busy machine takes more."""
    for _ in range(100):
        visit.page.wait_for_timeout(100)
        if seen():
            return


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_sound_page_has_no_complaint(open_page: OpenPage, tmp_path: Path, width: int) -> None:
    body = f'<img alt="" src="{PIXEL}"><a href="#top">up</a><script>console.log("hi")</script>'
    visit = open_page(write(tmp_path, body), width=width)
    visit.page.get_by_text("up").click()
    assert visit.page.title() == "a page"
    assert visit.console == ["log: hi"]
    assert visit.complaints == []
    assert visit.url in visit.requests
    assert visit.foreign_requests == []
    assert visit.overflow() == 0
    png = visit.screenshot(tmp_path / "page.png").read_bytes()
    assert struct.unpack(">I", png[16:20]) == (width,)


@pytest.mark.parametrize(
    ("scheme", "media", "background"),
    [
        ("light", "screen", "rgb(255, 255, 255)"),
        ("dark", "screen", "rgb(0, 0, 0)"),
        ("light", "print", "rgb(0, 128, 0)"),
    ],
)
def test_theme_and_media_reach_the_page(
    open_page: OpenPage, tmp_path: Path, scheme: Scheme, media: Media, background: str
) -> None:
    visit = open_page(write(tmp_path, ""), scheme=scheme, media=media)
    style = "getComputedStyle(document.body).backgroundColor"
    assert visit.page.evaluate(style) == background


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("console.error('broken')", "error: broken"),
        ("console.warn('odd')", "warning: odd"),
        ("undefined.x", "reading 'x'"),
        ("setTimeout(() => { throw new Error('later') })", "later"),
        ("Promise.reject(new Error('promised'))", "promised"),
    ],
)
def test_a_script_that_fails_is_seen(
    open_page: OpenPage, tmp_path: Path, script: str, said: str
) -> None:
    visit = open_page(write(tmp_path, f"<script>{script}</script>"))
    let_go_on(visit, lambda: visit.complaints)
    assert len(visit.complaints) == 1
    assert said in visit.complaints[0]


@pytest.mark.parametrize(
    ("body", "address"),
    [
        ('<img alt="" src="https://example.org/a.png">', "https://example.org/a.png"),
        ('<link rel=stylesheet href="http://example.org/a.css">', "http://example.org/a.css"),
        ('<style>h1 { background: url("//example.org/a.svg") }</style>', "file://example.org/"),
        ('<script src="other.js"></script>', "other.js"),
        ("<script>fetch('https://example.org/f').catch(() => 0)</script>", "/f"),
        ("<script>navigator.sendBeacon('https://example.org/b')</script>", "/b"),
        ("<script>new WebSocket('wss://example.org/w')</script>", "wss://example.org/w"),
    ],
)
def test_a_request_out_of_the_file_is_seen(
    open_page: OpenPage, tmp_path: Path, body: str, address: str
) -> None:
    visit = open_page(write(tmp_path, body))
    let_go_on(visit, lambda: visit.foreign_requests)
    assert len(visit.foreign_requests) == 1, visit.requests
    assert address in visit.foreign_requests[0]


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_a_page_wider_than_the_screen_is_seen(
    open_page: OpenPage, tmp_path: Path, width: int
) -> None:
    wide = f'<div style="width:{width + 40}px">x</div>'
    assert open_page(write(tmp_path, wide), width=width).overflow() == 40
    scrolling = f'<div style="overflow-x:auto">{wide}</div>'
    assert open_page(write(tmp_path, scrolling), width=width).overflow() == 0


def test_a_page_that_forgets_phones_is_seen(open_page: OpenPage, tmp_path: Path) -> None:
    assert open_page(write(tmp_path, "", head=""), width=PHONE).overflow() > 0
