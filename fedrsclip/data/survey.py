"""`fedrsclip data check PATH`: any folder, list or data set, as a run would see it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedrsclip.data.contact_sheet import TILE, draw_sheet
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.validation import ONE_CLASS
from fedrsclip_core.data.federated import deal, open_images, split_source
from fedrsclip_core.data.folders.source import FolderSource
from fedrsclip_core.data.hub.source import HubSource
from fedrsclip_core.data.imagery.header import Header, read_header
from fedrsclip_core.data.names import words_for
from fedrsclip_core.data.sources import ImageSource
from fedrsclip_core.data.splits import Split
from fedrsclip_core.errors import ConfigError, DataError
from fedrsclip_core.machine import available_cpus
from fedrsclip_core.printable import printable
from fedrsclip_core.runs.fileio import write_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

Echo = Callable[[str], None]

_PARTS = ("train", "val", "test")
_NAMED = 20
"""Files of one sort that are named; of more there is a number."""
_AT_ONCE = 512
_TILES = 10


@dataclass
class _Report:
    """Prints lines; remembers whether one of them was a problem."""

    echo: Echo
    has_problem: bool = False

    def ok(self, text: str) -> None:
        self.echo(f"ok       {printable(text)}")

    def note(self, text: str) -> None:
        self.echo(f"note     {printable(text)}")

    def problem(self, text: str) -> None:
        self.has_problem = True
        self.echo(f"problem  {printable(text)}")

    def more(self, text: str) -> None:
        self.echo(f"         {printable(text)}")

    def table(self, rows: Sequence[Sequence[object]]) -> None:
        """Print the first column to the left, the others to the right."""
        cells = [[str(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            self.more("  ".join([row[0].ljust(widths[0]), *rest]))


@dataclass(frozen=True)
class _Seen:
    """What reading one image has shown."""

    header: Header | None = None
    problem: str = ""
    tile: "Image | None" = None


def survey(config: Config, sheet: Path | None, echo: Echo) -> int:
    """Print what a run with this configuration would find; return 1 if it would refuse.

    Every image is decoded.

    Parameters
    ----------
    config : Config
        ``data`` with the path of a folder or list, or a data set of the hub, ``partition``,
        ``seed`` and ``federation.num_clients``.
    sheet : Path or None
        Where to write a picture with a row of images per class.
    echo : Callable[[str], None]
        Prints a line.
    """
    report = _Report(echo)
    source = _opened(config, report)
    if source is None:
        return 1
    if isinstance(source, FolderSource):
        report.ok(f"layout: {source.layout}")
    words = _words(config, source, report)
    if len(source.class_names) == 1:
        report.problem(f"classes: there is {source.class_names[0]!r} alone: {ONE_CLASS}")
    _report_split(config, source, words, report)
    if isinstance(source, FolderSource):
        if source.ignored:
            report.note(f"other classes, left out: {', '.join(source.ignored)}")
        if source.empty_classes:
            report.note(f"class folders without an image: {', '.join(source.empty_classes)}")
    _report_left_out(source, report)
    tiles = _report_files(config, source, report, shown=sheet is not None)
    if sheet is not None:
        picture = BytesIO()
        draw_sheet(tiles).save(picture, format="PNG")
        write_bytes(sheet, picture.getvalue())
        report.more(f"picture: {sheet}")
    return 1 if report.has_problem else 0


def _opened(config: Config, report: _Report) -> ImageSource | None:
    """Open the images, however much is left out; that is judged with what cannot be read."""
    path = Path(config.data.path) if config.data.path else None
    lenient = replace(config, data=replace(config.data, max_unreadable=1.0))
    try:
        source = open_images(lenient, path, partition_id=0)
    except DataError as error:
        report.problem(f"images: {error}")
        return None
    if not isinstance(source, FolderSource):
        report.ok("layout: rows of a data set")
        for note in source.notes:
            report.note(note)
    return source


def _words(config: Config, source: ImageSource, report: _Report) -> list[str]:
    try:
        return words_for(source.class_names, config.data.class_words)
    except ConfigError as error:
        report.problem(f"classes: {error}")
        return [config.data.class_words.get(name, name) for name in source.class_names]


def _report_split(
    config: Config, source: ImageSource, words: Sequence[str], report: _Report
) -> None:
    """Split and deal, and show the images of each class, part and client."""
    clients: list[Split] = []
    split = None
    try:
        split = split_source(config, source, source.groups)
        if config.partition.name != "site":
            clients = deal(config, source, split, config.federation.num_clients)
    except DataError as error:
        report.problem(f"split: {error}")
    count = f"{len(source)} images in {len(source.class_names)} classes"
    report.ok(f"classes: {count}, {_given(source)}")
    shown = split.parts if split is not None else {"images": np.arange(len(source))}
    rows: list[list[object]] = [["class", "words", *shown]]
    by_part = [
        np.bincount(source.labels[indices], minlength=len(words)) for indices in shown.values()
    ]
    for c, name in enumerate(source.class_names):
        rows.append([name, words[c], *(counts[c] for counts in by_part)])
    report.table(rows)
    if clients:
        report.ok(f"clients: {len(clients)} by partition={config.partition.name}")
        names = source.client_names if config.partition.name == "given" else range(len(clients))
        sizes = [map(len, one.parts.values()) for one in clients]
        rows = [[name, *size] for name, size in zip(names, sizes, strict=True)]
        report.table([["client", *_PARTS], *rows])
    if source.client_names and config.partition.name != "given":
        first, last = source.client_names[0], source.client_names[-1]
        report.note(
            f"the images are those of {len(source.client_names)} clients ({first} to {last}): "
            "partition=given gives each its own"
        )


def _given(source: ImageSource) -> str:
    if source.given_parts is None:
        return "train, val and test are drawn"
    parts = set(np.unique(source.given_parts).tolist())
    given = [name for part, name in enumerate(_PARTS) if part in parts]
    drawn = [name for part, name in enumerate(_PARTS) if part and part not in parts]
    return f"{', '.join(given)} given" + (f", {drawn[0]} drawn of train" if drawn else "")


def _report_left_out(source: ImageSource, report: _Report) -> None:
    by_reason: dict[str, list[str]] = {}
    for name, why in source.left_out:
        by_reason.setdefault(why.partition(", but in line")[0], []).append(name)
    for why, names in by_reason.items():
        number = f"{len(names)} files; each" if len(names) > 1 else "1 file; it"
        report.note(f"not read: {number} {why}")
        _name(names, report)


def _name(names: Sequence[str], report: _Report) -> None:
    for name in names[:_NAMED]:
        report.more(name)
    if len(names) > _NAMED:
        report.more(f"and {len(names) - _NAMED} more")


def _report_files(
    config: Config, source: ImageSource, report: _Report, *, shown: bool
) -> "dict[str, list[Image]]":
    """Decode every image; return small pictures of some of each class."""
    wanted = _some_of_each(source) if shown else set()
    tiles: dict[str, list[Image]] = {}
    kinds: Counter[str] = Counter()
    sides: set[int] = set()
    broken: list[str] = []
    for i, seen in _look(source, wanted):
        if seen.header is not None:
            kinds[_kind(seen.header)] += 1
            sides |= {seen.header.width, seen.header.height}
        if seen.problem:
            broken.append(f"{source.describe(i)}: {seen.problem}")
        if seen.tile is not None:
            tiles.setdefault(source.class_names[source.labels[i]], []).append(seen.tile)
    lost, total = len(broken) + len(source.left_out), len(source) + len(source.left_out)
    allowed = f"data.max_unreadable={config.data.max_unreadable:g}"
    if lost > config.data.max_unreadable * total:
        others = f" and {len(source.left_out)} other files are not read" if source.left_out else ""
        report.problem(
            f"files: {len(broken)} of {len(source)} images cannot be read{others}, more than "
            f"{allowed} allows"
        )
    elif broken:
        report.note(
            f"files: {len(broken)} of {len(source)} images cannot be read, as {allowed} allows"
        )
    else:
        report.ok(f"files: all {len(source)} images can be read")
    _name(broken, report)
    for kind, count in kinds.most_common():
        report.more(f"{count} x {kind}")
    if sides:
        smallest = f"{min(sides)} to " if len(sides) > 1 else ""
        report.more(f"sides of {smallest}{max(sides)} pixels")
    return tiles


def _some_of_each(source: ImageSource) -> set[int]:
    chosen: set[int] = set()
    for label in range(len(source.class_names)):
        members = np.flatnonzero(source.labels == label)
        chosen |= set(members[:: max(len(members) // _TILES, 1)][:_TILES].tolist())
    return chosen


def _look(source: ImageSource, wanted: set[int]) -> Iterator[tuple[int, _Seen]]:
    def seen(i: int) -> _Seen:
        header = None
        try:
            header = read_header(_file(source, i))
            image = source.image(i)
        except DataError as error:
            return _Seen(header, str(error))
        return _Seen(header, tile=image.resize((TILE, TILE)) if i in wanted else None)

    with ThreadPoolExecutor(available_cpus(), thread_name_prefix="images") as pool:
        for first in range(0, len(source), _AT_ONCE):
            members = range(first, min(first + _AT_ONCE, len(source)))
            yield from zip(members, pool.map(seen, members), strict=True)


def _file(source: ImageSource, i: int) -> Path | bytes:
    if isinstance(source, FolderSource):
        return source.path(i)
    assert isinstance(source, HubSource)
    return source.encoded(i)


def _kind(header: Header) -> str:
    numbers = "" if header.numbers.startswith("unsigned") else f" {header.numbers}"
    bands = f"{header.bands} band{'s' if header.bands != 1 else ''}"
    return f"{header.container}, {bands} of {header.bits} bits{numbers}"
