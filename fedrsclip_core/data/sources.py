"""Where one client's images come from."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.reading import AS_THEY_ARE, reading_of
from fedrsclip_core.config.schema import IGNORE, DataConfig
from fedrsclip_core.data.imagery.raster import require_rasterio
from fedrsclip_core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from fedrsclip_core.data.hub.spec import HubSpec


class ImageSource(Protocol):
    """Labelled images that are read one by one.

    Attributes
    ----------
    class_names : list[str]
        The federation's classes, in order.
    labels : NDArray[np.int64]
        ``(N,)`` indices into ``class_names``.
    given_parts : NDArray[np.int8] or None
        ``(N,)``, the part that each image is given for: 0 train, 1 val, 2 test; ``None`` if the
        data come without parts. A part that has no image is drawn from those of train.
    origins : NDArray[np.int64] or None
        ``(N,)`` numbers of the data sets that images are of; ``None``: all are of one.
    client_names : list[str]
        The clients that the data name.
    clients : NDArray[np.int64] or None
        ``(N,)`` indices into ``client_names``, -1 for an image of no client; ``None`` if the data
        name no clients.
    left_out : list[tuple[str, str]]
        What lies among the images and is not read, as name and reason, for the site's own log.
    notes : list[str]
        How the data were understood, a sentence each, for the site's own log.
    """

    class_names: list[str]
    labels: NDArray[np.int64]
    given_parts: NDArray[np.int8] | None
    origins: NDArray[np.int64] | None
    client_names: list[str]
    clients: NDArray[np.int64] | None
    left_out: list[tuple[str, str]]
    notes: list[str]

    @property
    def sequential(self) -> bool:
        """Whether images are read one after the other, so that their order is the cheap one."""

    @property
    def groups(self) -> list[list[int]]:
        """Near-duplicates, as indices; a split keeps them together."""

    def __len__(self) -> int: ...

    def stat_key(self, i: int) -> str:
        """Cheap identity of image ``i``: another one if the image may have changed."""

    def content_hash(self, i: int) -> str:
        """sha256 of what image ``i`` is decoded from; DataError if it cannot be read."""

    def image(self, i: int) -> "Image":
        """Image ``i`` as RGB; DataError if it is unreadable."""

    def describe(self, i: int) -> str:
        """Name of image ``i`` for the site's own log; it never leaves the site."""


def readable_hash(source: ImageSource, i: int) -> str | None:
    """Read image ``i`` and return its content hash, ``None`` if it cannot be read."""
    try:
        return source.content_hash(i)
    except DataError:
        return None


def open_source(
    data: DataConfig,
    path: Path | None,
    *,
    seed: int,
    partition_id: int,
    own_images: bool = False,
    datasets: Sequence[str] = (),
    by_client: bool = False,
) -> ImageSource:
    """Open the images that a configuration names.

    Parameters
    ----------
    data : DataConfig
        ``name`` is ``demo_scenes``, ``folder`` or ``hub``.
    path : Path or None
        The site's data folder; for ``hub`` a local copy instead of ``data.hub_id``.
    seed : int
        Of the demo scenes.
    partition_id : int
        Whose domain shift the demo scenes show.
    own_images : bool
        The client's scenes are nobody else's (partition ``site``), rather than its part of a set
        that all clients share out.
    datasets : Sequence[str]
        Folders below ``path`` that hold a data set each; read for ``folder``.
    by_client : bool
        Folders with class folders in them are clients', whatever they are called; read for
        ``folder``.

    Raises
    ------
    DataError
        If there is nothing usable, or too much is left out.
    """
    reading = reading_of(data)
    if reading != AS_THEY_ARE:
        # Here, for else each image would be remembered as unreadable.
        require_rasterio()
    if data.name == "demo_scenes":
        from fedrsclip_core.data.scenes import SceneSource

        count = data.images_per_class
        first = partition_id * count if own_images else 0
        return SceneSource(data.class_names, count, seed=seed, domain=partition_id, first=first)
    if data.name == "folder":
        from fedrsclip_core.data.folders.source import open_folder

        if path is None:
            raise DataError(
                "no data folder is given: set data.path, or data-path in the node configuration, "
                "or FEDRSCLIP_DATA_PATH"
            )
        source = open_folder(
            path,
            data.class_names,
            data.near_duplicates,
            data.class_aliases,
            datasets,
            reading,
            ignore_others=data.other_classes == IGNORE,
            by_client=by_client,
        )
        check_left_out(source, data.max_unreadable)
        return source
    from fedrsclip_core.data.hub.source import HubSource

    if path is None and data.hub_id is None:
        raise DataError("no data set is given: set data.hub_id, or data.path to a local copy")
    return HubSource(hub_spec(data, path), data.class_names, data.class_aliases, reading)


def check_left_out(source: ImageSource, allowed: float) -> None:
    """Refuse a source of which more is left out than may be unreadable.

    Raises
    ------
    DataError
        Naming some of it.
    """
    lost, total = len(source.left_out), len(source) + len(source.left_out)
    if lost > allowed * total:
        named = "; ".join(f"{name} {why}" for name, why in source.left_out[:3])
        raise DataError(
            f"{lost} of {total} files are not read, more than data.max_unreadable={allowed:g} "
            f"allows: {named}{' ...' if lost > 3 else ''}; convert or repair them, or take them "
            "away"
        )


def hub_spec(data: DataConfig, path: Path | None) -> "HubSpec":
    """Return which data set a configuration with ``data.name=hub`` names."""
    from fedrsclip_core.data.hub.spec import HubSpec

    splits = (data.train_splits, data.val_splits, data.test_splits)
    return HubSpec(
        hub_id=data.hub_id,
        revision=data.hub_revision,
        path=path,
        config=data.hub_config,
        image_column=data.image_column,
        label_column=data.label_column,
        splits=tuple(tuple(names) for names in splits),
        streaming=data.streaming,
    )
