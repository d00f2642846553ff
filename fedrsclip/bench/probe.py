"""A linear probe: logistic regression on the frozen image features, without any text.

Pooled it sees all clients' images, which no federation does; alone each client has its own.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedrsclip.bench.cells import Cell
from fedrsclip.bench.description import Description
from fedrsclip.bench.figures import Row
from fedrsclip.bench.images import clients_features, joined
from fedrsclip.run import preflight
from fedrsclip_core.config.schema import Config
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.data.federated import open_client_data
from fedrsclip_core.errors import ConfigError

METHOD = "linear_probe"
_PENALTIES = tuple(10.0**-k for k in range(9))
_STEPS = 200


def probe_row(description: Description, cell: Cell, split_digest: str) -> Row:
    """Return the row of a cell's setting and seed: pooled as global, alone as personalized."""
    here = preflight.compose_here([*cell.overrides, *description.site])
    _check_images(here, cell, split_digest)
    parts = ("train", "val", "test")
    clients = list(clients_features(here, preflight.check_model(here), parts=parts))
    pooled = {part: joined([client[part] for client in clients]) for part in parts}
    alone = [probe_accuracy(one) for one in clients if len(one["test"])]
    return {
        "setting": cell.setting,
        "method": METHOD,
        "variant": "",
        "seed": cell.seed,
        "test_global": 100 * probe_accuracy(pooled),
        "test_personalized": 100 * float(np.mean(alone)),
        "test_personalized_worst": 100 * min(alone),
        "split_digest": split_digest,
    }


def probe_accuracy(parts: dict[str, FeatureSet]) -> float:
    """Fit on train, choose the penalty on val, return the test accuracy.

    Among equals on val the strongest penalty counts.
    """
    fits = [fit(parts["train"], penalty) for penalty in _PENALTIES]
    best = max(fits, key=lambda weights: _accuracy(weights, parts["val"]))
    return _accuracy(best, parts["test"])


def fit(data: FeatureSet, penalty: float) -> NDArray[np.float64]:
    """Minimise mean cross entropy + ``penalty / 2 * ||W||^2``.

    Returns
    -------
    NDArray[np.float64]
        ``(n_cls, dim + 1)``, the last column without penalty.
    """
    # A problem this small only suffers from more threads: on a busy machine a thousandfold.
    torch.set_num_threads(1)
    num_classes = int(data.labels.max()) + 1
    features = torch.from_numpy(_with_one(data.features))
    labels = torch.from_numpy(data.labels)
    weights = torch.zeros(num_classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(features @ weights.T, labels)
        loss = loss + penalty / 2 * weights[:, :-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call, arg-type, unused-ignore]
    return np.asarray(weights.detach().numpy())


def _check_images(here: Config, cell: Cell, split_digest: str) -> None:
    path = Path(here.data.path) if here.data.path else None
    count = here.federation.num_clients
    found = open_client_data(here, path, partition_id=0, num_partitions=count)
    if found.split_digest != split_digest:
        raise ConfigError(f"{cell.folder} was run with other images: give the same again")


def _accuracy(weights: NDArray[np.float64], data: FeatureSet) -> float:
    if not len(data):
        return 0.0
    answers = (_with_one(data.features) @ weights.T).argmax(axis=1)
    return float((answers == data.labels).mean())


def _with_one(features: NDArray[np.float32]) -> NDArray[np.float64]:
    ones = np.ones((len(features), 1))
    return np.concatenate([features.astype(np.float64), ones], axis=1)  # (N, dim + 1)
