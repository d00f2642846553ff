"""`fedrsclip private list | export | delete`: what clients of this machine keep for themselves."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from client_app.personal_classifier import PersonalClassifier, write_personal
from client_app.private_store import newest
from fedrsclip.private.deletion import delete, what_is_deleted
from fedrsclip.private.kept import Kept, all_kept, find_kept
from fedrsclip_core.errors import ConfigError, PrivateStoreError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.units import size

Echo = Callable[[str], None]

_COLUMNS = ("run", "federation", "client", "rounds", "size", "changed", "CLIP", "classes")


def private(
    arguments: Sequence[str], *, echo: Echo = print, ask: Callable[[str], str] = input
) -> int:
    """Do what the arguments say; return the exit status.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show.
    """
    options = parsers()[0].parse_args(arguments)
    if options.command == "list":
        return _list(echo)
    kept = find_kept(options.run, options.client, options.federation)
    if options.command == "export":
        return _export(kept, options.file, echo)
    return _delete(kept, ask if not options.yes else None, echo)


def _list(echo: Echo) -> int:
    rows = [_row(kept, echo) for kept in all_kept()]
    if not rows:
        echo(f"no client of this machine has private files in {paths.private_root()}")
        return 0
    table = [_COLUMNS, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = zip(row, widths, strict=True)
        echo("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
    return 0


def _row(kept: Kept, echo: Echo) -> tuple[str, ...]:
    try:
        prompt = newest(kept.folder).prompt
        about = (prompt.model, str(len(prompt.class_names)))
    except PrivateStoreError as error:
        echo(f"note: {error}")
        about = ("?", "?")
    stats = list(_stats(kept))
    changed = time.localtime(max((stat.st_mtime for stat in stats), default=0.0))
    return (
        kept.run,
        kept.federation,
        kept.client,
        ", ".join(_rounds(kept)),
        size(sum(stat.st_size for stat in stats)),
        time.strftime("%Y-%m-%d %H:%M", changed),
        *about,
    )


def _stats(kept: Kept) -> Iterator[os.stat_result]:
    for path in kept.files:
        with suppress(FileNotFoundError):  # a round that a run has just dropped
            yield path.stat()


def _rounds(kept: Kept) -> Iterator[str]:
    yield from map(str, kept.rounds)
    if kept.classifier.is_file():
        yield "last evaluation"


def _export(kept: Kept, file: Path, echo: Echo) -> int:
    target = paths.outside_app(paths.place(file, "FILE"), "FILE")
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target} is there already: choose a new name, nothing is overwritten")
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {target.absolute().parent}: create it first")
    classifier = newest(kept.folder)
    write_personal(target, classifier)
    echo(f"{_named(classifier)}: {target} (for its owner only; whoever has it has what is private)")
    echo(f"next: fedrsclip predict {target} IMAGES...")
    return 0


def _named(classifier: PersonalClassifier) -> str:
    prompt = classifier.prompt
    return f"the classifier of {classifier.client} in run {prompt.run}, round {prompt.server_round}"


def _delete(kept: Kept, ask: Callable[[str], str] | None, echo: Echo) -> int:
    what = (
        f"{what_is_deleted(kept)} of {kept.client} in run {kept.run} of federation "
        f"{kept.federation}"
    )
    if ask is not None:
        if not sys.stdin.isatty():
            raise ConfigError("nobody can be asked here: repeat with --yes to delete for good")
        if not _agreed(ask, f"delete {what} for good? There is no other copy. [y/N] "):
            echo("nothing was deleted")
            return 1
    left = delete(kept)
    echo(f"deleted: {what}")
    if left:
        echo(f"left in {kept.folder}, for nobody here has written them: {', '.join(left)}")
    return 0


def _agreed(ask: Callable[[str], str], question: str) -> bool:
    try:
        return ask(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser and, by name, those of the sub-commands."""
    parser = argparse.ArgumentParser(
        prog="fedrsclip private",
        description="What clients of this machine keep for themselves, below FEDRSCLIP_HOME.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    texts = {
        "list": "list the private files of every run and client",
        "export": "write what a client classifies with into one file for its owner, which predict, "
        "map and evaluate take",
        "delete": "delete a client's private files of a run, and what it kept of its last "
        "evaluation",
    }
    made = {
        name: commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        for name, text in texts.items()
    }
    for name in ("export", "delete"):
        made[name].add_argument("run", metavar="RUN", help="the name of a run")
        if name == "export":
            made[name].add_argument("file", metavar="FILE", type=Path, help="a new file")
        made[name].add_argument("--client", metavar="NAME", help="whose, where there are several")
        made[name].add_argument(
            "--federation", metavar="NAME", help="of which federation, where there are several"
        )
    made["delete"].add_argument("--yes", action="store_true", help="do not ask")
    return parser, made
