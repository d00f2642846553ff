"""Which data set is meant."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HubSpec:
    """Which data set: an id on the hub with its revision, or a local path; and what of it.

    Attributes
    ----------
    hub_id, revision : str or None
        On the hub; a revision is a commit, branch or tag.
    path : Path or None
        A local copy, which then counts: a folder, a file, or files by wildcards.
    config : str or None
        Its configuration; ``None``: the only one, or its default.
    image_column, label_column : str or None
        ``None``: to be found.
    splits : tuple[tuple[str, ...], ...]
        Names of the splits for train, val and test; all empty: by their names.
    streaming : bool
        Whether the rows stay where they are, read one after the other.
    """

    hub_id: str | None = None
    revision: str | None = None
    path: Path | None = None
    config: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    splits: tuple[tuple[str, ...], ...] = ((), (), ())
    streaming: bool = False

    @property
    def chosen(self) -> Mapping[int, tuple[str, ...]]:
        """The named splits by part: 0 train, 1 val, 2 test."""
        return dict(enumerate(self.splits))

    def __str__(self) -> str:
        name = str(self.hub_id if self.path is None else self.path)
        return f"data set {name}" + (f" ({self.config})" if self.config else "")
