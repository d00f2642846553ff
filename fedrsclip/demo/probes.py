"""Linear probes: how much of the classes a plain linear model reads from given features."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]


def colour_histograms(images: npt.NDArray[np.uint8]) -> Features:
    """Return colour histograms of ``(N, H, W, 3)`` images.

    Returns
    -------
    numpy.ndarray
        ``(N, 88)``: 8 bins per channel, then 4 x 4 x 4 joint bins, as shares of the pixels.
    """
    pixels = images.reshape(len(images), -1, 3).astype(np.int64)
    offsets = np.array((0, 8, 16))
    single = _count(pixels // 32 + offsets, 24)
    joint = _count((pixels // 64 * np.array((16, 4, 1))).sum(-1), 64)
    return np.concatenate([single, joint], 1) / pixels.shape[1]


def _count(bins: Labels, size: int) -> Features:
    flat = bins.reshape(len(bins), -1) + size * np.arange(len(bins))[:, None]
    counts = np.bincount(flat.ravel(), minlength=size * len(bins))
    return counts.reshape(len(bins), size).astype(np.float64)


def linear_probe(
    features: Features, labels: Labels, *, seed: int = 0, weight_decay: float = 1e-3
) -> float:
    """Return the test accuracy of multinomial logistic regression.

    Parameters
    ----------
    features : numpy.ndarray
        ``(N, dim)``; standardized here with the training part's statistics.
    labels : numpy.ndarray
        ``(N,)`` class numbers.
    seed : int
        Draws the 70% that train; the others test.
    weight_decay : float
        Factor on the squared weights.
    """
    import torch

    order = np.random.default_rng(seed).permutation(len(labels))
    train, test = np.split(order, [round(0.7 * len(labels))])
    mean, deviation = features[train].mean(0), features[train].std(0)
    x = torch.from_numpy(((features - mean) / (deviation + 1e-6)).astype(np.float32))
    y = torch.from_numpy(labels)
    weight = torch.zeros(x.shape[1], int(labels.max()) + 1, requires_grad=True)
    bias = torch.zeros(weight.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=150, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x[train] @ weight + bias, y[train])
        loss = loss + weight_decay * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    guess = (x[test] @ weight + bias).argmax(1)
    return float((guess == y[test]).float().mean())
