"""Generated remote-sensing-like scenes: 16 classes told apart by structure, not by colour.

Each class is painted in several layouts. Pretraining and federation share the classes and nothing
else: their layouts are disjoint and so are their random streams. A scene is a pure function of
its arguments and takes a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedrsclip_core.demo import built, nature, transport
from fedrsclip_core.demo.canvas import Array, Canvas
from fedrsclip_core.demo.domains import (
    FEDERATION_STRENGTH,
    PRETRAINING_STRENGTH,
    DomainShift,
    apply_domain,
    client_domain,
)
from fedrsclip_core.demo.palette import Palette
from fedrsclip_core.demo.rng import named_generator

Image = npt.NDArray[np.uint8]
FEDERATION = "federation"
PRETRAINING = "pretraining"


class SceneClass(NamedTuple):
    """A class's painter and its layouts, those of the two streams apart."""

    paint: Callable[[Canvas, Palette, str], None]
    pretraining: tuple[str, ...]
    federation: tuple[str, ...]


SCENE_CLASSES: dict[str, SceneClass] = {
    "beach": SceneClass(nature.beach, ("straight", "wavy"), ("bay", "headland")),
    "denseresidential": SceneClass(
        built.denseresidential, ("blocks", "rows"), ("crescent", "terraces")
    ),
    "farmland": SceneClass(nature.farmland, ("grid", "strips"), ("bricks", "polygons")),
    "forest": SceneClass(nature.forest, ("closed", "clearing"), ("path", "slope")),
    "harbor": SceneClass(transport.harbor, ("comb", "piers"), ("quay", "basin")),
    "intersection": SceneClass(transport.intersection, ("cross", "tee"), ("oblique", "boulevard")),
    "lake": SceneClass(nature.lake, ("round", "long"), ("lobes", "islets")),
    "parkinglot": SceneClass(transport.parkinglot, ("double", "full"), ("angled", "half")),
    "railway": SceneClass(transport.railway, ("line", "yard"), ("bend", "switch")),
    "river": SceneClass(nature.river, ("meander", "stream"), ("confluence", "island")),
    "roundabout": SceneClass(transport.roundabout, ("four", "three"), ("five", "double")),
    "runway": SceneClass(transport.runway, ("single", "taxiway"), ("crossing", "apron")),
    "solarfarm": SceneClass(built.solarfarm, ("rows", "blocks"), ("tables", "terrain")),
    "sparseresidential": SceneClass(
        built.sparseresidential, ("roadside", "plots"), ("culdesac", "hamlet")
    ),
    "stadium": SceneClass(built.stadium, ("athletics", "bowl"), ("stands", "dome")),
    "storagetanks": SceneClass(built.storagetanks, ("grid", "few"), ("mixed", "bunded")),
}
CLASS_NAMES: tuple[str, ...] = tuple(SCENE_CLASSES)


@dataclass(frozen=True)
class Scene:
    """A picture and what its caption may mention.

    Attributes
    ----------
    image : numpy.ndarray
        ``(64, 64, 3)`` uint8.
    class_name : str
        One of ``CLASS_NAMES``.
    land, water : str
        Colour words of the ground and of the water.
    shift : DomainShift or None
        The sensor's, if there is one.
    """

    image: Image
    class_name: str
    land: str
    water: str
    shift: DomainShift | None


def render(
    class_index: int,
    index: int,
    *,
    seed: int,
    domain: int | None,
    stream: str = FEDERATION,
    strength: float = FEDERATION_STRENGTH,
) -> Image:
    """Return scene ``index`` of a class.

    Parameters
    ----------
    class_index : int
        Position in ``CLASS_NAMES``.
    index : int
        Number of the scene within its class.
    seed : int
        Seed of the federation.
    domain : int or None
        Client whose season, sensor, haze and resolution the scene shows; ``None`` for neither.
    stream : str
        ``"federation"`` or ``"pretraining"``; they share no layout and no random number.
    strength : float
        Factor on the client's domain shift.

    Returns
    -------
    numpy.ndarray
        ``(64, 64, 3)`` uint8, a pure function of the arguments.

    Raises
    ------
    ValueError
        If the class or the stream does not exist.
    """
    shift = None if domain is None else client_domain(seed, domain, strength=strength)
    return _scene(class_index, index, seed, stream, shift).image


def pretraining_scene(class_index: int, index: int, *, seed: int) -> Scene:
    """Return a pretraining scene with its own mild sensor shift and its caption's facts."""
    rng = named_generator("pretraining-sensor", seed, class_index, index)
    shift = DomainShift.draw(rng, PRETRAINING_STRENGTH)
    return _scene(class_index, index, seed, PRETRAINING, shift)


def _scene(
    class_index: int, index: int, seed: int, stream: str, shift: DomainShift | None
) -> Scene:
    if not 0 <= class_index < len(CLASS_NAMES):
        raise ValueError(
            f"no scene class {class_index}: there are {len(CLASS_NAMES)}, numbered from 0"
        )
    if stream not in (FEDERATION, PRETRAINING):
        raise ValueError(f"no scene stream {stream!r}: use {FEDERATION!r} or {PRETRAINING!r}")
    name = CLASS_NAMES[class_index]
    painter = SCENE_CLASSES[name]
    layouts = painter.federation if stream == FEDERATION else painter.pretraining
    rng = named_generator("scene", stream, seed, name, index)
    layout = layouts[int(rng.integers(len(layouts)))]
    canvas, palette = Canvas(rng), Palette.draw(rng)
    painter.paint(canvas, palette, layout)
    rgb = _expose(canvas)
    if shift is not None:
        rgb = apply_domain(rgb, shift)
    image = (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Scene(image, name, palette.land_name, palette.water_name, shift)


def _expose(canvas: Canvas) -> Array:
    # Each scene has its own light and grain, whoever took it.
    rng = canvas.rng
    light = np.exp(rng.normal(0, 0.18)) * np.exp(rng.normal(0, 0.06, 3))
    grain = rng.normal(0, rng.uniform(0.005, 0.025), canvas.rgb.shape)
    bright = np.clip(canvas.rgb * light.astype(np.float32), 0, 1) + grain.astype(np.float32)
    exposed: Array = np.clip(bright, 0, 1)
    return exposed
