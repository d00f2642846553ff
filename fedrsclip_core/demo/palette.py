"""Colours of land, water, roofs and tarmac.

Every kind spans many tints and the kinds overlap (grey water, red soil, blue roofs), so that a
colour histogram says little about the class: shape has to.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from fedrsclip_core.demo.canvas import Array

# (name used in captions, hue, saturation, value)
LAND = (
    ("green", 0.29, 0.45, 0.42),
    ("green", 0.25, 0.50, 0.55),
    ("dark green", 0.34, 0.42, 0.28),
    ("olive", 0.19, 0.42, 0.45),
    ("yellow", 0.13, 0.48, 0.70),
    ("dry", 0.11, 0.32, 0.66),
    ("brown", 0.08, 0.45, 0.45),
    ("red", 0.03, 0.50, 0.52),
    ("grey", 0.10, 0.08, 0.52),
    ("pale", 0.12, 0.14, 0.80),
    ("bluish", 0.50, 0.22, 0.45),
)
WATER = (
    ("blue", 0.58, 0.60, 0.45),
    ("dark blue", 0.60, 0.60, 0.25),
    ("turquoise", 0.49, 0.50, 0.60),
    ("green", 0.38, 0.40, 0.36),
    ("brown", 0.09, 0.40, 0.48),
    ("grey", 0.55, 0.12, 0.50),
    ("dark", 0.55, 0.30, 0.15),
    ("pale", 0.52, 0.18, 0.75),
)
ROOF = (
    (0.03, 0.50, 0.62),
    (0.06, 0.40, 0.50),
    (0.00, 0.03, 0.78),
    (0.60, 0.10, 0.50),
    (0.60, 0.40, 0.55),
    (0.10, 0.20, 0.70),
    (0.30, 0.20, 0.45),
    (0.00, 0.05, 0.32),
)


@dataclass(frozen=True)
class Palette:
    """The colours of one scene.

    Attributes
    ----------
    land, land_other, plant, sand, water, tarmac : numpy.ndarray
        RGB in 0..1, ``(3,)``.
    roofs : numpy.ndarray
        A few roof colours, ``(n, 3)``.
    land_name, water_name : str
        What a caption calls them.
    """

    land: Array
    land_other: Array
    plant: Array
    sand: Array
    water: Array
    tarmac: Array
    roofs: Array
    land_name: str
    water_name: str

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Palette:
        """Draw a scene's colours."""
        land_name, *land = LAND[rng.integers(len(LAND))]
        _, *other = LAND[rng.integers(len(LAND))]
        _, *plant = LAND[rng.integers(len(LAND))]
        water_name, *water = WATER[rng.integers(len(WATER))]
        picks = rng.integers(len(ROOF), size=3)
        return cls(
            land=jitter(rng, land),
            land_other=jitter(rng, other),
            plant=jitter(rng, plant) * np.float32(0.8),
            sand=jitter(rng, (rng.uniform(0.05, 0.15), rng.uniform(0.08, 0.45), 0.75)),
            water=jitter(rng, water),
            tarmac=jitter(rng, (rng.uniform(0, 1), 0.07, rng.uniform(0.25, 0.72))),
            roofs=np.stack([jitter(rng, ROOF[pick]) for pick in picks]),
            land_name=str(land_name),
            water_name=str(water_name),
        )

    def roof(self, rng: np.random.Generator) -> Array:
        """Return one roof, a little different from its neighbours."""
        tint = rng.uniform(0.85, 1.15)
        picked: Array = self.roofs[rng.integers(len(self.roofs))] * np.float32(tint)
        return picked


def jitter(rng: np.random.Generator, hsv: object) -> Array:
    """Return the RGB of ``hsv`` (three numbers), moved a little."""
    hue, saturation, value = np.asarray(hsv, np.float64) + rng.normal(0, (0.02, 0.06, 0.07))
    rgb = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0.05), 0.95))
    return np.asarray(rgb, np.float32)


def contrasting(rng: np.random.Generator, colour: Array, gap: float = 0.22) -> Array:
    """Return ``colour`` made clearly darker or lighter, whichever has room."""
    mean = float(colour.mean())
    up = mean < 0.4 or (mean < 0.6 and rng.random() < 0.5)
    moved: Array = np.clip(colour + np.float32(gap if up else -gap), 0.03, 0.97)
    return moved


def apart(colour: Array, background: Array, gap: float = 0.15) -> Array:
    """Return ``colour``, shifted in brightness if it would drown in ``background``."""
    difference = colour - background
    if float(np.abs(difference).max()) >= gap:
        return colour
    direction = 1.0 if float(background.mean()) < 0.45 else -1.0
    moved: Array = np.clip(background + np.float32(direction * (gap + 0.1)), 0.03, 0.97)
    return moved
