"""The facts of one site: who this client is and where its images, model and device are."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedrsclip_core.config.site_keys import SITE_KEYS, SITE_READING
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths


@dataclass(frozen=True)
class Site:
    """What node configuration and environment say; none of it travels except name and partition.

    Attributes
    ----------
    client_name : str
        Names the private prompt's folder; the same in every run.
    partition_id, num_partitions : int
        This client's place among the federation's.
    data_path, model_path : Path or None
        Image folder and CLIP folder; ``None`` where the configuration needs none.
    device : str or None
        Torch device; ``None``: CUDA where there is one, else the CPU.
    own_reading : tuple of (str, str)
        Keys of ``data`` that say how images are read, of which this site has its own values.
    """

    client_name: str
    partition_id: int
    num_partitions: int
    data_path: Path | None = None
    model_path: Path | None = None
    device: str | None = None
    own_reading: tuple[tuple[str, str], ...] = ()


def read_site(
    node_config: Mapping[str, object],
    *,
    num_clients: int,
    environment: Mapping[str, str] = os.environ,
) -> Site:
    """Read the site's facts: node configuration, then environment, then default.

    Parameters
    ----------
    node_config : Mapping[str, object]
        Flower's node configuration.
    num_clients : int
        The federation's size, where the node configuration has no ``num-partitions``.
    environment : Mapping[str, str]
        Environment variables.

    Raises
    ------
    ConfigError
        If nothing says who this client is, or a value has another type or range.
    """
    partition = partition_id(node_config)
    num_partitions = _count(node_config, "num-partitions")
    if num_partitions is None:
        num_partitions = num_clients
    if partition >= num_partitions:
        raise ConfigError(
            f"partition-id is {partition} but there are {num_partitions} partitions: it counts "
            "from 0"
        )
    data_path, model_path, device = (
        _text(node_config, key.node_config) or environment.get(key.variable) or None
        for key in (SITE_KEYS["data.path"], SITE_KEYS["model.path"], SITE_KEYS["federation.device"])
    )
    return Site(
        client_name=client_name(node_config),
        partition_id=partition,
        num_partitions=num_partitions,
        data_path=paths.place(data_path, "data.path") if data_path else None,
        model_path=paths.place(model_path, "model.path") if model_path else None,
        device=device,
        own_reading=tuple(_own_reading(node_config, environment)),
    )


def _own_reading(
    node_config: Mapping[str, object], environment: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for name, key in SITE_READING.items():
        given = node_config.get(key.node_config)
        # Of one band, or for nodata, Flower makes a number.
        text = str(given) if isinstance(given, int | float) else _text(node_config, key.node_config)
        if value := text or environment.get(key.variable):
            yield name, value


def partition_id(node_config: Mapping[str, object]) -> int:
    """Return this client's place in the federation.

    Raises
    ------
    ConfigError
        If the node configuration does not say it.
    """
    partition = _count(node_config, "partition-id")
    if partition is None:
        raise ConfigError(
            "the node configuration has no partition-id, so this client cannot be told from "
            "others: start the SuperNode with "
            "--node-config 'partition-id=0 num-partitions=3 client-name=\"site1\"'"
        )
    return partition


def client_name(node_config: Mapping[str, object]) -> str:
    """Return ``client-name`` if given, else ``client-<partition-id>``; never the node id.

    Raises
    ------
    ConfigError
        If there is neither, or the name cannot be a folder's.
    """
    name = _text(node_config, "client-name")
    if name is not None:
        return paths.safe_name(name, "client-name")
    partition_id = _count(node_config, "partition-id")
    if partition_id is None:
        raise ConfigError("the node configuration has neither client-name nor partition-id")
    return f"client-{partition_id}"


def name_for_files(node_config: Mapping[str, object]) -> str:
    """Return what this client's logs are called, also where nothing says who it is."""
    try:
        return client_name(node_config)
    except ConfigError:
        return "client-without-name"


def _text(node_config: Mapping[str, object], key: str) -> str | None:
    value = node_config.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f'{key} in the node configuration is not a text: write {key}="..."')
    return value or None


def _count(node_config: Mapping[str, object], key: str) -> int | None:
    value = node_config.get(key)
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise ConfigError(f"{key} in the node configuration is {value!r}: give a whole number >= 0")
    return value
