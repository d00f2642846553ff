"""`fedrsclip predict`: classify images by what a run has learned."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrsclip.predict.listing import STDIN, Item, Unlisted, check_given, items_of
from fedrsclip.predict.out_file import OutFile
from fedrsclip.predict.progress import Watched
from fedrsclip.predict.rows import Csv, Form, JsonLines, Row, Table
from fedrsclip_core.errors import ConfigError, DataError
from fedrsclip_core.runs import paths

if TYPE_CHECKING:
    from fedrsclip.classifier.scene_classifier import SceneClassifier

_INTERRUPTED = 130
_PIPE_CLOSED = 141
"""What a shell says of a program that SIGPIPE has ended."""
_FORMATS = ("csv", "jsonl", "table")


def predict(arguments: Sequence[str]) -> int:
    """Do what the arguments say; return the exit status: 1 if an image could not be read.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show.
    OSError
        If what is written to cannot be.
    """
    options = parser().parse_intermixed_args(arguments)
    out = paths.place(options.out, "--out") if options.out else None
    if out is not None:
        paths.outside_app(out, "--out")
    kind = _kind(options.format, out)
    from fedrsclip.classifier.options import open_classifier, own_reading

    options.images, keys = _apart(options.images)
    check_given(options.images)
    items = items_of(options.images, sys.stdin.buffer, null=options.null)
    first = next(items, None)
    if first is None:
        raise DataError("the list on stdin is empty: give the names of images, one a line")
    classifier = open_classifier(options)
    classifier.reading = own_reading(classifier.reading, keys)
    return _written(classifier, chain([first], items), kind, out, options)


def _apart(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Tell images from the keys that say how they are read."""
    from fedrsclip.classifier.options import READING_KEYS

    images, keys = [], {}
    for word in words:
        key, _, value = word.partition("=")
        if key in READING_KEYS:
            keys[key] = value
        else:
            images.append(word)
    return images, keys


def _kind(wanted: str | None, out: Path | None) -> str:
    """Return the form of the output, which a file's suffix says if no option does."""
    if out is None:
        return wanted or ("table" if sys.stdout.isatty() else "csv")
    kind = wanted or out.suffix.lower().removeprefix(".")
    if kind not in ("csv", "jsonl"):
        raise ConfigError(
            f"--out is {out}: let it end with .csv or .jsonl, or say which by --format"
        )
    return kind


def _written(
    classifier: "SceneClassifier",
    items: Iterator[Item],
    kind: str,
    out: Path | None,
    options: argparse.Namespace,
) -> int:
    top = min(options.top, len(classifier.class_names))
    on_terminal = out is None and sys.stdout.isatty()
    with ExitStack() as stack:
        watched = stack.enter_context(
            Watched(
                shown=sys.stderr.isatty() and not on_terminal,
                count=None if STDIN in options.images else lambda: _count(options.images),
            )
        )
        watched.say(classifier.describe())
        try:
            sink = stack.enter_context(closing(_sink(classifier, kind, out, top)))
            if sink.resumed:
                watched.say(f"resumed: {sink.resumed} images are in {out} already")
            done, unreadable = _classified(
                classifier, items, sink, watched, top, options.batch_size
            )
        except BrokenPipeError:
            # What reads has seen enough; without this Python would complain at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _PIPE_CLOSED
        except KeyboardInterrupt:
            more = f": {out} is whole, and the same command resumes it" if out else ""
            watched.say(f"fedrsclip: interrupted{more}")
            return _INTERRUPTED
        if unreadable:
            watched.say(f"{unreadable} of {done} images could not be read")
        if out:
            watched.say(f"{out}: {done} images")
    return 1 if unreadable else 0


def _classified(
    classifier: "SceneClassifier",
    items: Iterator[Item],
    sink: "_Stdout | OutFile",
    watched: Watched,
    top: int,
    batch_size: int,
) -> tuple[int, int]:
    """Write a row for each item that has none, a batch at a time.

    Return how many rows there are then, and of images that could not be read.
    """
    from fedrsclip.classifier.stream import classified

    def missing() -> Iterator[Item]:
        for item in items:
            if sink.take(item.place if isinstance(item, Unlisted) else item):
                watched.advance(1, before=True)
            else:
                yield item

    found = classified(classifier, missing(), _load, batch_size=batch_size)
    done, unreadable = sink.resumed, sink.unreadable
    while batch := list(islice(found, batch_size)):
        rows = [_row(item, answer, classifier.class_names, top) for item, answer in batch]
        for row in rows:
            if row.error:
                watched.say(f"unreadable: {row.image}: {row.error}")
        sink.write(rows)
        done, unreadable = done + len(rows), unreadable + sum(bool(row.error) for row in rows)
        watched.advance(len(rows))
    return done, unreadable


def _load(item: Item) -> Path:
    if isinstance(item, Unlisted):
        raise DataError(item.why)
    # Not as it was given: a name that begins with ~ is a name here.
    return Path(item).absolute()


def _row(
    item: Item, answer: NDArray[np.float32] | DataError, class_names: Sequence[str], top: int
) -> Row:
    image = item.place if isinstance(item, Unlisted) else item
    if isinstance(answer, DataError):
        return Row(image, error=str(answer).removeprefix(f"{Path(image).absolute()}: "))
    best = np.argsort(-answer, kind="stable")[:top]
    return Row(image, tuple((class_names[c], float(answer[c])) for c in best))


def _sink(
    classifier: "SceneClassifier", kind: str, out: Path | None, top: int
) -> "_Stdout | OutFile":
    if kind == "table":
        return _Stdout(Table(classifier.class_names, top))
    form = Csv(top) if kind == "csv" else JsonLines(top)
    if out is None:
        return _Stdout(form)
    return OutFile(out, form, _about(classifier, top))


def _about(classifier: "SceneClassifier", top: int) -> dict[str, object]:
    return {
        "classifier": classifier.describe(),
        "digest": classifier.digest,
        "class_names": classifier.class_names,
        "untrained": classifier.origin.untrained,
        "top": top,
    }


def _count(given: Sequence[str]) -> int:
    return sum(1 for _ in items_of(given, sys.stdin.buffer))


class _Stdout:
    """Rows on stdout, each batch at once."""

    resumed = unreadable = 0

    def __init__(self, form: Form) -> None:
        self._form = form
        self._write(form.header())

    def take(self, image: str) -> bool:
        return False

    def write(self, rows: list[Row]) -> None:
        self._write("".join(map(self._form.line, rows)))

    def close(self) -> None:
        pass

    def _write(self, text: str) -> None:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    from fedrsclip.classifier.options import add_to

    made = argparse.ArgumentParser(
        prog="fedrsclip predict",
        description="Say the class of each image, by what a run has learned: a table on a "
        "terminal, CSV or JSON lines elsewhere. The exit status is 1 if one could not be read.",
    )
    add_to(made)
    made.add_argument(
        "images",
        nargs="*",
        metavar="IMAGES",
        help="files, folders with all below them, patterns in quotes; - reads names from stdin, "
        "one a line; data.bands=, data.stretch=, data.nodata=: how they are read, if not as the "
        "run's images were",
    )
    made.add_argument(
        "--out",
        metavar="FILE",
        help="FILE.csv or FILE.jsonl; the same command resumes one that was interrupted",
    )
    made.add_argument("--format", choices=_FORMATS, help="of the output")
    made.add_argument(
        "--top", type=_positive, default=1, metavar="K", help="the K most probable classes"
    )
    made.add_argument("-0", "--null", action="store_true", help="names on stdin end with NUL")
    return made


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number
