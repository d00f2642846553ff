"""Writes the page and the pictures of a run or a benchmark into its folder."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from fedrsclip.bench.folder import BenchFolder
from fedrsclip.page.rendering import COPY, render_page
from fedrsclip.report.bench_bytes import MODES, bytes_per_round
from fedrsclip.report.bench_folder import Bench, read_bench
from fedrsclip.report.bench_page import bench_page
from fedrsclip.report.drawing import drawing
from fedrsclip.report.labels import lacking
from fedrsclip.report.panel import NOT_AS_EXPECTED, to_plain_svg, to_png
from fedrsclip.report.reading import Run, read_run
from fedrsclip.report.run_accuracy import over_rounds, partition
from fedrsclip.report.run_page import run_page
from fedrsclip_core.errors import ReportError
from fedrsclip_core.runs import fileio
from fedrsclip_core.runs.run_folder import RunFolder

NAME = "report.html"
PICTURES = {"accuracy.png": over_rounds, "partition.png": partition}
Say = Callable[[str], None]
_TEMPLATES = Path(__file__).resolve().parent / "templates"


def write(folder: Path, *, images: Path | None, say: Say) -> Path:
    """Write the report of a run or a benchmark beside what it is of; see ``write_report``."""
    target = folder / NAME
    if RunFolder(folder).has_begun():
        run = read_run(folder)
        fileio.write_text(target, render(run_page(run, images)))
        _write_pictures(folder, run, say)
    elif BenchFolder(folder).is_there():
        if images is not None:
            raise ReportError("the report of a benchmark shows no images: leave --images away")
        bench = read_bench(folder)
        fileio.write_text(target, render(bench_page(bench)))
        _write_bench_pictures(folder, bench)
    else:
        raise ReportError(
            f"{folder} is the folder of neither a run nor a benchmark: give one of those below "
            "runs or bench in FEDRSCLIP_HOME"
        )
    return target


def draw_pictures(folder: Path, *, say: Say) -> list[Path]:
    """Draw the two pictures of a run into its folder; see ``fedrsclip.report.draw_pictures``."""
    return _write_pictures(folder, read_run(folder), say)


def render(content: dict[str, Any]) -> str:
    """Return the page with its style and its script inside."""
    return render_page(_TEMPLATES / f"{content['kind']}.html", content, [COPY])


def _write_pictures(folder: Path, run: Run, say: Say) -> list[Path]:
    written = []
    with drawing():
        for name, draw in PICTURES.items():
            try:
                drawn = draw(run)
                picture = None if isinstance(drawn, str) else to_png(drawn.canvas, _title(run))
            except NOT_AS_EXPECTED:
                continue  # the page says of which file that is
            if picture is not None:
                fileio.write_bytes(folder / name, picture)
                written.append(folder / name)
    escaped = lacking([*run.class_names, *run.label_counts]) if written else []
    if escaped:
        more = f" and {len(escaped) - 1} more" if len(escaped) > 1 else ""
        say(
            f"no font here has all signs of {escaped[0]!r}{more}: the pictures have escapes for "
            "them; install a font that has them, e.g. Noto Sans CJK, and "
            f"`fedrsclip report {run.name}` draws them again"
        )
    return written


def _write_bench_pictures(folder: Path, bench: Bench) -> None:
    """Write, for each setting, accuracy over the bytes of a round, as PNG and as SVG."""
    settings = dict.fromkeys(str(row["setting"]) for row in bench.rows)
    with drawing():
        for setting, mode in product(settings, MODES):
            try:
                drawn = bytes_per_round(bench, setting, mode)
                if isinstance(drawn, str):
                    continue
                png = to_png(drawn.canvas, f"{bench.name}: {setting}")
                pictures = {"png": png, "svg": to_plain_svg(drawn.canvas)}
            except NOT_AS_EXPECTED:
                continue  # the page says of which file that is
            for suffix, picture in pictures.items():
                fileio.write_bytes(folder / f"bytes-{setting}-{mode}.{suffix}", picture)


def _title(run: Run) -> str:
    method, clients = run.config.get("method"), run.config.get("federation.num_clients")
    return f"{run.name}: {method}, {clients} clients" if run.config else run.name
