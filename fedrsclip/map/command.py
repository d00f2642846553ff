"""`fedrsclip map`: classify a georeferenced scene and write what is seen."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedrsclip.key_values import key_values
from fedrsclip.map import folder
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.printable import printable

if TYPE_CHECKING:
    from fedrsclip.map.mapping import Job, Mapped

Echo = Callable[[str], None]

_INTERRUPTED = 130
_OWN = ("out", "tile", "overlap")
_LISTED = 5


def map_scene(arguments: Sequence[str], *, echo: Echo = print) -> int:
    """Do what the arguments say; return the exit status: 1 if a part could not be read.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show.
    OSError
        If what is written to cannot be; the same command then resumes.
    """
    options = parser().parse_intermixed_args(arguments)
    from fedrsclip.classifier.options import READING_KEYS, open_classifier, own_reading

    given = key_values(options.given, (*_OWN, *READING_KEYS))
    if "out" not in given:
        raise ConfigError("out is not set: out=<folder> is where the map goes")
    out = folder.checked_out(given["out"])
    from fedrsclip.map.mapping import open_job
    from fedrsclip.map.scene import find_scene
    from fedrsclip.map.settings import OVERLAP

    find_scene(options.scene)
    classifier = open_classifier(options)
    reading = {key: value for key, value in given.items() if key not in _OWN}
    with open_job(
        classifier,
        options.scene,
        tile=given.get("tile"),
        overlap=given.get("overlap", OVERLAP),
        all_probabilities=options.all_probabilities,
        reading=own_reading(classifier.reading, reading),
    ) as job:
        if folder.is_complete(out, job.key):
            echo(f"{out} is complete: it holds this map already")
            return 0
        for line in _before(job):
            echo(line)
        return _made(job, out, options.batch_size, echo)


def _made(job: "Job", out: Path, batch_size: int, echo: Echo) -> int:
    from fedrsclip.map.mapping import make
    from fedrsclip.predict.progress import Watched

    count = job.num_windows
    with Watched(shown=sys.stderr.isatty(), count=lambda: count, unit="windows") as watched:
        done = 0

        def on_windows(windows: int) -> None:
            nonlocal done
            watched.advance(windows - done)
            done = windows

        try:
            mapped = make(job, out, batch_size=batch_size, on_windows=on_windows)
        except KeyboardInterrupt:
            watched.say(f"fedrsclip: interrupted: the same command resumes {out}")
            return _INTERRUPTED
    for line in _after(job, mapped):
        echo(line)
    echo(f"{out / 'map.html'}")
    return _said(job, mapped)


def _before(job: "Job") -> list[str]:
    grid, scene = job.grid, job.scene
    metres = grid.tile * scene.pixel_metres
    crs = scene.ground.crs_name
    return [
        job.classifier.describe(),
        f"{printable(scene.file.name)}: {grid.width} x {grid.height} pixels, "
        f"{crs if len(crs) < 20 else 'a coordinate reference system of its own'}, "
        f"{job.num_windows} windows of {grid.tile} pixels ({metres:.4g} m) every {grid.step}",
    ]


def _after(job: "Job", mapped: "Mapped") -> list[str]:
    """Return the classes by area, and what has none."""
    whole = sum(area.km2 for area in mapped.areas)
    named = zip(mapped.result.class_names, mapped.areas, strict=True)
    rows = [
        (printable(name), area.km2, f"{100 * area.km2 / whole:5.1f} %")
        for name, area in sorted(named, key=lambda one: -one[1].km2)
        if area.cells
    ]
    rows += [
        (name, area.km2, "")
        for name, area in (("(no data)", mapped.no_data), ("(unreadable)", mapped.unreadable))
        if area.cells
    ]
    width = max(len(name) for name, _, _ in rows)
    return [f"{name:{width}} {km2:12.4f} km2  {share}".rstrip() for name, km2, share in rows]


def _said(job: "Job", mapped: "Mapped") -> int:
    """Say on stderr what could not be read or shown; return the exit status."""
    progress, tile = mapped.progress, job.grid.tile
    name, damaged, unshown = (
        job.scene.file.name,
        progress.counts["damaged"],
        progress.counts["unshown"],
    )
    for left, top in progress.damaged[:_LISTED]:
        place = f"columns {left} to {left + tile - 1}, rows {top} to {top + tile - 1}"
        _warn(f"unreadable: {name}: {place}")
    if damaged:
        _warn(f"{damaged} of {job.num_windows} windows could not be read: no data there")
    if unshown:
        _warn(f"{unshown} windows show nothing, the first since {progress.unshown}: no data there")
    return 1 if damaged else 0


def _warn(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    from fedrsclip.classifier.options import add_to

    made = argparse.ArgumentParser(
        prog="fedrsclip map",
        description="Classify a georeferenced scene of any size window by window, by what a run "
        "has learned, and write a page, GeoTIFFs, polygons and areas into out=DIR; the same "
        "command resumes an interrupted map. The exit status is 1 if a part could not be read.",
    )
    add_to(made)
    made.add_argument("scene", metavar="SCENE", help="a GeoTIFF, COG, JPEG 2000 or VRT")
    made.add_argument(
        "given",
        nargs="*",
        metavar="key=value",
        help="out: a new folder; tile: a window's side in pixels (224) or on the ground (120m), by "
        "default what the image tower takes; overlap: the share of a window that the next one also "
        "sees, 0, 0.5 (default), 0.67, 0.75, ...; data.bands, data.stretch, data.nodata: how this "
        "scene is read, if not as the run's images were",
    )
    made.add_argument(
        "--all-probabilities",
        action="store_true",
        help="write a band for each class, not only the top one's probability",
    )
    return made
