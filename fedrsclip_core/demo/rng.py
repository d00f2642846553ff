"""Counter-based random generators named by what they are for."""

from __future__ import annotations

import hashlib

import numpy as np


def named_generator(*parts: object) -> np.random.Generator:
    """Return a generator that depends on nothing but ``parts``.

    Parameters
    ----------
    *parts : object
        Hashed by their text, so ``("scene", 0, 3)`` means the same in every process.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
