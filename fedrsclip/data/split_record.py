"""A split as JSON, by which two people can see that they used the same one."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fedrsclip_core.config.schema import Config
from fedrsclip_core.data.federated import deal, deal_digest, open_images, split_source
from fedrsclip_core.data.sources import ImageSource, readable_hash
from fedrsclip_core.data.splits import Indices, Split
from fedrsclip_core.runs.fileio import sha256_of
from fedrsclip_core.runs.records import SplitPart, SplitRecord

FORMAT = 1
_UNREADABLE = "unreadable"


def split_record(
    config: Config, hashes: Callable[[ImageSource], Sequence[str | None]] | None = None
) -> SplitRecord:
    """Split and deal the images of a configuration.

    Parameters
    ----------
    config : Config
        ``data`` with this site's path, ``partition``, ``seed`` and ``federation.num_clients``.
    hashes : Callable[[ImageSource], Sequence[str or None]] or None
        Gives the images' content hashes, ``None`` for one that cannot be read; by default each
        image is read.

    Returns
    -------
    SplitRecord
        ``digest`` is the ``split`` digest of a run, ``None`` for partition ``site``; ``images``
        is over the content of all image files in index order (of demo scenes, as the first
        client sees them); each part, of all clients together and of each client, has its counts
        per class and the sha256 of its sorted indices as little-endian int64.

    Raises
    ------
    DataError
        If the images cannot be found, split or dealt.
    """
    path = Path(config.data.path) if config.data.path else None
    source = open_images(config, path, partition_id=0)
    split = split_source(config, source, source.groups)
    is_site = config.partition.name == "site"
    clients = [] if is_site else deal(config, source, split, config.federation.num_clients)
    # A run may leave out a few images that cannot be read, too.
    if hashes is None:
        contents: Sequence[str | None] = [readable_hash(source, i) for i in range(len(source))]
    else:
        contents = hashes(source)
    return {
        "format": FORMAT,
        "digest": None if is_site else deal_digest(config, source, split),
        "images": sha256_of(*(content or _UNREADABLE for content in contents)),
        "num_images": len(source),
        "seed": config.seed,
        "val_fraction": config.data.val_fraction,
        "test_fraction": config.data.test_fraction,
        "near_duplicates": config.data.near_duplicates,
        "partition": asdict(config.partition),
        "class_names": source.class_names,
        "parts": _parts(split, source),
        "clients": [_parts(client, source) for client in clients],
    }


def _parts(split: Split, source: ImageSource) -> dict[str, SplitPart]:
    return {name: _part(indices, source) for name, indices in split.parts.items()}


def _part(indices: Indices, source: ImageSource) -> SplitPart:
    counts = np.bincount(source.labels[indices], minlength=len(source.class_names))
    return {
        "count": len(indices),
        "per_class": counts.tolist(),
        "sha256": hashlib.sha256(np.ascontiguousarray(indices, dtype="<i8").tobytes()).hexdigest(),
    }
