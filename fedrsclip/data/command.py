"""`fedrsclip data list | prepare | check | split | images | mosaic`."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrsclip.data.specs import SPEC_NAMES, find_spec
from fedrsclip.key_values import key_values
from fedrsclip_core.errors import ConfigError, DataError
from fedrsclip_core.runs import paths

Echo = Callable[[str], None]

_HUB = "hub"
_OVERRIDES = "[key=value ...]"
_COUNTED = {"images": ("images", 40, 100_000), "mosaic": ("tiles", 24, 400)}
"""What is counted, how many there are by default and at most."""


@dataclass(frozen=True)
class _Demo:
    """What is written of the demo's scenes: where, how much, of which seed."""

    out: Path
    amount: int
    seed: int


def data(arguments: Sequence[str], *, echo: Echo = print) -> int:
    """Do what the arguments say; return the exit status.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show.
    """
    parser, _ = parsers()
    # Options and overrides may come in any order, which argparse's own positionals do not allow.
    options, overrides = parser.parse_known_args(arguments)
    stray = [word for word in overrides if word.startswith("-")]
    if stray or (overrides and options.command in ("list", "prepare")):
        parser.error(f"{(stray or overrides)[0]!r} is not understood")
    if options.command == "list":
        return _list(options.path, echo)
    if options.command in ("images", "mosaic"):
        write = _images if options.command == "images" else _mosaic
        return write(_given(overrides, _COUNTED[options.command]), echo)
    if options.command == "prepare":
        return _prepare(options.name, options.source, options.target, echo)
    if options.command == "check":
        return _check(options.name, options.path, options.sheet, overrides, echo)
    return _split(options.out, overrides, echo)


def _list(path: Path | None, echo: Echo) -> int:
    rows: list[tuple[str, ...]] = [
        ("name", "data set", "classes", "per class", "images", "licence")
    ]
    for name in SPEC_NAMES:
        spec = find_spec(name)
        counts = len(spec.class_names), spec.per_class, spec.num_images
        rows.append((name, spec.title, *(str(count) for count in counts), spec.licence))
    if path is not None:
        path = paths.place(path, "--path")
        if not path.is_dir():
            raise ConfigError(f"there is no folder {path}: correct --path")
        rows = [(row[0], _found(row[0], path), *row[1:]) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = zip(row, widths, strict=True)
        echo("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
    return 0


def _found(name: str, path: Path) -> str:
    from fedrsclip.data.layout import deviations, find_layout

    if name not in SPEC_NAMES:
        return "found"
    spec = find_spec(name)
    try:
        layout = find_layout(spec, path)
    except DataError:
        return "no"
    return "incomplete" if deviations(spec, layout) else str(layout.root.relative_to(path))


def _prepare(name: str, source: str, target: Path, echo: Echo) -> int:
    from fedrsclip.data.prepare import prepare_folder, prepare_hub

    spec = find_spec(name)
    target = paths.outside_app(paths.place(target, "--to").resolve(), "--to")
    if source == _HUB:
        commit = prepare_hub(spec, target)
        how = f"from {spec.hub_id}, commit {commit or 'unknown'}"
    else:
        copied = prepare_folder(spec, paths.place(source, "--from"), target)
        how = f"{copied} copied, {spec.num_images - copied} linked"
    echo(f"{spec.num_images} images in {len(spec.class_names)} classes in {target} ({how})")
    echo(f"licence: {spec.licence}")
    echo(f"cite: {spec.cite}")
    echo(f"next: fedrsclip data check {name} --path {target}")
    return 0


def _check(
    name: str, path: Path | None, sheet: Path | None, overrides: Sequence[str], echo: Echo
) -> int:
    from fedrsclip.data.inspection import inspect
    from fedrsclip.data.survey import survey
    from fedrsclip.run.preflight import compose_data, refresh_data
    from fedrsclip_core.data.hub.loading import is_data_set

    if sheet is not None:
        paths.outside_app(paths.place(sheet, "--sheet"), "--sheet")
    if name == _HUB:
        config = compose_data([f"data={_HUB}", *overrides])
        refresh_data(config)
        return survey(config, sheet, echo)
    if name not in SPEC_NAMES:
        place = _existing(name, path)
        kind = _HUB if is_data_set(place) else "folder"
        return survey(compose_data([f"data={kind}", f"data.path={place}", *overrides]), sheet, echo)
    spec = find_spec(name)
    given = [] if path is None else [f"data.path={path}"]
    config = compose_data([f"data={name}", *given, *overrides])
    return inspect(spec, config, sheet, echo)


def _existing(name: str, path: Path | None) -> Path:
    """Return the folder or list that is given in place of a data set's name."""
    place = paths.place(name, "PATH")
    if path is not None or not place.exists():
        raise ConfigError(
            f"there is no data set {name!r}"
            + ("" if path is not None else " and no such folder or list of images")
            + f": choose one of {', '.join(SPEC_NAMES)}, or give a path in its place"
        )
    return place


def _split(out: Path | None, overrides: Sequence[str], echo: Echo) -> int:
    from fedrsclip.data.split_record import split_record
    from fedrsclip.run.preflight import compose_data, refresh_data
    from fedrsclip_core.runs.fileio import write_json

    if out is not None:
        paths.outside_app(paths.place(out, "--out"), "--out")
    config = compose_data(overrides)
    refresh_data(config)
    record = split_record(config)
    if out is None:
        echo(json.dumps(record, indent=2))
    else:
        write_json(out, record)
        echo(f"split {record['digest']} in {out}")
    return 0


def _images(demo: _Demo, echo: Echo) -> int:
    from fedrsclip.demo.image_folder import write_images

    written = write_images(demo.out, demo.amount, demo.seed)
    echo(f"{written} generated images of 64 x 64 pixels in class folders in {demo.out}")
    echo(f"next: fedrsclip data check {demo.out}")
    return 0


def _mosaic(demo: _Demo, echo: Echo) -> int:
    from fedrsclip.demo.mosaic import CRS, write_mosaic

    if demo.out.suffix.lower() not in (".tif", ".tiff"):
        raise ConfigError(f"out is {demo.out}: the name of a GeoTIFF ends in .tif")
    truth = write_mosaic(demo.out, demo.amount, demo.seed)
    echo(
        f"{demo.out}: a generated scene of {demo.amount} x {demo.amount} tiles of 64 pixels, {CRS}"
    )
    echo(f"{truth}: the class of each tile")
    echo(f"next: fedrsclip map RUN {demo.out} out=DIR")
    return 0


def _given(words: Sequence[str], counted: tuple[str, int, int]) -> _Demo:
    """Read ``out=PLACE``, how many, and ``seed=N``."""
    name, count, most = counted
    found = {name: str(count), "seed": "0", **key_values(words, ("out", name, "seed"))}
    if "out" not in found:
        raise ConfigError("out is not set: give out=PLACE, which is not there yet")
    numbers = {}
    for key, least, largest in ((name, 1, most), ("seed", 0, 2**63 - 1)):
        value = found[key]
        if not (value.isascii() and value.isdigit()) or not least <= int(value) <= largest:
            raise ConfigError(f"{key} is {value!r}: give a whole number from {least} to {largest}")
        numbers[key] = int(value)
    out = paths.outside_app(paths.place(found["out"], "out").absolute(), "out")
    return _Demo(out, numbers[name], numbers["seed"])


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser and, by name, those of the sub-commands."""
    parser = argparse.ArgumentParser(prog="fedrsclip data", description="Data sets on disk.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    text = "list the known data sets"
    listing = commands.add_parser("list", help=text, description=text, allow_abbrev=False)
    listing.add_argument("--path", type=Path, help="say which of them are below this folder")

    text = "make DIR/<class>/<file> of a data set"
    prepare = commands.add_parser("prepare", help=text, description=text, allow_abbrev=False)
    prepare.add_argument("name", help=", ".join(SPEC_NAMES))
    source = f"the unpacked archive, or {_HUB}: a copy on the HuggingFace hub"
    prepare.add_argument("--from", dest="source", required=True, metavar="PATH", help=source)
    target = "new or empty folder; files are linked where possible"
    prepare.add_argument(
        "--to", dest="target", type=Path, required=True, metavar="DIR", help=target
    )

    text = (
        "read all images of a folder or list and say what a run would see, or compare a known data "
        "set with what is known of it"
    )
    check = commands.add_parser(
        "check",
        help=text,
        description=text,
        allow_abbrev=False,
        usage=f"fedrsclip data check PATH|NAME [--path DIR] [--sheet FILE] {_OVERRIDES}",
    )
    known = ", ".join(SPEC_NAMES)
    check.add_argument(
        "name", metavar="PATH|NAME", help=f"a folder, a CSV list, a data set, hub, or {known}"
    )
    check.add_argument(
        "--path", type=Path, help="folder of the named data set; the same as data.path=DIR"
    )
    check.add_argument("--sheet", type=Path, help="PNG to write, with a row of images per class")

    text = "record the split of a configuration: counts and digests per part and client"
    split = commands.add_parser(
        "split",
        help=text,
        description=text,
        allow_abbrev=False,
        usage=f"fedrsclip data split [--out FILE] {_OVERRIDES}",
    )
    split.add_argument("--out", type=Path, help="JSON to write instead of printing it")

    text = "write the demo's generated scenes as images in class folders, to try things out with"
    images = commands.add_parser(
        "images",
        help=text,
        description=text,
        allow_abbrev=False,
        usage="fedrsclip data images out=DIR [images=40] [seed=0]",
    )
    text = (
        "write a georeferenced scene of the demo's classes, with the class of each tile beside it "
        "in <name>_truth.tif; needs rasterio"
    )
    mosaic = commands.add_parser(
        "mosaic",
        help=text,
        description=text,
        allow_abbrev=False,
        usage="fedrsclip data mosaic out=FILE.tif [tiles=24] [seed=0]",
    )
    return parser, {
        "list": listing,
        "prepare": prepare,
        "check": check,
        "split": split,
        "images": images,
        "mosaic": mosaic,
    }
