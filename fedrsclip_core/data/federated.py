"""One client's part of the data: source, split and partition tied together."""

from dataclasses import dataclass
from pathlib import Path

from fedrsclip_core.data.partition import partition
from fedrsclip_core.data.shots import limit_shots
from fedrsclip_core.data.sources import ImageSource, open_source
from fedrsclip_core.data.splits import Split, make_split, split_digest
from fedrsclip_core.errors import DataError
from fedrsclip_core.schema import Config


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
    data, is_site = config.data, config.partition.name == "site"
    source = open_source(
        data, path, seed=config.seed, partition_id=partition_id, own_images=is_site
    )
    split = make_split(
        source.labels,
        len(source.class_names),
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        seed=config.seed,
        class_names=source.class_names,
        fixed_test=source.fixed_test,
        groups=source.groups,
    )
    split = limit_shots(split, source.labels, data.shots, config.seed)
    if is_site:
        return ClientData(source, split, source.class_names, "")
    clients = partition(
        source.labels,
        len(source.class_names),
        split,
        config.partition,
        num_partitions,
        config.seed,
    )
    digest = split_digest(split, source.labels)
    return ClientData(source, clients[partition_id], source.class_names, digest)
