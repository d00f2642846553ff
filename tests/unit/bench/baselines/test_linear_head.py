"""The averaged head: one client is plain training, examples are weights, priors are private."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedrsclip.bench.baselines.linear_head import (
    fed_linear_head,
    fed_linear_head_prior,
    train,
)
from fedrsclip_core.learning.class_statistics import class_prior
from fedrsclip_core.learning.training import batches, cosine
from tests.unit.bench.baselines.clouds import client, cloud, federation, right

pytestmark = pytest.mark.unit

POINTS = cloud(9, [0, 1, 2, 3], 50)


def test_one_client_trains_as_torch_does() -> None:
    parts = federation(client(0, [0, 1, 2, 3]), rounds=3)
    data = parts.clients[0]["train"]
    weights = torch.zeros(4, 6, requires_grad=True)
    bias = torch.zeros(4, requires_grad=True)
    for number in (1, 2, 3):
        # A new optimizer in each round, as its state does not travel.
        optimizer = torch.optim.SGD([weights, bias], lr=0.1 * cosine(number, 3), momentum=0.9)
        for rows in batches(len(data), parts.config, number, "client-0"):
            scores = 10 * torch.from_numpy(data.features)[rows] @ weights.T + bias
            optimizer.zero_grad()
            functional.cross_entropy(scores, torch.from_numpy(data.labels)[rows]).backward()
            optimizer.step()
    found = train(parts, 0.1)
    assert len(found) == 3
    assert np.allclose(found[-1][0], 10 * weights.detach().numpy(), atol=1e-4)
    assert np.allclose(found[-1][1], bias.detach().numpy(), atol=1e-5)


def test_heads_are_averaged_with_examples_as_weights() -> None:
    small, large = client(0, [0, 1], 4), client(1, [2, 3], 12)
    both = train(federation(small, large, rounds=1), 0.1)[-1]
    (one, _), (other, _) = (train(_alone(c, k), 0.1)[-1] for k, c in enumerate((small, large)))
    assert np.allclose(both[0], 0.25 * one + 0.75 * other, atol=1e-5)


def _alone(only, place):  # type: ignore[no-untyped-def]
    # At its own place, on which the order of its batches depends; the other has nothing to say.
    nothing = {part: cloud(0, [], 0) for part in ("train", "val", "test")}
    clients = [nothing, nothing]
    clients[place] = only
    return federation(*clients, rounds=1)


def test_the_head_learns_classes_that_no_client_has_together() -> None:
    outcome = fed_linear_head(federation(client(0, [0, 1]), client(1, [2, 3])))
    shared = outcome.rounds[-1].shared
    assert shared is not None
    assert right(shared, POINTS) > 0.9
    assert len(outcome.rounds) == 5
    # Weights of 4 classes and 6 numbers, and a bias each.
    assert (outcome.round, outcome.bytes_per_round) == (6, 4 * 4 * 7)


def test_a_prior_is_the_clients_own_and_leaves_the_shared_head_alone() -> None:
    parts = federation(client(0, [0, 1]), client(1, [2, 3]))
    found = fed_linear_head_prior(parts).rounds[-1]
    assert found.shared is not None
    for k, classifier in enumerate(found.personalized):
        added = classifier(POINTS.features) - found.shared(POINTS.features)
        assert np.allclose(added, class_prior(parts.counts()[k]))


def test_a_prior_worked_out_by_hand() -> None:
    # (2 + 0.1) / (2 + 0.1 * 2) and 0.1 / 2.2
    assert np.allclose(np.exp(class_prior(np.array([2.0, 0.0]))), [2.1 / 2.2, 0.1 / 2.2])
