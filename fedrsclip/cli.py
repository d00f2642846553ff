"""The ``fedrsclip`` command."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from fedrsclip_core import __version__
from fedrsclip_core.errors import FedRSCLIPError
from fedrsclip_core.printable import printable_lines

_INTERRUPTED = 130
_ALL_IMAGES = "--images"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, do it, return the exit status."""
    parser, _ = _parsers()
    options = parser.parse_args(arguments)
    try:
        flags = [_ALL_IMAGES] if getattr(options, "images", False) else []
        return _COMMANDS[options.command]([*options.overrides, *flags])
    except (FedRSCLIPError, OSError) as error:
        print(f"fedrsclip: {printable_lines(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fedrsclip: interrupted, everything was stopped", file=sys.stderr)
        return _INTERRUPTED


def command() -> NoReturn:
    """Be the process of the command."""
    status = main()
    if status == _INTERRUPTED:
        # A second Ctrl-C would hit Python where it ends, and change the exit status.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def _run(overrides: Sequence[str]) -> int:
    from fedrsclip.run.launch import run

    _end_by_signals()
    return run(overrides, echo=_say)


def _submit(arguments: Sequence[str]) -> int:
    from fedrsclip.run.submit import submit

    _end_by_signals()
    return submit(arguments, echo=_say)


def _bench(arguments: Sequence[str]) -> int:
    from fedrsclip.bench.command import bench

    _end_by_signals()
    return bench(arguments, echo=_say)


def _config(overrides: Sequence[str]) -> int:
    from fedrsclip.run.own_tuning import own_overrides
    from fedrsclip_core.config.compose import compose, to_yaml
    from fedrsclip_core.runs import paths

    own = own_overrides(overrides, paths.tuned_file())
    if own:
        print(f"# {' '.join(own)}: from {paths.tuned_file()}")
    print(to_yaml(compose([*own, *overrides], given=overrides), site_keys=True), end="")
    return 0


def _check(overrides: Sequence[str]) -> int:
    from fedrsclip.check import check

    given = [text for text in overrides if text != _ALL_IMAGES]
    return check(given, images=_ALL_IMAGES in overrides, echo=_say)


def _clock(overrides: Sequence[str]) -> int:
    from fedrsclip.deploy.clock import clock

    return clock(echo=_say)


def _watch(arguments: Sequence[str]) -> int:
    from fedrsclip.watch.command import watch

    _end_by_signals()
    return watch(arguments, echo=_say)


def _report(arguments: Sequence[str]) -> int:
    from fedrsclip.report.command import report

    return report(arguments, echo=_say)


def _map(arguments: Sequence[str]) -> int:
    from fedrsclip.map.command import map_scene

    _end_by_signals()
    return map_scene(arguments, echo=_say)


def _predict(arguments: Sequence[str]) -> int:
    from fedrsclip.predict.command import predict

    _end_by_signals()
    return predict(arguments)


def _evaluate(arguments: Sequence[str]) -> int:
    from fedrsclip.evaluate.command import evaluate

    _end_by_signals()
    return evaluate(arguments, echo=_say)


def _publish(arguments: Sequence[str]) -> int:
    from fedrsclip.publish.command import publish

    _end_by_signals()
    return publish(arguments, echo=_say)


def _data(arguments: Sequence[str]) -> int:
    from fedrsclip.data.command import data

    return data(arguments, echo=_say)


def _model(arguments: Sequence[str]) -> int:
    from fedrsclip.model.command import model

    _end_by_signals()
    return model(arguments, echo=_say)


def _deploy(arguments: Sequence[str]) -> int:
    from fedrsclip.deploy.command import deploy

    return deploy(arguments, echo=_say)


def _site(arguments: Sequence[str]) -> int:
    from fedrsclip.site.command import site

    return site(arguments, echo=_say)


def _private(arguments: Sequence[str]) -> int:
    from fedrsclip.private.command import private

    return private(arguments, echo=_say)


def _say(line: str) -> None:
    try:
        print(printable_lines(line), flush=True)
    except BrokenPipeError:  # nobody reads any more, as after `| head`: the same as a Ctrl-C
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise KeyboardInterrupt from None


def _end_by_signals() -> None:
    """Let a `kill` end a command as Ctrl-C does: nothing is half written or left running."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command and sub-command, by its words after ``fedrsclip``."""
    from fedrsclip.data.command import parsers as data_parsers
    from fedrsclip.evaluate.command import parser as evaluate_parser
    from fedrsclip.map.command import parser as map_parser
    from fedrsclip.model.command import parsers as model_parsers
    from fedrsclip.predict.command import parser as predict_parser
    from fedrsclip.private.command import parsers as private_parsers
    from fedrsclip.publish.command import parser as publish_parser
    from fedrsclip.report.command import parser as report_parser
    from fedrsclip.watch.command import parser as watch_parser

    _, commands = _parsers()
    rooms = {"data": data_parsers, "model": model_parsers, "private": private_parsers}
    inner = {f"{room} {name}": p for room, own in rooms.items() for name, p in own()[1].items()}
    own = {
        "evaluate": evaluate_parser(),
        "map": map_parser(),
        "predict": predict_parser(),
        "publish": publish_parser(),
        "report": report_parser(),
        "watch": watch_parser(),
    }
    found = {**commands, **own, **inner}
    return {name: found[name] for name in sorted(found) if name not in rooms}


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser and, by name, those of the commands."""
    parser = argparse.ArgumentParser(
        prog="fedrsclip",
        description="Federated vision-language learning on remote-sensing imagery.",
    )
    parser.add_argument("--version", action="version", version=f"fedrsclip {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    by_name = {}
    for name, text in _HELP.items():
        if name in _OWN_PARSERS:
            # Here nothing that begins with - is an option.
            by_name[name] = commands.add_parser(name, help=text, add_help=False, prefix_chars="+")
            by_name[name].add_argument("overrides", nargs="*")
            continue
        command = by_name[name] = commands.add_parser(name, help=text, description=text)
        if name == "clock":
            command.set_defaults(overrides=[])
            continue
        if name == "check":
            command.add_argument(
                _ALL_IMAGES, action="store_true", help="decode every image, not only some"
            )
        explained = _ARGUMENTS.get(name, _OVERRIDES)
        command.add_argument("overrides", nargs="*", metavar="key=value", help=explained)
    return parser, by_name


_OVERRIDES = "Hydra overrides, e.g. experiment=uc_merced data.path=... prompt.n_ctx=8"
_ARGUMENTS = {"submit": "the options above, and Hydra overrides"}
_OWN_PARSERS = (
    "data",
    "evaluate",
    "map",
    "model",
    "predict",
    "private",
    "publish",
    "report",
    "watch",
)
_COMMANDS = {
    "run": _run,
    "submit": _submit,
    "bench": _bench,
    "config": _config,
    "check": _check,
    "clock": _clock,
    "watch": _watch,
    "report": _report,
    "predict": _predict,
    "evaluate": _evaluate,
    "map": _map,
    "publish": _publish,
    "data": _data,
    "model": _model,
    "deploy": _deploy,
    "site": _site,
    "private": _private,
}
_HELP = {
    "run": "simulate a federation on this machine and print its results; resume=RUN resumes an "
    "interrupted one",
    "submit": "submit a run to a SuperLink that is there and follow it to its end "
    "(connection=NAME of Flower's configuration, or address=HOST:PORT with root_certificates=FILE "
    "or insecure=true; restarts=N resumes it when it fails; patience=SECONDS; overrides of the "
    "run); attach=ID follows one, stop=ID stops one",
    "bench": "run a grid of methods, settings and seeds and make its tables (bench=NAME, "
    "bench.key=value, overrides of every cell); the same command resumes it",
    "config": "print the composed configuration",
    "check": "say what is wrong with this machine or configuration, and what a run would refuse; "
    "--images decodes every image",
    "clock": "say at a site whether its clock is near enough to the server's "
    "(FEDRSCLIP_SERVER=host:port and, with TLS, FEDRSCLIP_CA=file in the environment)",
    "watch": "show a run or benchmark until it ends, or as it is now: "
    "watch [RUN] [--once] [--superlink NAME]",
    "report": "write a page about a run or a benchmark that opens without a network: "
    "report RUN_OR_BENCH_DIR [--open] [--images PATH]",
    "predict": "classify images by what a run has learned: predict RUN IMAGES... [--out FILE], "
    "with --help",
    "evaluate": "say how good a classifier is on labelled images that are here, and whether it is "
    "better there than its CLIP alone: evaluate RUN data.path=DIR [out=DIR], with --help",
    "map": "classify a georeferenced scene of any size and write a page, GeoTIFFs, polygons and "
    "areas: map RUN SCENE out=DIR [tile=PX] [overlap=0.5], with --help",
    "publish": "write what a completed run shares as a folder that a model hub takes: publish RUN "
    "out=DIR [name=owner/name] [license=ID], with --help",
    "data": "list the known data sets, prepare or check one on disk, record a split, or write the "
    "demo's images or a scene of them: data list | prepare | check | split | images | mosaic, each "
    "with --help",
    "model": "make a HuggingFace CLIP of one in the form of OpenCLIP, OpenAI, RemoteCLIP or "
    "GeoRSCLIP: model convert SOURCE out=DIR, with --help",
    "deploy": "render what each host of a federation needs into out=DIR; "
    "`deploy certs out=DIR [days=N] [rotate=NAME]` makes keys and certificates; `deploy register "
    "keys=DIR` with submit's options for the SuperLink registers the clients' keys "
    "(clients=A,B,C in the order of partitions; keep=true: until it is ended; who is who goes to "
    "the file FEDRSCLIP_REGISTRY); `deploy nodes connection=NAME` lists them by name; "
    "`deploy start [needs=FILE ...] NAME=PROGRAM ...` waits for what a server needs and keeps its "
    "programs running",
    "site": "what a site's start script does: `site start NAME=PROGRAM ...` waits for the server "
    "(FEDRSCLIP_SERVER and FEDRSCLIP_CA in the environment) and keeps the programs running; "
    "`site log` shows what the site answered, a line of JSON per message if not on a terminal, and "
    "fails if that was changed",
    "private": "what clients of this machine keep for themselves: private list | export RUN FILE | "
    "delete RUN, each with --help",
}

if __name__ == "__main__":
    command()
