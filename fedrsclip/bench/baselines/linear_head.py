"""A linear head on the image features, trained by FedAvg (McMahan et al., AISTATS 2017).

``fed_linear_head``: the head alone. ``fed_linear_head_prior``: each client adds a prior of its
classes, which stays with it.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import fmean

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedrsclip.bench.baselines.federation import (
    FLOAT32,
    Array,
    Classifiers,
    Federation,
    Outcome,
    accuracy,
    linear,
    shared_by_all,
)
from fedrsclip.bench.figures import LAST_ROUNDS
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.learning.class_statistics import class_prior
from fedrsclip_core.learning.optimizer import Leaf, PromptOptimizer
from fedrsclip_core.learning.training import batches, cosine

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
Head = tuple[Array, Array]
"""Weights ``(C, d)`` and bias ``(C,)``."""


def fed_linear_head(federation: Federation) -> Outcome:
    """Every client classifies with the averaged head; the rate is best on all validation images."""
    val, num_clients = federation.pooled("val"), len(federation.clients)
    by_rate = {
        rate: [shared_by_all(linear(*head), num_clients) for head in heads]
        for rate, heads in trials(federation).items()
    }
    scores = {
        rate: fmean(accuracy(r.personalized[0], val) for r in rounds)
        for rate, rounds in by_rate.items()
    }
    return _best(federation, by_rate, scores)


def fed_linear_head_prior(federation: Federation) -> Outcome:
    """Each client adds its prior; the rate is best on the clients' validation images."""
    priors = [class_prior(counts) for counts in federation.counts()]
    vals = [client["val"] for client in federation.clients]
    by_rate = {
        rate: [_with_priors(head, priors) for head in heads]
        for rate, heads in trials(federation).items()
    }
    scores = {
        rate: fmean(_mean_accuracy(r, vals) for r in rounds) for rate, rounds in by_rate.items()
    }
    return _best(federation, by_rate, scores)


@lru_cache(maxsize=1)
def trials(federation: Federation) -> Mapping[float, Sequence[Head]]:
    """Return by learning rate the averaged heads after the last rounds; once for both variants."""
    return {rate: train(federation, rate) for rate in RATES}


def train(federation: Federation, rate: float) -> list[Head]:
    """Average heads over the rounds, with examples as weights; return those of the last ones.

    Logits are ``logit_scale * v W^T + b``, the start is zero; rounds, epochs, batches, momentum and
    schedule are the methods'.
    """
    # A problem this small only suffers from more threads: on a busy machine a thousandfold.
    torch.set_num_threads(1)
    rounds = federation.config.federation.num_rounds
    sizes = np.array([len(client["train"]) for client in federation.clients])
    shares = sizes / sizes.sum()
    head = (
        np.zeros((federation.num_classes, federation.dim)),
        np.zeros(federation.num_classes),
    )
    found = []
    for number in range(1, rounds + 1):
        sent = [
            _local(federation, client["train"], head, rate, number, f"client-{k}")
            for k, client in enumerate(federation.clients)
        ]
        head = (
            np.tensordot(shares, np.stack([weights for weights, _ in sent]), axes=1),
            np.tensordot(shares, np.stack([bias for _, bias in sent]), axes=1),
        )
        found.append((federation.logit_scale * head[0], head[1]))
    return found[-LAST_ROUNDS:] or [head]


def _local(
    federation: Federation, data: FeatureSet, head: Head, rate: float, number: int, client: str
) -> Head:
    """Train a head on one client's images for a round."""
    config = federation.config
    weights, bias = (torch.tensor(one, dtype=torch.float32, requires_grad=True) for one in head)
    optimizer = PromptOptimizer([Leaf(weights, rate), Leaf(bias, rate)], config.optimizer)
    constant = config.optimizer.schedule == "constant"
    factor = 1.0 if constant else cosine(number, config.federation.num_rounds)
    features, labels = torch.from_numpy(data.features), torch.from_numpy(data.labels)
    for rows in batches(len(data), config, number, client):
        logits = federation.logit_scale * features[rows] @ weights.T + bias  # (B, C)
        optimizer.minimize(functional.cross_entropy(logits, labels[rows]), factor)
    return _array(weights), _array(bias)


def _array(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().numpy(), dtype=np.float64)


def _with_priors(head: Head, priors: Sequence[Array]) -> Classifiers:
    weights, bias = head
    return Classifiers(linear(weights, bias), [linear(weights, bias + prior) for prior in priors])


def _mean_accuracy(found: Classifiers, data: Sequence[FeatureSet]) -> float:
    known = [accuracy(one, d) for one, d in zip(found.personalized, data, strict=True) if len(d)]
    return float(np.mean(known)) if known else 0.0


def _best(
    federation: Federation,
    by_rate: Mapping[float, Sequence[Classifiers]],
    scores: Mapping[float, float],
) -> Outcome:
    best = max(scores, key=lambda rate: scores[rate])
    size = FLOAT32 * federation.num_classes * (federation.dim + 1)
    rounds = federation.config.federation.num_rounds
    return Outcome(by_rate[best], rounds, size, chosen=best)
