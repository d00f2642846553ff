"""Weights of small OpenCLIP models, the same wherever they are made: numpy's frozen generator."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

IMAGES = ((48, 48), (90, 90), (100, 72))
"""Heights and widths of the images, in pixels."""
TEXTS = ("a photo of a harbor.", "aerial view", "golf course")


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, NDArray[np.float32]]:
    """Return a state dict; shapes by OpenCLIP's names."""
    draws = np.random.RandomState(7)
    made = {}
    for name in sorted(shapes):
        values = 0.08 * draws.standard_normal(tuple(shapes[name]))
        if "ln_" in name and name.endswith("weight"):
            values = values + 1
        made[name] = np.asarray(values + 3 if name == "logit_scale" else values, np.float32)
    return made


def pixels(number: int) -> NDArray[np.uint8]:
    """Return one of the images, ``(height, width, 3)``."""
    height, width = IMAGES[number]
    draws = np.random.RandomState(number)
    return draws.randint(0, 256, (height, width, 3)).astype(np.uint8)
