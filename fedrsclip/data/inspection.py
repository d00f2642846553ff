"""`fedrsclip data check`: a data set on disk against what is known of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedrsclip.data.contact_sheet import TILE, draw_sheet
from fedrsclip.data.layout import Layout, deviations, find_layout
from fedrsclip.data.near_duplicates import near_duplicates, thumbnail
from fedrsclip.data.specs import DatasetSpec
from fedrsclip_core.config.reading import reading_of
from fedrsclip_core.config.schema import Config
from fedrsclip_core.data.federated import split_source
from fedrsclip_core.data.folders.source import FolderSource
from fedrsclip_core.data.splits import joined
from fedrsclip_core.errors import ConfigError, DataError
from fedrsclip_core.printable import printable
from fedrsclip_core.runs.fileio import write_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

_COLUMNS = 10

Echo = Callable[[str], None]


@dataclass
class _Seen:
    """What reading every image once has shown."""

    broken: list[str] = field(default_factory=list)
    groups: list[list[int]] = field(default_factory=list)
    rows: "dict[str, list[Image]]" = field(default_factory=dict)


def inspect(spec: DatasetSpec, config: Config, sheet: Path | None, echo: Echo) -> int:
    """Print a line per finding; return 1 if one of them is a problem.

    Near-duplicates are no problem by themselves: it is said which of them a split would tear.

    Parameters
    ----------
    spec : DatasetSpec
        What should be there.
    config : Config
        ``data`` and ``seed`` are read.
    sheet : Path or None
        Where to write a picture with a row of images per class.
    echo : Callable[[str], None]
        Prints a line.

    Raises
    ------
    ConfigError
        If ``config`` has another data set's classes.
    DataError
        If the data set is not there.
    """
    if config.data.class_names != list(spec.class_names):
        raise ConfigError(f"data.class_names are not those of {spec.name}: leave them out")
    layout = find_layout(spec, Path(str(config.data.path)))
    echo(f"{spec.title} in {layout.root}")
    wrong = deviations(spec, layout)
    for sentence in wrong:
        echo(f"problem  counts: {sentence}")
    if layout.others:
        return 1
    if not wrong:
        echo(f"ok       counts: {len(spec.class_names)} classes x {spec.per_class} images")
    source = _open(spec, config, layout)
    seen = _look(source)
    for sentence in seen.broken:
        echo(f"problem  files: {sentence}")
    if not seen.broken:
        echo(f"ok       files: all {len(source)} can be read")
    for name, why in source.left_out:
        echo(f"note     not read: {printable(name)} {why}")
    _report_groups(config, source, seen.groups, echo)
    if sheet is not None:
        _write_sheet(sheet, seen.rows, echo)
    return 1 if wrong or seen.broken else 0


def _open(spec: DatasetSpec, config: Config, layout: Layout) -> FolderSource:
    aliases = {folder.name: name for name, folder in layout.folders.items()}
    return FolderSource(
        layout.root,
        spec.class_names,
        config.data.near_duplicates,
        aliases,
        reading=reading_of(config.data),
    )


def _look(source: FolderSource) -> _Seen:
    """Decode all images, class by class so that the thumbnails of one fit into memory."""
    seen = _Seen()
    for label, name in enumerate(source.class_names):
        members = np.flatnonzero(source.labels == label)
        shown = set(members[:: max(len(members) // _COLUMNS, 1)][:_COLUMNS].tolist())
        readable: list[int] = []
        thumbnails = []
        for i in members.tolist():
            try:
                image = source.image(i)
            except DataError as error:
                seen.broken.append(f"{source.describe(i)}: {error}")
                continue
            readable.append(i)
            thumbnails.append(thumbnail(image))
            if i in shown:
                seen.rows.setdefault(name, []).append(image.resize((TILE, TILE)))
        if len(readable) > 1:
            found = near_duplicates(np.stack(thumbnails))
            seen.groups += [[readable[k] for k in group] for group in found]
    return seen


def _report_groups(
    config: Config, source: FolderSource, found: Sequence[Sequence[int]], echo: Echo
) -> None:
    listed = source.groups
    together = [set(unit.tolist()) for unit in joined(len(source), listed)]
    unlisted = [group for group in found if not any(set(group) <= unit for unit in together)]
    number, mark = len(found), "note" if unlisted else "ok"
    echo(
        f"{mark:8} near-duplicates: {number} group{'s' if number != 1 else ''} found, "
        f"{number - len(unlisted)} of them in data.near_duplicates, which has {len(listed)}"
    )
    for group in unlisted:
        echo(f"         not in it: [{', '.join(source.name(i) for i in group)}]")
    known = [unit.tolist() for unit in joined(len(source), [*listed, *found]) if len(unit) > 1]
    try:
        alone, kept = (_torn(config, source, known, by) for by in ([], listed))
    except DataError as error:
        echo(f"problem  split: {error}")
        return
    mark = "note" if kept else "ok"
    echo(
        f"{mark:8} split: seed={config.seed} would tear {len(alone)} of {len(known)} groups "
        f"without data.near_duplicates, and tears {len(kept)} with it"
    )
    for word, lines in (("without", alone), ("with", kept)):
        for line in lines:
            echo(f"         torn {word} it: {line}")


def _torn(
    config: Config,
    source: FolderSource,
    groups: Sequence[Sequence[int]],
    by: Sequence[Sequence[int]],
) -> list[str]:
    """Name the groups that cross parts of the split that keeps only ``by`` together."""
    parts = split_source(config, source, by).parts
    part_of = {int(i): name for name, indices in parts.items() for i in indices}
    groups = [[i for i in group if i in part_of] for group in groups]  # data.shots leaves some out
    torn = [group for group in groups if len({part_of[i] for i in group}) > 1]
    return [", ".join(f"{source.name(i)} ({part_of[i]})" for i in group) for group in torn]


def _write_sheet(path: Path, rows: "dict[str, list[Image]]", echo: Echo) -> None:
    picture = BytesIO()
    draw_sheet(rows).save(picture, format="PNG")
    write_bytes(path, picture.getvalue())
    echo(f"picture: {path}")
