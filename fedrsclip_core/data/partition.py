"""Deal one data set to the clients of a simulation.

A scheme gives each client a weight for each class. Images of a class are dealt by these weights
in train, and in val and test in proportion to what train dealt: a client is never asked about a
class that it has no training image of.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.schema import PartitionConfig
from fedrsclip_core.data.splits import Indices, Split
from fedrsclip_core.errors import DataError

_MAX_DRAWS = 1000
_Weights = NDArray[np.float64]


def partition(
    labels: Indices,
    num_classes: int,
    split: Split,
    config: PartitionConfig,
    num_partitions: int,
    seed: int,
    origins: Indices | None = None,
    clients: Indices | None = None,
    client_names: Sequence[str] = (),
) -> list[Split]:
    """Deal every image of every part to exactly one client; a pure function of its arguments.

    Parameters
    ----------
    labels : NDArray[np.int64]
        ``(N,)`` class indices.
    num_classes : int
        Classes of the federation.
    split : Split
        The parts to deal.
    config : PartitionConfig
        ``uniform``: each class evenly over all clients. ``heterogeneous``: each client holds
        ``num_classes_per_partition`` classes. ``dirichlet``: class proportions drawn from
        Dir(alpha). ``by_dataset``: client k has images of data set k modulo their number, and
        clients of one data set share it out uniformly. ``given``: client k has the images that
        the data give it; those of no client are dealt as val and test are in other schemes.
        ``site``: nothing is dealt, the whole split is this client's.
    num_partitions : int
        Clients.
    seed : int
        Of the draw.
    origins : NDArray[np.int64] or None
        ``(N,)`` data sets that images are of; needed by ``by_dataset``.
    clients : NDArray[np.int64] or None
        ``(N,)`` indices into ``client_names``, -1 for none; needed by ``given``.
    client_names : Sequence[str]
        The clients that the data name, in order.

    Returns
    -------
    list[Split]
        One per client (``site``: one).

    Raises
    ------
    DataError
        If some client would have no training image, or some class no client.
    """
    if config.name == "site":
        return [split]
    if config.name == "by_dataset":
        return _by_dataset(labels, num_classes, split, num_partitions, seed, origins)
    if config.name == "given":
        _check_given(split, clients, client_names, num_partitions)
        assert clients is not None
        return _given(labels, num_classes, split, clients, num_partitions, seed)
    if num_partitions > len(split.train):
        raise DataError(
            f"{num_partitions} clients but only {len(split.train)} training images: lower "
            "federation.num_clients or add images"
        )
    present = np.unique(labels)
    if config.name == "dirichlet":
        counts = _dirichlet_counts(labels, num_classes, split, config.alpha, num_partitions, seed)
        return _deal(labels, split, counts, counts.astype(np.float64), seed)
    if config.name == "heterogeneous":
        weights = np.zeros((num_classes, num_partitions))
        per_client = config.num_classes_per_partition
        weights[present] = _class_holders(len(present), num_partitions, per_client, seed)
    else:
        weights = np.ones((num_classes, num_partitions))
    counts = _train_counts(labels, split, weights, seed)
    if (counts.sum(axis=0) == 0).any():
        client = int(np.argmin(counts.sum(axis=0)))
        raise DataError(
            f"partition {client} of {num_partitions} gets no training image: its classes have "
            "fewer images than clients; lower federation.num_clients or raise "
            "partition.num_classes_per_partition"
        )
    return _deal(labels, split, counts, weights, seed)


def _by_dataset(
    labels: Indices,
    num_classes: int,
    split: Split,
    num_partitions: int,
    seed: int,
    origins: Indices | None,
) -> list[Split]:
    if origins is None:
        raise DataError("partition=by_dataset needs folders of several data sets: data=union")
    datasets = np.unique(origins)
    if num_partitions < len(datasets):
        raise DataError(
            f"partition=by_dataset deals {len(datasets)} data sets, but there are "
            f"{num_partitions} clients: set federation.num_clients to at least {len(datasets)}"
        )
    clients = [split] * num_partitions
    for first, dataset in enumerate(datasets):
        sharing = range(first, num_partitions, len(datasets))
        own = Split(*(part[origins[part] == dataset] for part in split.parts.values()))
        evenly = PartitionConfig("uniform")
        dealt = partition(labels, num_classes, own, evenly, len(sharing), seed)
        for client, part in zip(sharing, dealt, strict=True):
            clients[client] = part
    return clients


def _check_given(
    split: Split, clients: Indices | None, client_names: Sequence[str], num_partitions: int
) -> None:
    if clients is None:
        raise DataError(
            "partition=given needs a folder for each client, as train/client_0/<class>, or a list "
            "with a column client: there is neither at data.path"
        )
    if num_partitions != len(client_names):
        raise DataError(
            f"the data are those of {len(client_names)} clients ({client_names[0]} to "
            f"{client_names[-1]}), but there are {num_partitions}: set federation.num_clients to "
            f"{len(client_names)}"
        )
    counts = np.bincount(clients[split.train] + 1, minlength=num_partitions + 1)
    if counts[0]:
        raise DataError(
            f"{counts[0]} training images are no client's: with partition=given each must lie in a "
            "client's folder, or have a client in the list"
        )
    if not counts[1:].all():
        name = client_names[int(np.argmin(counts[1:]))]
        raise DataError(
            f"{name} has no training image: add some, take this client away, or raise data.shots "
            "if that left it none"
        )


def _given(
    labels: Indices,
    num_classes: int,
    split: Split,
    clients: Indices,
    num_partitions: int,
    seed: int,
) -> list[Split]:
    """Give each client its own images, and deal images of no client by what it trains on."""
    counts = np.zeros((num_classes, num_partitions), dtype=np.int64)
    np.add.at(counts, (labels[split.train], clients[split.train]), 1)
    shared = Split(*(part[clients[part] < 0] for part in split.parts.values()))
    dealt = _deal(labels, shared, counts, np.ones(counts.shape), seed)
    own = [_by_owner(part, clients, num_partitions) for part in split.parts.values()]
    return [
        Split(
            *(
                np.sort(np.concatenate([of_part[k], more]))
                for of_part, more in zip(own, hand.parts.values(), strict=True)
            )
        )
        for k, hand in enumerate(dealt)
    ]


def _class_holders(
    num_classes: int, num_partitions: int, per_client: int | None, seed: int
) -> _Weights:
    """Give each client its classes, the rarest held ones first: holders per class differ by <= 1.

    Returns
    -------
    NDArray[np.float64]
        ``(num_classes, num_partitions)`` of 0 and 1.
    """
    if per_client is None:
        per_client = min(num_classes, -(-2 * num_classes // num_partitions))
    if per_client > num_classes:
        raise DataError(
            f"partition.num_classes_per_partition is {per_client}, but the data has images of "
            f"{num_classes} classes"
        )
    if per_client * num_partitions < num_classes:
        raise DataError(
            f"{num_partitions} clients with {per_client} classes each cannot hold all "
            f"{num_classes} classes: raise partition.num_classes_per_partition to at least "
            f"{-(-num_classes // num_partitions)}"
        )
    rng = _generator(seed, "heterogeneous")
    holders = np.zeros((num_classes, num_partitions))
    held = np.zeros(num_classes, dtype=np.int64)
    for client in range(num_partitions):
        rarest = np.lexsort((rng.random(num_classes), held))[:per_client]
        holders[rarest, client] = 1
        held[rarest] += 1
    return holders


def _dirichlet_counts(
    labels: Indices, num_classes: int, split: Split, alpha: float, num_partitions: int, seed: int
) -> Indices:
    rng = _generator(seed, "dirichlet")
    for _ in range(_MAX_DRAWS):
        weights = rng.dirichlet(np.full(num_partitions, alpha), size=num_classes)
        counts = _train_counts(labels, split, weights, seed)
        if (counts.sum(axis=0) > 0).all():
            return counts
    raise DataError(
        f"in {_MAX_DRAWS} draws with partition.alpha={alpha:g} some of the {num_partitions} "
        f"clients had none of the {len(split.train)} training images: raise partition.alpha or "
        "lower federation.num_clients"
    )


def _train_counts(labels: Indices, split: Split, weights: _Weights, seed: int) -> Indices:
    """Training images per class and client, ``(num_classes, num_partitions)``."""
    available = np.bincount(labels[split.train], minlength=len(weights))
    return _apportion_all(available, weights, _generator(seed, "train"))


def _apportion_all(available: Indices, weights: _Weights, rng: np.random.Generator) -> Indices:
    counts = np.zeros(weights.shape, dtype=np.int64)
    loads = np.zeros(weights.shape[1], dtype=np.int64)
    for c in range(len(weights)):
        counts[c] = _apportion(int(available[c]), weights[c], loads, rng)
        loads += counts[c]
    return counts


def _apportion(total: int, weights: _Weights, loads: Indices, rng: np.random.Generator) -> Indices:
    """Largest remainders; of equal ones, the client with the least so far, then by lot."""
    draw = rng.random(len(weights))
    if total == 0:
        return np.zeros(len(weights), dtype=np.int64)
    quota = total * weights / weights.sum()
    counts: Indices = np.floor(quota + 1e-9).astype(np.int64)
    remainder = np.where(weights > 0, np.round(quota - counts, 9), -1.0)
    order = np.lexsort((draw, loads, -remainder))
    counts[order[: total - counts.sum()]] += 1
    return counts


def _deal(
    labels: Indices, split: Split, train_counts: Indices, weights: _Weights, seed: int
) -> list[Split]:
    """Hand out shuffled images by counts; val and test follow the training images."""
    follow = np.where(train_counts.sum(axis=1, keepdims=True) > 0, train_counts, weights)
    parts: dict[str, list[Indices]] = {}
    for name, indices in split.parts.items():
        available = np.bincount(labels[indices], minlength=len(weights))
        rng = _generator(seed, name)
        counts = train_counts if name == "train" else _apportion_all(available, follow, rng)
        clients = np.arange(weights.shape[1])
        owners = np.full(len(labels), -1)
        shuffle = _generator(seed, name, "shuffle")
        for c in range(len(weights)):
            images = shuffle.permutation(indices[labels[indices] == c])
            # With partition ``given`` the counts are of images that are dealt already.
            owners[images] = np.repeat(clients, counts[c])[: len(images)]
        parts[name] = _by_owner(indices, owners, len(clients))
    return [
        Split(train, val, test)
        for train, val, test in zip(parts["train"], parts["val"], parts["test"], strict=True)
    ]


def _by_owner(indices: Indices, owners: Indices, num_clients: int) -> list[Indices]:
    """Return each client's images, ascending; ``owners`` has an image's client, -1 for none."""
    ordered = np.sort(indices)
    ordered = ordered[np.argsort(owners[ordered], kind="stable")]
    stops = np.searchsorted(owners[ordered], np.arange(num_clients + 1))
    return [ordered[a:b] for a, b in itertools.pairwise(stops)]


def _generator(seed: int, *purpose: str) -> np.random.Generator:
    return np.random.default_rng([1, seed, *"/".join(purpose).encode()])
