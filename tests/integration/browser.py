"""A local HTML file in Debian's Chromium without a window, with all that it says and asks for."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

Scheme = Literal["light", "dark"]
Media = Literal["screen", "print"]

_HEIGHT = 900
_WIDEST_PHONE = 600
_PATIENCE = 120_000  # in Playwright's milliseconds
_INSIDE_THE_FILE = ("data:", "blob:", "about:")


@dataclass
class Visit:
    """An opened page and what has happened on it so far.

    Attributes
    ----------
    page : Page
        Playwright's page.
    url : str
        The address of the file.
    width : int
        The width of the screen in CSS pixels.
    console : list[str]
        Every console message, as ``type: text``.
    errors : list[str]
        Exceptions that no script caught.
    requests : list[str]
        The address of every request, the file's own among them.
    """

    page: "Page"
    url: str
    width: int
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def complaints(self) -> list[str]:
        """Console errors and warnings, and uncaught exceptions."""
        loud = [text for text in self.console if text.startswith(("error:", "warning:"))]
        return loud + self.errors

    @property
    def foreign_requests(self) -> list[str]:
        """Addresses that were asked for and are not in the file itself."""
        return [
            address
            for address in self.requests
            if address.partition("#")[0] != self.url and not address.startswith(_INSIDE_THE_FILE)
        ]

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the screen."""
        return int(self.page.evaluate("document.documentElement.scrollWidth")) - self.width

    def screenshot(self, path: Path) -> Path:
        """Save a picture of the whole page and return its path."""
        self.page.screenshot(path=path, full_page=True)
        return path


OpenPage = Callable[..., Visit]
"""``open_page(file, *, width=1440, scheme="light", media="screen") -> Visit``."""


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """One browser for the tests of a module.

    Playwright keeps an event loop in this thread, which other modules' tests must not find there.
    """
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is missing: apt-get install --no-install-recommends chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make test")
    with api.sync_playwright() as playwright:
        # Chromium does not start as root in its own sandbox; it reads only what a test wrote.
        browser = playwright.chromium.launch(
            executable_path=program, headless=True, chromium_sandbox=False, timeout=_PATIENCE
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: "Browser") -> Iterator[OpenPage]:
    """Open files, each as if for the first time; closed at the end of the test."""
    with ExitStack() as opened:

        def visit(
            file: Path, *, width: int = 1440, scheme: Scheme = "light", media: Media = "screen"
        ) -> Visit:
            return opened.enter_context(_visit(chromium, file, width, scheme, media))

        yield visit


@contextmanager
def _visit(
    browser: "Browser", file: Path, width: int, scheme: Scheme, media: Media
) -> Iterator[Visit]:
    phone = width <= _WIDEST_PHONE
    context = browser.new_context(
        viewport={"width": width, "height": _HEIGHT},
        # A phone takes a page for 980 pixels wide unless the page says otherwise.
        is_mobile=phone,
        has_touch=phone,
        color_scheme=scheme,
        reduced_motion="reduce",
        offline=True,
    )
    try:
        context.set_default_timeout(_PATIENCE)
        page = context.new_page()
        page.emulate_media(media=media)
        visit = Visit(page, file.resolve().as_uri(), width)
        page.on("console", lambda message: visit.console.append(_said(message)))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("websocket", lambda socket: visit.requests.append(socket.url))
        page.goto(visit.url)
        yield visit
    finally:
        context.close()


def _said(message: "ConsoleMessage") -> str:
    return f"{message.type}: {message.text}"
