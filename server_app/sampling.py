"""Which clients take part in a round: drawn by partition, so that a seed fixes it."""

import math
from collections.abc import Collection, Sequence

import numpy as np


def sample(
    partitions: Sequence[int],
    fraction: float,
    *,
    seed: int,
    server_round: int,
    available: Collection[int],
    minimum: int = 1,
) -> list[int]:
    """Choose partitions for one round, a pure function of the arguments.

    All partitions are shuffled by ``(seed, server_round)`` and the first available ones are
    taken. So an absent client is replaced without changing who else is drawn.

    Parameters
    ----------
    partitions : Sequence[int]
        Partition ids of the federation.
    fraction : float
        Share of the partitions to choose, in (0, 1].
    seed, server_round : int
        Name the draw.
    available : Collection[int]
        Partitions that can be asked now.
    minimum : int
        The least number chosen, if that many are available.

    Returns
    -------
    list[int]
        The chosen partitions in ascending order.
    """
    everyone = np.array(sorted(partitions))
    size = max(minimum, math.floor(fraction * len(everyone) + 0.5))
    order = np.random.default_rng([seed, server_round]).permutation(everyone)
    return sorted([int(partition) for partition in order if int(partition) in available][:size])
