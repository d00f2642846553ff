"""Things that occur in scenes of several classes: ground, trees, houses, roads, cars, boats."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from fedrsclip_core.demo.canvas import SIZE, Array, Canvas, path_distance
from fedrsclip_core.demo.palette import Palette, apart, contrasting

FAR = 60.0
Point = tuple[float, float]


def ground(c: Canvas, p: Palette, mottle: float = 0.1) -> None:
    """Fill the picture with land: two tints that mix in patches, finely mottled."""
    patches = c.cover(c.noise(3) * -6.0, softness=8.0)
    c.rgb[:] = p.land
    c.blend(patches, p.land_other, opacity=float(c.rng.uniform(0.1, 0.6)))
    c.texture(mottle, cells=16)


def water_surface(c: Canvas, p: Palette) -> Array:
    """Return a picture of water with faint swell, ``(SIZE, SIZE, 3)``."""
    swell = 1.0 + 0.05 * c.noise(8) + 0.04 * np.sin(c.u * 0.9 + 2 * c.noise(3, 1))
    return (p.water * swell[..., None]).astype(np.float32)


def trees(c: Canvas, p: Palette, count: int, avoid: float = 0.0) -> None:
    """Scatter single trees, none within ``avoid`` pixels of the middle line ``v = 0``."""
    for _ in range(count):
        u, v = c.rng.uniform(-45, 45, 2)
        if abs(v) < avoid:
            continue
        tree(c, p, (u, v), c.rng.uniform(1.2, 2.6))


def tree(c: Canvas, p: Palette, at: Point, radius: float) -> None:
    """Paint one crown with its shadow and a lit side."""
    tint = p.plant * np.float32(c.rng.uniform(0.75, 1.2))
    c.disc(at, radius, tint, shadow=1.2)
    lit = (at[0] - c.sun[0] * radius * 0.3, at[1] - c.sun[1] * radius * 0.3)
    c.disc(lit, radius * 0.5, np.clip(tint * 1.35, 0, 1))


def house(c: Canvas, p: Palette, at: Point, size: Point, turn: float = 0.0) -> None:
    """Paint a gabled roof: two halves of different brightness and a shadow."""
    roof = apart(p.roof(c.rng), p.land, 0.12)
    c.box(at, size, roof, turn=turn, shadow=1.6)
    offset = size[1] / 4
    half = (at[0] - math.sin(turn) * offset, at[1] + math.cos(turn) * offset)
    c.box(half, (size[0], size[1] / 2), roof * np.float32(0.72), turn=turn)


def road(c: Canvas, p: Palette, points: list[Point], width: float, *, marked: bool = False) -> None:
    """Paint a road with light kerbs and, if ``marked``, a middle line."""
    surface = apart(p.tarmac, p.land, 0.14)
    c.shape(path_distance(points, width + 1.6), contrasting(c.rng, surface, 0.18))
    c.shape(path_distance(points, width), surface)
    if marked:
        dashes(c, points, contrasting(c.rng, surface, 0.35), width=0.9)


def dashes(
    c: Canvas,
    points: list[Point],
    colour: Array,
    *,
    width: float = 0.9,
    length: float = 3.0,
    gap: float = 3.0,
) -> None:
    """Paint a dashed line along ``points``."""
    for (u0, v0), (u1, v1) in pairwise(points):
        run, turn = math.hypot(u1 - u0, v1 - v0), math.atan2(v1 - v0, u1 - u0)
        for start in np.arange(0, run, length + gap):
            along = start + length / 2
            at = (u0 + math.cos(turn) * along, v0 + math.sin(turn) * along)
            if max(abs(at[0]), abs(at[1])) < SIZE * 0.75:
                c.box(at, (length, width), colour, turn=turn)


def car(c: Canvas, at: Point, turn: float, length: float = 3.6) -> None:
    """Paint a car in any colour."""
    grey = c.rng.uniform(0.05, 0.95)
    colour = np.clip(grey + c.rng.normal(0, 0.15, 3), 0.03, 0.97)
    c.box(at, (length, length * 0.5), colour, turn=turn)


def traffic(c: Canvas, points: list[Point], lane: float, count: int) -> None:
    """Paint a few cars driving along straight ``points``, ``lane`` pixels off the middle."""
    (u0, v0), (u1, v1) = points[0], points[-1]
    turn = math.atan2(v1 - v0, u1 - u0)
    for _ in range(count):
        t, side = c.rng.uniform(0.2, 0.8), c.rng.choice((-lane, lane))
        at = (
            u0 + t * (u1 - u0) - math.sin(turn) * side,
            v0 + t * (v1 - v0) + math.cos(turn) * side,
        )
        car(c, at, turn, 3.0)


def boat(c: Canvas, p: Palette, at: Point, turn: float, length: float) -> None:
    """Paint a hull with a pointed bow and a deck."""
    bright = apart(np.full(3, c.rng.uniform(0.65, 0.95), np.float32), p.water, 0.2)
    c.box(at, (length * 0.75, length * 0.32), bright, turn=turn, shadow=0.8)
    bow = (at[0] + math.cos(turn) * length * 0.38, at[1] + math.sin(turn) * length * 0.38)
    c.disc(bow, length * 0.13, bright)
    c.box(at, (length * 0.35, length * 0.16), bright * np.float32(0.6), turn=turn)


def curve(start: Point, end: Point, bend: float, pieces: int = 9) -> list[Point]:
    """Return points of an arc from ``start`` to ``end`` that bulges ``bend`` pixels sideways."""
    (u0, v0), (u1, v1) = start, end
    run = math.hypot(u1 - u0, v1 - v0)
    nu, nv = -(v1 - v0) / run, (u1 - u0) / run
    points = []
    for t in np.linspace(0, 1, pieces):
        side = bend * math.sin(math.pi * t)
        points.append((u0 + t * (u1 - u0) + nu * side, v0 + t * (v1 - v0) + nv * side))
    return points


def ray(angle: float, length: float = FAR, start: float = 0.0) -> list[Point]:
    """Return the two ends of a line that leaves the middle at ``angle``."""
    return [
        (math.cos(angle) * start, math.sin(angle) * start),
        (math.cos(angle) * length, math.sin(angle) * length),
    ]
