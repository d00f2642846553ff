"""A HuggingFace data set, from the hub or a local copy, as an image source."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.data.hub.index import HubIndex, find_index, roots_of
from fedrsclip_core.data.hub.rows import ArrowRows
from fedrsclip_core.data.hub.spec import HubSpec
from fedrsclip_core.data.hub.split_names import EQUAL, TRAIN, as_listed
from fedrsclip_core.data.hub.stream import StreamedRows
from fedrsclip_core.data.imagery.decoding import decode
from fedrsclip_core.data.names import check_name
from fedrsclip_core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image


class HubSource:
    """Images of a data set: those of train first, then those of val, then those of test.

    Parameters
    ----------
    spec : HubSpec
        Which data set, splits and columns.
    class_names : Sequence[str]
        The federation's classes. Empty: the data set's own, in its order.
    class_aliases : Mapping[str, str]
        Classes that the data set calls otherwise, or has as numbers.
    reading : Reading
        How images become RGB.
    keep_equal : bool
        Keep images of train that val or test has, too: for a copy of the data set, not for a run.

    Attributes
    ----------
    class_names : list[str]
        The federation's classes.
    labels : NDArray[np.int64]
        ``(N,)`` indices into ``class_names``.
    given_parts : NDArray[np.int8] or None
        ``(N,)``: 0 train, 1 val, 2 test; ``None`` if all splits are for training.
    origins : None
        All rows are of one data set.
    groups : list[list[int]]
        Images that are equal, as indices.
    notes : list[str]
        What a person should know of how the data set was read.

    Raises
    ------
    DataError
        If the data set cannot be loaded, lacks a column, is empty, has images of a class that
        the federation does not know, or numbers for classes that nobody names.
    """

    def __init__(
        self,
        spec: HubSpec,
        class_names: Sequence[str] = (),
        class_aliases: Mapping[str, str] | None = None,
        reading: Reading = AS_THEY_ARE,
        *,
        keep_equal: bool = False,
    ) -> None:
        self._spec = spec
        self._reading = reading
        self._index: HubIndex = find_index(spec)
        parts = np.array(self._index.parts, dtype=np.int8)
        if keep_equal:
            parts[parts == EQUAL] = TRAIN
        self._row_of = np.flatnonzero(parts >= 0)
        own_labels = np.array(self._index.labels, dtype=np.int64)[self._row_of]
        if not len(own_labels):
            raise DataError(f"{spec} has no rows")
        self.notes = list(self._index.notes)
        aliases = class_aliases or {}
        used = {self._index.names[c] for c in np.unique(own_labels)}
        names = [aliases.get(name, name) for name in self._index.names]
        if all(name.isdecimal() for name in self._index.names) and used - set(aliases):
            names = self._named_numbers(class_names, aliases, used)
        self.class_names = list(class_names or dict.fromkeys(names))
        for name in names:
            check_name(name, str(spec))
        used = {names[c] for c in np.unique(own_labels)}
        if unknown := sorted(used - set(self.class_names)):
            raise DataError(
                f"the federation has no class {unknown[0]!r}, but {spec} has images of it: take "
                "them out, or add the name to data.class_names at every site"
            )
        number = {name: c for c, name in enumerate(self.class_names)}
        translation = np.array([number.get(name, -1) for name in names])
        self.labels: NDArray[np.int64] = translation[own_labels].astype(np.int64)
        parts = parts[self._row_of]
        self.given_parts: NDArray[np.int8] | None = parts if parts.any() else None
        self.origins: NDArray[np.int64] | None = None
        self.client_names: list[str] = []
        self.clients: NDArray[np.int64] | None = None
        self.left_out: list[tuple[str, str]] = []
        place = {row: i for i, row in enumerate(self._row_of.tolist())}
        self.groups = [[place[row] for row in group] for group in self._index.groups]

    def __len__(self) -> int:
        return len(self.labels)

    def stat_key(self, i: int) -> str:
        """Identity of the Arrow files and the row's number."""
        return f"data set row|{self._index.version}|{self._row_of[i]}"

    def content_hash(self, i: int) -> str:
        """sha256 of the encoded image.

        Raises
        ------
        DataError
            If the row has no image.
        """
        if not self.sequential:
            return hashlib.sha256(self.encoded(i)).hexdigest()
        known: str | None = self._index.hashes[self._row_of[i]]
        if known is None:
            raise DataError("has no image")
        return known

    def image(self, i: int) -> "Image":
        """Decode an image as RGB.

        Raises
        ------
        DataError
            If it is unreadable or truncated.
        """
        return decode(self.encoded(i), self._reading)

    def describe(self, i: int) -> str:
        """Row number, for the site's own log."""
        return f"row {self._row_of[i]} of {self._spec}"

    def encoded(self, i: int) -> bytes:
        """Return the bytes of an image file.

        Raises
        ------
        DataError
            If the row has no image, or its file cannot be read.
        """
        return self._rows.encoded(int(self._row_of[i]))

    @property
    def sequential(self) -> bool:
        """Whether the rows are streamed, so that images are to be asked for in their order."""
        return bool(self._index.streams)

    @cached_property
    def _rows(self) -> ArrowRows | StreamedRows:
        image, roots = self._index.image_column, roots_of(self._spec)
        if self.sequential:
            revision = self._index.commit or self._spec.revision
            pinned = replace(self._spec, revision=revision)
            return StreamedRows(pinned, self._index.streams, image, roots)
        files = [str(known[0]) for known in self._index.files]
        return ArrowRows(files, image, roots)

    def _named_numbers(
        self, class_names: Sequence[str], aliases: Mapping[str, str], used: set[str]
    ) -> list[str]:
        """Return the names of classes that the data set has as numbers, counted from 0.

        Raises
        ------
        DataError
            If there are no names, or fewer than numbers.
        """
        if not class_names:
            raise DataError(
                f"{self._spec} has numbers for classes ({as_listed(sorted(used, key=int))}), but "
                "CLIP needs words: set data.class_names to their names in the order of the numbers"
            )
        numbers = [int(name) for name in used if name.isdecimal() and name not in aliases]
        if max(numbers) >= len(class_names):
            raise DataError(
                f"{self._spec} has {max(numbers)} for a class, but data.class_names has "
                f"{len(class_names)} names, for the numbers from 0 to {len(class_names) - 1}: "
                "complete them, or name each number in data.class_aliases"
            )
        by_number = {str(c): name for c, name in enumerate(class_names)} | dict(aliases)
        said = ", ".join(f"{n} is {by_number[str(n)]}" for n in sorted(numbers))
        self.notes.append(f"classes are numbers, in the order of data.class_names: {said}")
        return [by_number.get(name, name) for name in self._index.names]
