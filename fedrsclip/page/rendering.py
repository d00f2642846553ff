"""One HTML file from a template, with its style and its scripts inside."""

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedrsclip_core import __version__

TEMPLATES = Path(__file__).resolve().parent / "templates"
COPY = TEMPLATES / "copy.js"
"""Serves the buttons that copy a text."""


def render_page(template: Path, content: Mapping[str, Any], scripts: Sequence[Path] = ()) -> str:
    """Return the page of a template that extends ``base.html``.

    No other script than these runs in it, and it asks for nothing that is not inside.

    Parameters
    ----------
    template : Path
        What it includes lies beside it or in ``TEMPLATES``, as may ``<name>.css``, which follows
        the style of all pages.
    content : Mapping[str, Any]
        What the template shows; ``title`` at least. Everything is escaped.
    scripts : Sequence[Path]
        JavaScript, run in this order.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    styles = [TEMPLATES / "style.css", template.with_suffix(".css")]
    script = "".join(_text(path) for path in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template.name).render(
        **content,
        style="".join(_text(path) for path in styles if path.exists()),
        script=script,
        script_digest=digest,
        written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        version=__version__,
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
