"""`fedrsclip evaluate`: how good a classifier is on labelled images of this machine."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fedrsclip_core.config.overrides import key_of
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import fileio, paths

Echo = Callable[[str], None]

_OUT = "out"
JSON, PAGE = "evaluation.json", "evaluation.html"


def evaluate(arguments: Sequence[str], *, echo: Echo = print) -> int:
    """Evaluate and print, or write what ``out=`` names; return the exit status.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show.
    OSError
        If ``out`` cannot be written.
    """
    options = parser().parse_intermixed_args(arguments)
    overrides = [text for text in options.overrides if key_of(text) != _OUT]
    out = _free_folder([text for text in options.overrides if key_of(text) == _OUT])
    from fedrsclip.classifier.options import open_classifier
    from fedrsclip.evaluate.labelled import open_labelled
    from fedrsclip.evaluate.lines import lines_of
    from fedrsclip.evaluate.measure import evaluate as measured
    from fedrsclip.predict.progress import Watched

    classifier = open_classifier(options)
    labelled = open_labelled(overrides, classifier.class_names, classifier.reading, options.part)
    with Watched(shown=sys.stderr.isatty(), count=lambda: len(labelled.indices)) as watched:
        for note in labelled.source.notes:
            watched.say(note)
        before = 0

        def progress(done: int, _of: int) -> None:
            nonlocal before
            watched.advance(done - before)
            before = done

        found = measured(
            classifier,
            labelled,
            batch_size=options.batch_size,
            on_event=watched.say,
            progress=progress,
        )
    if options.json:
        echo(json.dumps(found.to_json()))
    else:
        for line in lines_of(found):
            echo(line)
    if out is not None:
        from fedrsclip.evaluate.page import render

        with fileio.whole_folder(out) as staged:
            fileio.write_json(staged / JSON, found.to_json())
            fileio.write_text(staged / PAGE, render(found))
        if not options.json:
            echo(f"page: {out / PAGE}")
    return 0


def _free_folder(given: Sequence[str]) -> Path | None:
    """Return the folder that ``out=`` names, which must be free."""
    if not given:
        return None
    value = given[-1].partition("=")[2]
    if not value:
        raise ConfigError("out is empty: out=DIR is a new folder for the page and the figures")
    return paths.free_folder(value, _OUT)


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    from fedrsclip.classifier.options import add_to
    from fedrsclip.evaluate.labelled import ALL, PARTS

    made = argparse.ArgumentParser(
        prog="fedrsclip evaluate",
        description="Say how good a classifier is on labelled images that are here, and whether "
        "what the federation learned is better there than its CLIP alone.",
        usage="fedrsclip evaluate RUN data.path=DIR [data.key=value ...] [out=DIR] [options]",
    )
    add_to(made)
    made.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="data.path=DIR of labelled images, or data=NAME and data.key=value as of a run; "
        f"out=DIR: a new folder for {PAGE} and {JSON}",
    )
    made.add_argument(
        "--part",
        choices=(*PARTS, ALL),
        help="of data that have parts; by default test if there is one, else all",
    )
    made.add_argument("--json", action="store_true", help="print the figures as JSON")
    return made
