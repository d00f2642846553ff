"""`fedrsclip model convert`."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from fedrsclip.key_values import key_values
from fedrsclip.model.architecture import ACTIVATIONS, ARCHITECTURES
from fedrsclip_core.errors import ConfigError, ModelError
from fedrsclip_core.runs import paths

Echo = Callable[[str], None]

_KEYS = ("out", "arch", "activation", "tokenizer")
_PRESETS = "RemoteCLIP and GeoRSCLIP by the names of their presets"


def model(arguments: Sequence[str], *, echo: Echo = print) -> int:
    """Do what the arguments say; return the exit status.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show.
    """
    options = parsers()[0].parse_args(arguments)
    return _convert(options.source, key_values(options.given, _KEYS), echo)


def _convert(place: str, given: dict[str, str], echo: Echo) -> int:
    from fedrsclip.model.convert import convert

    if "out" not in given:
        raise ConfigError("out is not set: out=<folder> is where the converted CLIP goes")
    act = given.get("activation")
    if act is not None and act not in ACTIVATIONS:
        raise ConfigError(f"activation is {act!r}: it is one of {', '.join(ACTIVATIONS)}")
    out = paths.outside_app(paths.place(given["out"], "out").resolve(), "out")
    tokenizer = given.get("tokenizer")
    made = convert(
        _place(place),
        out,
        arch=given.get("arch"),
        activation=act,
        tokenizer=None if tokenizer is None else paths.place(tokenizer, "tokenizer"),
    )
    echo(f"{out}: {made.arch}, {made.files.dim} numbers a feature")
    echo(f"activation: {made.activation}")
    echo(f"images: {made.images}")
    echo(f"tokenizer: {made.tokenizer}")
    echo(f"digest: {made.files.digest}")
    echo(f"next: model={_label(place)} model.path={out}")
    return 0


def _place(name: str) -> Path:
    """Return a path as given, or download the file of a preset of that name."""
    from fedrsclip_core.config.compose import compose, conf_dir

    path = paths.place(name, "the model")
    if path.exists() or not (conf_dir() / "model" / f"{path.name}.yaml").is_file():
        return path
    preset = compose([f"model={name}"]).model
    if preset.hub_id is None or preset.openclip_file is None:
        raise ConfigError(
            f"model={name} needs no conversion: the hub has it in HuggingFace's form"
            if preset.hub_id
            else f"there is nothing at {name} to convert"
        )
    return _download(preset.hub_id, preset.openclip_file, preset.revision)


def _label(place: str) -> str:
    """Return the preset that was converted, or the one for any folder."""
    from fedrsclip_core.config.compose import conf_dir

    preset = not Path(place).exists() and (conf_dir() / "model" / f"{place}.yaml").is_file()
    return place if preset else "local"


def _download(hub_id: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, file, revision=revision))
    # Whatever carries the files (HTTP, Xet) has errors of its own.
    except Exception as error:
        raise ModelError(
            f"{hub_id} is neither in the HuggingFace cache nor reachable on the hub: where it is, "
            f"`hf download {hub_id} {file} --revision {revision} --local-dir <folder>`, then "
            f"`fedrsclip model convert <folder>/{file} out=<clip>`"
        ) from error


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser and, by name, those of the sub-commands."""
    parser = argparse.ArgumentParser(prog="fedrsclip model", description="CLIPs on disk.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    text = (
        "make a HuggingFace CLIP folder of weights in the form of OpenCLIP, OpenAI, RemoteCLIP or "
        "GeoRSCLIP; no code of a file is run"
    )
    converting = commands.add_parser(
        "convert",
        help=text,
        description=text,
        allow_abbrev=False,
        usage="fedrsclip model convert SOURCE out=DIR [arch=NAME] [activation=gelu|quickgelu] "
        "[tokenizer=DIR]",
    )
    source = f"a file of weights, a folder with one, or {_PRESETS}"
    converting.add_argument("source", metavar="SOURCE", help=source)
    converting.add_argument(
        "given",
        nargs="*",
        metavar="key=value",
        help=f"out: a new folder; arch: {', '.join(ARCHITECTURES)}, each also with -quickgelu, "
        "checked against the weights; activation: where the source does not say it; tokenizer: a "
        "folder with one, where the source has none",
    )
    return parser, {"convert": converting}
