"""One client's part of the data: source, split and partition tied together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.schema import PUBLISHED, Config
from fedrsclip_core.data.folders.source import FolderSource
from fedrsclip_core.data.partition import partition
from fedrsclip_core.data.published import published_parts
from fedrsclip_core.data.sources import ImageSource, open_source
from fedrsclip_core.data.splits import (
    Indices,
    Split,
    joined,
    limit_shots,
    make_split,
    split_digest,
)
from fedrsclip_core.errors import DataError
from fedrsclip_core.runs.fileio import sha256_of

_DRAWN_FROM = 3
"""Images of a client's class, at least, if val and test are drawn from them."""


@dataclass(frozen=True, eq=False)
class ClientData:
    """What one client works on.

    Attributes
    ----------
    source : ImageSource
        Images; not all of them need be this client's.
    split : Split
        The client's indices into ``source``.
    class_names : list[str]
        The federation's classes, in order.
    split_digest : str
        Digest of the split that all clients share out; empty for partition ``site``, where a
        client's split is its own business.
    """

    source: ImageSource
    split: Split
    class_names: list[str]
    split_digest: str


def open_client_data(
    config: Config, path: Path | None, *, partition_id: int, num_partitions: int
) -> ClientData:
    """Open one client's images and find its train, val and test part; reads no image.

    Parameters
    ----------
    config : Config
        ``data``, ``partition`` and ``seed`` are read.
    path : Path or None
        The site's data folder.
    partition_id, num_partitions : int
        Which client of how many.

    Raises
    ------
    DataError
        If the images cannot be found, split or shared out.
    """
    if not 0 <= partition_id < num_partitions:
        raise DataError(
            f"partition {partition_id} does not exist: there are {num_partitions}, numbered from 0"
        )
    source = open_images(config, path, partition_id=partition_id)
    if config.partition.name == "site":
        split = split_source(config, source, source.groups)
        return ClientData(source, split, source.class_names, "")
    hand = _dealt(_Deal(config, source, num_partitions))
    return ClientData(source, hand.clients[partition_id], source.class_names, hand.digest)


class _Deal:
    """What is dealt: equal where split and hands are, which is told without a look at each image.

    Parameters
    ----------
    config : Config
        ``data``, ``partition`` and ``seed`` count.
    source : ImageSource
        Its images' numbers count, not the images.
    num_partitions : int
        Clients.
    """

    def __init__(self, config: Config, source: ImageSource, num_partitions: int) -> None:
        self.config, self.source, self.num_partitions = config, source, num_partitions

    def __hash__(self) -> int:
        return hash((self.config.seed, self.num_partitions, len(self.source)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Deal) and (
            self._settings() == other._settings()
            and self._names() == other._names()
            and all(map(_same, self._arrays(), other._arrays()))
        )

    def _settings(self) -> tuple[object, ...]:
        return self.config.data, self.config.partition, self.config.seed, self.num_partitions

    def _names(self) -> tuple[object, ...]:
        return self.source.class_names, self.source.groups

    def _arrays(self) -> tuple[NDArray[Any] | None, ...]:
        source = self.source
        return source.labels, source.given_parts, source.origins, source.clients


def _same(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    """Whether two arrays are equal; those of one source are the same."""
    if one is None or other is None:
        return one is other
    return one is other or np.array_equal(one, other)


@dataclass(frozen=True, eq=False)
class _Dealt:
    """Every client's part, and the digest of the split that was dealt."""

    clients: list[Split]
    digest: str


@lru_cache(maxsize=1)
def _dealt(deal_of: _Deal) -> _Dealt:
    """Split and deal; once for all clients of a simulation that are in this process."""
    config, source = deal_of.config, deal_of.source
    split = split_source(config, source, source.groups)
    clients = deal(config, source, split, deal_of.num_partitions)
    return _Dealt(clients, deal_digest(config, source, split))


def deal_digest(config: Config, source: ImageSource, split: Split) -> str:
    """Return what is equal at all who deal the same images: a digest of the split.

    Of the clients, too, if the data give them.
    """
    digest = split_digest(split, source.labels)
    if config.partition.name != "given" or source.clients is None:
        return digest
    return sha256_of(digest, source.clients.astype("<i8").tobytes())


def open_images(config: Config, path: Path | None, *, partition_id: int) -> ImageSource:
    """Open the images of which a client's are a part.

    Raises
    ------
    DataError
        If they cannot be found.
    """
    return open_source(
        config.data,
        path,
        seed=config.seed,
        partition_id=partition_id,
        own_images=config.partition.name == "site",
        datasets=config.partition.datasets if config.partition.name == "by_dataset" else (),
        by_client=config.partition.name == "given",
    )


def split_source(config: Config, source: ImageSource, groups: Sequence[Sequence[int]]) -> Split:
    """Split a source into train, val and test; several data sets each as if it were alone.

    So a simulation of data sets deals each client the split that a site with this data set has.
    With partition ``given`` the images of each client are split by themselves.

    Parameters
    ----------
    config : Config
        ``data`` and ``seed`` are read.
    source : ImageSource
        The images.
    groups : Sequence[Sequence[int]]
        Near-duplicates, kept in one part within each data set.

    Raises
    ------
    DataError
        If a class has too few images.
    """
    if config.data.split == PUBLISHED:
        return _published(config, source)
    if config.partition.name == "given" and source.clients is not None:
        return _split_by_client(config, source, groups)
    if source.origins is None:
        return _split_of(config, source, groups, np.arange(len(source)), source.given_parts)
    datasets = [np.flatnonzero(source.origins == d) for d in np.unique(source.origins)]
    return _together(
        [_split_of(config, source, groups, members, source.given_parts) for members in datasets]
    )


def _published(config: Config, source: ImageSource) -> Split:
    """Split as others did, whatever the seed; near-duplicates stay where they put them."""
    parts = source.given_parts
    if config.data.split_name is not None and isinstance(source, FolderSource):
        names = map(source.name, range(len(source)))
        parts = published_parts(names, source.root, config.data.split_name)
    if parts is None or not (parts == 2).any():
        raise DataError(
            "data.split is published, but this data set has no test split: use data.split=seeded"
        )
    return _split_of(config, source, (), np.arange(len(source)), parts)


def deal(config: Config, source: ImageSource, split: Split, num_partitions: int) -> list[Split]:
    """Deal a split to clients by ``config.partition``.

    Raises
    ------
    DataError
        If it cannot be dealt.
    """
    num_classes = len(source.class_names)
    return partition(
        source.labels,
        num_classes,
        split,
        config.partition,
        num_partitions,
        config.seed,
        source.origins,
        source.clients,
        source.client_names,
    )


def _split_by_client(config: Config, source: ImageSource, groups: Sequence[Sequence[int]]) -> Split:
    """Split the images of each client by themselves; those of no client keep the given part.

    A client's class with too few images to draw from is for training. A part that the data give
    to anybody is drawn for nobody.
    """
    assert source.clients is not None
    parts = _given_parts(source, groups)
    trained = np.isin(source.labels, source.labels[parts == 0])
    if not trained.all():
        name = source.class_names[int(source.labels[np.argmin(trained)])]
        raise DataError(f"class {name} has no image to train on: add some, or take the class away")
    data = replace(
        config.data,
        shots=None,
        val_fraction=0.0 if (parts == 1).any() else config.data.val_fraction,
        test_fraction=0.0 if (parts == 2).any() else config.data.test_fraction,
    )
    splits = []
    for client in np.unique(source.clients):
        own = source.clients == client
        counts = np.bincount(source.labels[own & (parts == 0)], minlength=len(source.class_names))
        enough = own & (client >= 0) & (counts >= _DRAWN_FROM)[source.labels]
        members = np.flatnonzero(enough)
        splits.append(_split_of(replace(config, data=data), source, groups, members, parts))
        kept = own & ~enough
        splits.append(Split(*(np.flatnonzero(kept & (parts == part)) for part in range(3))))
    return limit_shots(_together(splits), source.labels, config.data.shots, config.seed)


def _given_parts(source: ImageSource, groups: Sequence[Sequence[int]]) -> NDArray[np.int8]:
    """Return the part of each image, of near-duplicates the last one that any of them is in."""
    given = source.given_parts
    parts = np.zeros(len(source), dtype=np.int8) if given is None else given.copy()
    for unit in joined(len(source), groups) if groups else []:
        parts[unit] = parts[unit].max()
    return parts


def _together(splits: Sequence[Split]) -> Split:
    train, val, test = (
        np.sort(np.concatenate([split.parts[name] for split in splits]))
        for name in ("train", "val", "test")
    )
    return Split(train, val, test)


def _split_of(
    config: Config,
    source: ImageSource,
    groups: Sequence[Sequence[int]],
    members: Indices,
    parts: NDArray[np.int8] | None,
) -> Split:
    """Split some of a source's images, given by ascending indices; ``data.shots`` to train on."""
    place = {int(i): k for k, i in enumerate(members)}
    split = make_split(
        source.labels[members],
        len(source.class_names),
        val_fraction=config.data.val_fraction,
        test_fraction=config.data.test_fraction,
        seed=config.seed,
        class_names=source.class_names,
        given_parts=None if parts is None else parts[members],
        groups=[[place[i] for i in group if i in place] for group in groups],
    )
    whole = Split(*(members[part] for part in split.parts.values()))
    return limit_shots(whole, source.labels, config.data.shots, config.seed)
