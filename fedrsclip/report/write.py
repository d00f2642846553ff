"""Writes the page of a folder."""

import base64
import hashlib
import time
from pathlib import Path
from typing import Any

from fedrsclip.bench.folder import BenchFolder
from fedrsclip_core import __version__
from fedrsclip_core.errors import ReportError
from fedrsclip_core.runs import fileio
from fedrsclip_core.runs.run_folder import RunFolder

NAME = "report.html"
_TEMPLATES = Path(__file__).resolve().parent / "templates"


def write(folder: Path, *, images: Path | None) -> Path:
    """Write the report of a run or a benchmark beside what it is of; see ``write_report``."""
    content = _content(folder, images)
    target = folder / NAME
    fileio.write_text(target, render(content))
    return target


def render(content: dict[str, Any]) -> str:
    """Return the page with its style and its script inside."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_TEMPLATES / "copy.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(f"{content['kind']}.html").render(
        **content,
        style=(_TEMPLATES / "style.css").read_text(encoding="utf-8"),
        script=script,
        script_digest=digest,
        written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        version=__version__,
    )


def _content(folder: Path, images: Path | None) -> dict[str, Any]:
    if RunFolder(folder).has_begun():
        from fedrsclip.report.run_page import run_page

        return run_page(folder, images)
    if BenchFolder(folder).is_there():
        from fedrsclip.report.bench_page import bench_page

        if images is not None:
            raise ReportError("the report of a benchmark shows no images: leave --images away")
        return bench_page(folder)
    raise ReportError(
        f"{folder} is the folder of neither a run nor a benchmark: give one of those below runs "
        "or bench in FEDRSCLIP_HOME"
    )
