"""The embedded demo scenes as one client sees them: rendered when asked for, never stored."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core import demo
from fedrsclip_core.demo.scenes import CLASS_NAMES, render
from fedrsclip_core.errors import DataError
from fedrsclip_core.runs.fileio import sha256_of

if TYPE_CHECKING:
    from PIL.Image import Image


class SceneSource:
    """Scenes of the embedded demo in one client's season, sensor, haze and resolution.

    Parameters
    ----------
    class_names : Sequence[str]
        A choice of the demo's classes; empty for all.
    images_per_class : int
        Scenes of each class.
    seed : int
        Of the federation.
    domain : int
        Number of the client whose domain the scenes show.
    first : int
        Number of a class's first scene. Clients that share no images begin at different ones.

    Attributes
    ----------
    class_names : list[str]
        The classes in order.
    labels : NDArray[np.int64]
        ``(N,)``, class by class.
    given_parts : None
        No test part is given.
    origins : None
        All scenes are of one data set.
    groups : list[list[int]]
        Empty: no scene is a near-duplicate.

    Raises
    ------
    DataError
        If a class is none of the demo's.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        images_per_class: int,
        *,
        seed: int,
        domain: int,
        first: int = 0,
    ) -> None:
        if unknown := [name for name in class_names if name not in CLASS_NAMES]:
            raise DataError(
                f"the demo scenes have no class {unknown[0]!r}: data.class_names may hold "
                f"{', '.join(CLASS_NAMES)}"
            )
        self.class_names = list(class_names or CLASS_NAMES)
        self.labels: NDArray[np.int64] = np.repeat(
            np.arange(len(self.class_names), dtype=np.int64), images_per_class
        )
        self.given_parts: NDArray[np.int8] | None = None
        self.origins: NDArray[np.int64] | None = None
        self.client_names: list[str] = []
        self.clients: NDArray[np.int64] | None = None
        self.left_out: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.sequential = False
        self.groups: list[list[int]] = []
        self._images_per_class = images_per_class
        self._seed = seed
        self._domain = domain
        self._first = first

    def __len__(self) -> int:
        return len(self.labels)

    def stat_key(self, i: int) -> str:
        """All that a scene depends on, the code that paints it included."""
        name, number = self._scene(i)
        return f"demo scene|{_painter_digest()}|{self._seed}|{self._domain}|{name}|{number}"

    def content_hash(self, i: int) -> str:
        """sha256 of :meth:`stat_key`."""
        return sha256_of(self.stat_key(i))

    def image(self, i: int) -> "Image":
        """Render a scene, 64 x 64 RGB."""
        from PIL import Image

        name, number = self._scene(i)
        scene = render(CLASS_NAMES.index(name), number, seed=self._seed, domain=self._domain)
        return Image.fromarray(scene)

    def describe(self, i: int) -> str:
        """Class and number of a scene."""
        name, number = self._scene(i)
        return f"demo scene {name} {number}"

    def _scene(self, i: int) -> tuple[str, int]:
        name = self.class_names[int(self.labels[i])]
        return name, self._first + i % self._images_per_class


@cache
def _painter_digest() -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(demo.__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
