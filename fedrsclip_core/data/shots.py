"""Few-shot experiments: only some training images of each class."""

from dataclasses import replace

import numpy as np

from fedrsclip_core.data.splits import Indices, Split


def limit_shots(split: Split, labels: Indices, shots: int | None, seed: int) -> Split:
    """Keep at most ``shots`` training images of each class; the other parts stay as they are.

    The images kept for fewer shots are among those kept for more.

    Parameters
    ----------
    split : Split
        The whole federation's, before it is dealt.
    labels : NDArray[np.int64]
        ``(N,)`` class indices.
    shots : int or None
        ``None`` keeps all.
    seed : int
        Of the draw.
    """
    if shots is None:
        return split
    kept = [np.empty(0, dtype=np.int64)]
    for c in np.unique(labels[split.train]):
        members = split.train[labels[split.train] == c]
        order = np.random.default_rng([2, seed, int(c)]).permutation(members)
        kept.append(order[:shots])
    return replace(split, train=np.sort(np.concatenate(kept)))
