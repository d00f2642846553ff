"""Rows of a data set that is too large for the disk, read one after the other and not kept.

The first pass notes the classes and the content hash of each image. The image encoder makes
another: it asks for images in row order, and keeps their features. What is held of the images
themselves is a window of bounded size.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrsclip_core.data.hub import loading
from fedrsclip_core.data.hub.columns import labels_beside, outer_column, pixel_type, values_in
from fedrsclip_core.data.hub.rows import encoded_image
from fedrsclip_core.data.hub.spec import HubSpec
from fedrsclip_core.errors import DataError, RunError

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]

WINDOW_BYTES = 256 * 2**20
"""Of encoded images that are held."""


@dataclass(frozen=True)
class FirstPass:
    """What one pass over a split has shown.

    Attributes
    ----------
    labels : Dataset
        The columns beside the images that say what these are.
    hashes : list[str or None]
        sha256 of each image as stored; ``None`` if a row has none.
    """

    labels: "Dataset"
    hashes: list[str | None]


def first_pass(
    spec: HubSpec, split: Any, image: str, label: str, roots: Sequence[Path]
) -> FirstPass:
    """Read every row of a streamed split once.

    Parameters
    ----------
    spec : HubSpec
        The data set, for error sentences.
    split : IterableDataset
        The split.
    image, label : str
        The columns of image and class.
    roots : Sequence[Path]
        As of :class:`~fedrsclip_core.data.hub.rows.ArrowRows`.

    Raises
    ------
    RunError
        If the rows cannot be read to their end.
    """
    import datasets

    kept = labels_beside(split.features, label)
    beside: dict[str, list[Any]] = {name: [] for name in kept}
    hashes: list[str | None] = []
    for row in _rows(spec, split):
        try:
            data = _encoded(spec, row, split, image, roots)
            hashes.append(hashlib.sha256(data).hexdigest())
        except DataError:
            hashes.append(None)
        for name in kept:
            beside[name].append(row[name])
    features = datasets.Features({name: split.features[name] for name in kept})
    return FirstPass(datasets.Dataset.from_dict(beside, features=features), hashes)


class StreamedRows:
    """Rows of streamed splits, meant to be asked for in ascending order.

    Whoever asks for an earlier row than those in the window has the stream begin again.

    Parameters
    ----------
    spec : HubSpec
        The data set.
    splits : Sequence[str]
        The splits, in row order.
    image : str
        The column with the images.
    roots : Sequence[Path]
        As of :class:`~fedrsclip_core.data.hub.rows.ArrowRows`.
    window_bytes : int
        Of encoded images that are held.
    """

    def __init__(
        self,
        spec: HubSpec,
        splits: Sequence[str],
        image: str,
        roots: Sequence[Path],
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        self._spec = spec
        self._splits = splits
        self._image = image
        self._roots = roots
        self._window_bytes = window_bytes
        self._lock = threading.Lock()
        self._begin()

    def encoded(self, i: int) -> bytes:
        """Return the bytes of an image file.

        Raises
        ------
        DataError
            If the row has no image.
        RunError
            If the rows cannot be read.
        """
        with self._lock:
            if i not in self._window and i < self._next:
                self._begin()
            while i >= self._next:
                self._advance()
            found = self._window[i]
        if isinstance(found, DataError):
            raise found
        return found

    def _begin(self) -> None:
        self._window: OrderedDict[int, bytes | DataError] = OrderedDict()
        self._held = 0
        self._next = 0
        self._stream = self._all_rows()

    def _advance(self) -> None:
        found = next(self._stream, None)
        if found is None:
            self._begin()
            raise RunError(
                f"{self._spec} has fewer rows than before: it has changed while it was read"
            )
        self._window[self._next] = found
        self._held += _size(found)
        self._next += 1
        while self._held > self._window_bytes and len(self._window) > 1:
            self._held -= _size(self._window.popitem(last=False)[1])

    def _all_rows(self) -> Iterator[bytes | DataError]:
        streams = loading.stream(self._spec).splits
        for name in self._splits:
            for row in _rows(self._spec, streams[name]):
                try:
                    yield _encoded(self._spec, row, streams[name], self._image, self._roots)
                except DataError as error:
                    yield error


def _rows(spec: HubSpec, split: Any) -> Iterator[dict[str, Any]]:
    try:
        yield from split
    except Exception as error:  # the library's, the network's and the file formats' own
        raise _broken_off(spec, error) from error


def _broken_off(spec: HubSpec, error: Exception) -> RunError:
    return RunError(
        f"the rows of {spec} cannot be read to their end ({type(error).__name__}): is the "
        "network, or the disk, there?"
    )


def _encoded(
    spec: HubSpec, row: dict[str, Any], split: Any, image: str, roots: Sequence[Path]
) -> bytes:
    names = list(split.features)
    (value,) = values_in([row[outer_column(image, names)]], image, names)
    if isinstance(value, dict) and value.get("bytes") is None and spec.path is None:
        value = {"bytes": _fetched(spec, str(value.get("path"))), "path": value.get("path")}
    return encoded_image(value, pixel_type(split.features, image), roots)


def _fetched(spec: HubSpec, url: str) -> bytes | None:
    """Return a file of the data set on the hub, perhaps of an archive there.

    Raises
    ------
    RunError
        If it cannot be read.
    """
    if not url.rpartition("::")[2].startswith(f"hf://datasets/{spec.hub_id}@"):
        return None
    from datasets.utils.file_utils import xopen  # type: ignore[import-untyped]

    try:
        with xopen(url, "rb") as file:
            return bytes(file.read())
    except Exception as error:  # the network library's own
        raise _broken_off(spec, error) from error


def _size(found: bytes | DataError) -> int:
    return len(found) if isinstance(found, bytes) else 0
