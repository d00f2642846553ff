"""A small drawing surface: anti-aliased shapes in a rotated frame, with noise textures.

Shapes are signed distances in pixels (negative inside), so edges come out soft without
supersampling. Coordinates ``(u, v)`` have their origin in the middle of the picture and turn with
the scene's own angle; a template never needs to know how its scene lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Colour = Sequence[float] | Array
Distance = Callable[[Array, Array], Array]

SIZE = 64


class Canvas:
    """A square picture that templates paint on.

    Parameters
    ----------
    rng : numpy.random.Generator
        Everything random about the scene is drawn from it, in painting order.

    Attributes
    ----------
    rgb : numpy.ndarray
        Float picture in 0..1, ``(SIZE, SIZE, 3)``.
    u, v : numpy.ndarray
        Pixel positions in the scene's frame, ``(SIZE, SIZE)``.
    sun : tuple of float
        Where shadows fall, a unit vector in the scene's frame.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.rgb: Array = np.zeros((SIZE, SIZE, 3), np.float32)
        angle = rng.uniform(0, 2 * math.pi)
        self._cos, self._sin = math.cos(angle), math.sin(angle)
        self._mirror = 1.0 if rng.random() < 0.5 else -1.0
        axis = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
        x, y = np.meshgrid(axis, axis)
        self.u: Array = self._cos * x + self._sin * y
        self.v: Array = self._mirror * (-self._sin * x + self._cos * y)
        shade = rng.uniform(0, 2 * math.pi)
        self.sun = (math.cos(shade), math.sin(shade))

    def blend(self, mask: Array, colour: Colour, opacity: float = 1.0) -> None:
        """Paint ``colour``, ``(3,)`` or ``(SIZE, SIZE, 3)``, where ``mask`` ``(SIZE, SIZE)`` is."""
        weight = (mask * opacity)[..., None]
        self.rgb += weight * (np.asarray(colour, np.float32) - self.rgb)

    def cover(self, distance: Array, softness: float = 1.2) -> Array:
        """Turn signed distances into coverage 0..1, with an edge ``softness`` pixels wide."""
        coverage: Array = np.clip(0.5 - distance / softness, 0.0, 1.0)
        return coverage

    def shape(self, distance: Distance, colour: Colour, softness: float = 1.2) -> None:
        """Paint the inside of a shape that covers much of the picture."""
        self.blend(self.cover(distance(self.u, self.v), softness), colour)

    def stamp(
        self, centre: tuple[float, float], reach: float, distance: Distance, colour: Colour
    ) -> None:
        """Paint a small shape; ``distance`` sees coordinates relative to ``centre``.

        Only the window within ``reach`` pixels is touched, which keeps scenes of a hundred
        houses within milliseconds.
        """
        cu, cv = centre
        w = self._mirror * cv
        x = self._cos * cu - self._sin * w + (SIZE - 1) / 2
        y = self._sin * cu + self._cos * w + (SIZE - 1) / 2
        x0, x1 = max(0, math.floor(x - reach)), min(SIZE, math.ceil(x + reach) + 1)
        y0, y1 = max(0, math.floor(y - reach)), min(SIZE, math.ceil(y + reach) + 1)
        if x0 >= x1 or y0 >= y1:
            return
        window = (slice(y0, y1), slice(x0, x1))
        mask = self.cover(distance(self.u[window] - cu, self.v[window] - cv))[..., None]
        self.rgb[window] += mask * (np.asarray(colour, np.float32) - self.rgb[window])

    def box(
        self,
        centre: tuple[float, float],
        size: tuple[float, float],
        colour: Colour,
        *,
        turn: float = 0.0,
        shadow: float = 0.0,
    ) -> None:
        """Stamp a rectangle turned by ``turn`` radians, with a shadow ``shadow`` pixels long."""
        distance = box_distance(size[0] / 2, size[1] / 2, turn)
        reach = math.hypot(*size) / 2 + 1.5
        self._shadow(centre, reach, distance, shadow)
        self.stamp(centre, reach, distance, colour)

    def disc(
        self, centre: tuple[float, float], radius: float, colour: Colour, *, shadow: float = 0.0
    ) -> None:
        """Stamp a filled circle."""
        distance = disc_distance(radius)
        self._shadow(centre, radius + 1.5, distance, shadow)
        self.stamp(centre, radius + 1.5, distance, colour)

    def _shadow(
        self, centre: tuple[float, float], reach: float, distance: Distance, length: float
    ) -> None:
        if length > 0:
            moved = (centre[0] + length * self.sun[0], centre[1] + length * self.sun[1])
            self.stamp(moved, reach, distance, (0.08, 0.09, 0.11))

    def noise(self, cells: int, octaves: int = 2) -> Array:
        """Return smooth noise of about unit deviation, ``cells`` bumps across the picture."""
        total = np.zeros((SIZE, SIZE), np.float32)
        for octave in range(octaves):
            count = min(cells * 2**octave, SIZE)
            grid = self.rng.standard_normal((count + 1, count + 1)).astype(np.float32)
            total += upsample(grid) * 0.6**octave
        return total * np.float32(1.3)

    def texture(self, strength: float, cells: int = 12) -> None:
        """Mottle the whole picture as real ground is."""
        self.rgb *= (1.0 + strength * self.noise(cells))[..., None]


def upsample(grid: Array) -> Array:
    """Interpolate ``(n + 1, n + 1)`` smoothly to ``(SIZE, SIZE)``."""
    cells = grid.shape[0] - 1
    position = (np.arange(SIZE, dtype=np.float32) + 0.5) * (cells / SIZE)
    low = position.astype(np.intp)
    part = position - low
    part = part * part * (3 - 2 * part)
    rows = grid[low] + part[:, None] * (grid[low + 1] - grid[low])
    out: Array = rows[:, low] + part[None, :] * (rows[:, low + 1] - rows[:, low])
    return out


def disc_distance(radius: float) -> Distance:
    """Signed distance to a circle around the origin."""
    return lambda u, v: np.hypot(u, v) - np.float32(radius)


def ring_distance(radius: float, width: float) -> Distance:
    """Signed distance to a ring of ``width`` whose middle line has ``radius``."""
    return lambda u, v: np.abs(np.hypot(u, v) - np.float32(radius)) - np.float32(width / 2)


def box_distance(half_u: float, half_v: float, turn: float = 0.0, corner: float = 0.0) -> Distance:
    """Signed distance to a turned rectangle with rounded corners around the origin."""
    cos, sin = math.cos(turn), math.sin(turn)

    def distance(u: Array, v: Array) -> Array:
        a = np.abs(cos * u + sin * v) - np.float32(half_u - corner)
        b = np.abs(-sin * u + cos * v) - np.float32(half_v - corner)
        outside = np.hypot(np.maximum(a, 0), np.maximum(b, 0))
        inside = np.minimum(np.maximum(a, b), 0)
        result: Array = outside + inside - np.float32(corner)
        return result

    return distance


def path_distance(points: Sequence[tuple[float, float]], width: float) -> Distance:
    """Signed distance to an open line through ``points``, ``width`` pixels wide."""

    def distance(u: Array, v: Array) -> Array:
        best = np.full(u.shape, np.inf, np.float32)
        for (u0, v0), (u1, v1) in pairwise(points):
            du, dv = u1 - u0, v1 - v0
            along = ((u - u0) * du + (v - v0) * dv) / (du * du + dv * dv + 1e-9)
            along = np.clip(along, 0, 1)
            best = np.minimum(best, np.hypot(u - u0 - along * du, v - v0 - along * dv))
        return best - np.float32(width / 2)

    return distance
