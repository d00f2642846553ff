"""`fedrsclip report`: write the page of a run or a benchmark."""

import argparse
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

from fedrsclip.report import write_report
from fedrsclip_core.errors import ReportError
from fedrsclip_core.runs import paths


def report(arguments: Sequence[str], *, echo: Callable[[str], None] = print) -> int:
    """Write ``report.html`` into a run's or a benchmark's folder and say where it is.

    Raises
    ------
    FedRSCLIPError
        If there is no such folder, or it is neither, or there are no such images.
    """
    options = parser().parse_args(arguments)
    page = write_report(_folder(options.folder), images=options.images, say=echo)
    echo(f"report: {page}")
    if options.open and not webbrowser.open(page.as_uri()):
        raise ReportError(f"no browser could be started here: open {page} yourself")
    return 0


def _folder(given: str) -> Path:
    """Return the folder that a path, or the name of a run or of a benchmark, stands for."""
    path = paths.place(given, "the folder")
    for folder in (path, paths.runs_dir() / given, paths.bench_dir(given)):
        if folder.is_dir():
            return folder.resolve()
    raise ReportError(
        f"there is no folder {given}, nor a run or benchmark of that name in {paths.home()}"
    )


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = argparse.ArgumentParser(
        prog="fedrsclip report",
        description="Write a page about a run or a benchmark, which opens without a network.",
    )
    made.add_argument(
        "folder", metavar="RUN_OR_BENCH_DIR", help="a folder, or the name of a run or benchmark"
    )
    made.add_argument("--open", action="store_true", help="open the page in the browser")
    made.add_argument(
        "--images",
        type=Path,
        metavar="PATH",
        help="images of this machine, PATH/<class>/<image>: small copies of a few are put into "
        "the page, beside the classes that are confused; without it no image ever is",
    )
    return made
