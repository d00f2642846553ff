"""A HuggingFace data set, from the hub or a local copy, as an image source."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.data.hub.index import HubIndex, HubSpec, find_index
from fedrsclip_core.data.imagery.decoding import decode
from fedrsclip_core.data.names import check_name
from fedrsclip_core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image


class HubSource:
    """Rows of a data set: train first, then further splits by name, ``test`` last.

    Parameters
    ----------
    spec : HubSpec
        Which data set and columns.
    class_names : Sequence[str]
        The federation's classes. Empty: the data set's own, in its order.
    class_aliases : Mapping[str, str]
        Classes that the data set calls otherwise.
    reading : Reading
        How images become RGB.

    Attributes
    ----------
    class_names : list[str]
        The federation's classes.
    labels : NDArray[np.int64]
        ``(N,)`` indices into ``class_names``.
    given_parts : NDArray[np.int8] or None
        ``(N,)``, 2 in the ``test`` split, else 0; ``None`` without one.
    origins : None
        All rows are of one data set.
    groups : list[list[int]]
        Empty: rows have no names to tell near-duplicates by.

    Raises
    ------
    DataError
        If the data set cannot be loaded, lacks a column, is empty, or has images of a class that
        the federation does not know.
    """

    def __init__(
        self,
        spec: HubSpec,
        class_names: Sequence[str] = (),
        class_aliases: Mapping[str, str] | None = None,
        reading: Reading = AS_THEY_ARE,
    ) -> None:
        self._spec = spec
        self._reading = reading
        self._index: HubIndex = find_index(spec)
        aliases = class_aliases or {}
        names = [aliases.get(name, name) for name in self._index.names]
        self.class_names = list(class_names or dict.fromkeys(names))
        own_labels = np.array(self._index.labels, dtype=np.int64)
        if not len(own_labels):
            raise DataError(f"{spec} has no rows")
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
        parts = np.where(np.arange(len(own_labels)) < self._index.test_from, 0, 2).astype(np.int8)
        self.given_parts: NDArray[np.int8] | None = parts if parts.any() else None
        self.origins: NDArray[np.int64] | None = None
        self.groups: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.labels)

    def stat_key(self, i: int) -> str:
        """Identity of the Arrow files and the row's number."""
        return f"data set row|{self._index.version}|{i}"

    def content_hash(self, i: int) -> str:
        """sha256 of the encoded image.

        Raises
        ------
        DataError
            If the row has no image.
        """
        return hashlib.sha256(self.encoded(i)).hexdigest()

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
        return f"row {i} of {self._spec}"

    def encoded(self, i: int) -> bytes:
        """Return the bytes of an image file.

        Raises
        ------
        DataError
            If the row has no image, or its file cannot be read.
        """
        value = self._rows[i][self._spec.image_column]
        if value is None or (value["bytes"] is None and value["path"] is None):
            raise DataError("has no image")
        if value["bytes"] is not None:
            return bytes(value["bytes"])
        try:
            return Path(value["path"]).read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from error

    @cached_property
    def _rows(self) -> Any:
        """Exactly the Arrow files that were indexed, images left encoded."""
        import datasets  # type: ignore[import-untyped]

        parts = [datasets.Dataset.from_file(str(known[0])) for known in self._index.files]
        columns = [part.select_columns([self._spec.image_column]) for part in parts]
        encoded = datasets.Image(decode=False)
        return datasets.concatenate_datasets(
            [part.cast_column(self._spec.image_column, encoded) for part in columns]
        )
