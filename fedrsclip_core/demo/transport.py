"""Harbor, runway, railway, intersection, roundabout and parking lot."""

from __future__ import annotations

import math

import numpy as np

from fedrsclip_core.demo.canvas import Canvas, path_distance, ring_distance
from fedrsclip_core.demo.elements import (
    FAR,
    Point,
    boat,
    car,
    dashes,
    ground,
    house,
    ray,
    road,
    traffic,
    trees,
    water_surface,
)
from fedrsclip_core.demo.palette import Palette, apart, contrasting


def harbor(c: Canvas, p: Palette, layout: str) -> None:
    """Paint boats moored at piers.

    ``layout``: ``comb``, ``piers`` (pretraining), ``quay``, ``basin`` (federation).
    """
    c.rgb[:] = water_surface(c, p)
    plank = apart(p.tarmac, p.water, 0.22)
    shore = c.rng.uniform(-24, -18)
    if layout in ("comb", "quay"):
        _land_strip(c, p, shore)
    if layout == "comb":
        for u in np.arange(c.rng.uniform(-36, -28), 40, c.rng.uniform(15, 19)):
            c.box((u, shore + 24), (2.2, 48), plank)
            for v in np.arange(shore + 6, shore + 46, c.rng.uniform(4.2, 5.5)):
                _moor(c, p, (u, v), 0.0)
    elif layout == "piers":
        for v in (-19.0, 0.0, 19.0):
            c.box((0, v), (110, 2.4), plank)
            for u in np.arange(-34, 34, c.rng.uniform(4.2, 5.5)):
                _moor(c, p, (u, v), math.pi / 2)
    elif layout == "quay":
        for v in (shore + 13, shore + 30):
            c.box((0, v), (c.rng.uniform(36, 60), 2.2), plank)
            c.box((0, (shore + v) / 2), (2.4, v - shore), plank)
            for u in np.arange(-22, 22, c.rng.uniform(4.6, 6)):
                _moor(c, p, (u, v), math.pi / 2)
    else:
        arm = c.rng.uniform(18, 25)
        for side in (-arm, arm):
            c.box((side, 0), (3, 44), plank)
            for v in np.arange(-20, 20, c.rng.uniform(4.2, 5.5)):
                _moor(c, p, (side, v), 0.0)
        c.box((0, -22), (2 * arm + 3, 3), plank)
        for _ in range(3):
            boat(c, p, tuple(c.rng.uniform(-8, 10, 2)), c.rng.uniform(0, 6), 8)


def _land_strip(c: Canvas, p: Palette, shore: float) -> None:
    c.blend(c.cover(c.v - shore), p.land)
    c.blend(c.cover(np.abs(c.v - shore) - 1.0), apart(p.tarmac, p.water, 0.2))


def _moor(c: Canvas, p: Palette, at: Point, along: float) -> None:
    # A boat on either side of the pier, some berths empty.
    for side in (-1, 1):
        if c.rng.random() < 0.78:
            length = c.rng.uniform(5.5, 8)
            away = side * (length / 2 + 1.2)
            place = (at[0] + math.cos(along) * away, at[1] + math.sin(along) * away)
            boat(c, p, place, along if side > 0 else along + math.pi, length)


def runway(c: Canvas, p: Palette, layout: str) -> None:
    """Paint a long paved strip with a dashed middle line and threshold bars.

    ``layout``: ``single``, ``taxiway`` (pretraining), ``crossing``, ``apron`` (federation).
    """
    ground(c, p)
    width = c.rng.uniform(11, 16)
    shift = c.rng.uniform(-6, 6)
    if layout == "taxiway":
        off = shift + c.rng.choice((-1, 1)) * (width / 2 + 11)
        _plain(c, p, [(-FAR, off), (FAR, off)], 4)
        _plain(c, p, [(-9, off), (3, shift)], 4)
    if layout == "apron":
        side = c.rng.choice((-1, 1))
        edge = shift + side * (width / 2 + 14)
        c.box((8, edge), (34, 16), apart(p.tarmac, p.land, 0.14))
        _plain(c, p, [(-4, edge), (-16, shift)], 4)
        for u in (0.0, 10.0, 19.0):
            _plane(c, (u, edge), c.rng.uniform(5, 8))
    if layout == "crossing":
        angle = c.rng.uniform(0.7, 1.4)
        tail, head = ray(angle + math.pi)[1], ray(angle)[1]
        _strip(c, p, [tail, head], width * 0.8, c.rng.uniform(-50, 50))
    _strip(c, p, [(-FAR, shift), (FAR, shift)], width, c.rng.uniform(-30, 20))


def _plain(c: Canvas, p: Palette, points: list[Point], width: float) -> None:
    c.shape(path_distance(points, width), apart(p.tarmac, p.land, 0.14))


def _strip(c: Canvas, p: Palette, points: list[Point], width: float, threshold: float) -> None:
    surface = apart(p.tarmac, p.land, 0.18)
    paint = contrasting(c.rng, surface, 0.4)
    _plain(c, p, points, width)
    (u0, v0), (u1, v1) = points
    turn = math.atan2(v1 - v0, u1 - u0)
    dashes(c, points, paint, width=1.3, length=5, gap=4)
    for side in (-width / 2 + 1.0, width / 2 - 1.0):
        edge = [(u - math.sin(turn) * side, v + math.cos(turn) * side) for u, v in points]
        c.shape(path_distance(edge, 0.7), paint)
    middle = ((u0 + u1) / 2, (v0 + v1) / 2)
    for across in np.linspace(-width / 2 + 2.5, width / 2 - 2.5, 4):
        at = (
            middle[0] + math.cos(turn) * threshold - math.sin(turn) * across,
            middle[1] + math.sin(turn) * threshold + math.cos(turn) * across,
        )
        c.box(at, (8, 1.3), paint, turn=turn)


def _plane(c: Canvas, at: Point, length: float) -> None:
    white = (0.93, 0.93, 0.95)
    c.box(at, (length * 0.2, length), white, shadow=1.0)
    c.box(at, (length, length * 0.2), white)
    c.box((at[0], at[1] + length * 0.42), (length * 0.45, length * 0.13), white)


def railway(c: Canvas, p: Palette, layout: str) -> None:
    """Paint parallel pairs of rails on sleepers.

    ``layout``: ``line``, ``yard`` (pretraining), ``bend``, ``switch`` (federation).
    """
    ground(c, p)
    trees(c, p, int(c.rng.integers(0, 25)), avoid=15)
    tracks = {"line": c.rng.integers(1, 3), "yard": c.rng.integers(4, 7)}.get(layout, 2)
    pitch = c.rng.uniform(7.5, 9.5)
    v = c.v - c.rng.uniform(-6, 6)
    if layout == "bend":
        v = v - c.rng.choice((-1, 1)) * (c.rng.uniform(0.008, 0.015) * c.u**2 - 6)
    for number in range(int(tracks)):
        _track(c, p, v - (number - (tracks - 1) / 2) * pitch)
    if layout == "switch":
        _track(c, p, v - pitch / 2 - 18 / (1 + np.exp(-(c.u - c.rng.uniform(-10, 10)) / 9)))
    if layout == "yard" or c.rng.random() < 0.4:
        start = c.rng.uniform(-30, 0)
        hue = c.rng.uniform(0.15, 0.8, 3)
        for wagon in range(int(c.rng.integers(2, 5))):
            at = start + 10.5 * wagon
            body = np.maximum(np.abs(c.u - at) - 4.8, np.abs(v + (tracks - 1) / 2 * pitch) - 1.9)
            c.blend(c.cover(body), hue)


def _track(c: Canvas, p: Palette, across: np.ndarray) -> None:
    # `across` is the distance to the track's middle line, (SIZE, SIZE).
    away = np.abs(across).astype(np.float32)
    bed = apart(p.tarmac, p.land, 0.12)
    c.blend(c.cover(away - 3.4), bed)
    sleepers = c.cover(away - 2.8) * (np.sin(2 * np.pi * c.u / 3.0) > 0)
    c.blend(sleepers, bed * np.float32(0.5), opacity=0.8)
    c.blend(c.cover(np.abs(away - 1.7) - 0.35), np.clip(bed + 0.35, 0, 0.97))


def intersection(c: Canvas, p: Palette, layout: str) -> None:
    """Paint roads that meet in one place.

    ``layout``: ``cross``, ``tee`` (pretraining), ``oblique``, ``boulevard`` (federation).
    """
    ground(c, p)
    width = c.rng.uniform(7, 10)
    _blocks(c, p, width)
    headings = {
        "cross": (0, math.pi / 2, math.pi, -math.pi / 2),
        "tee": (0, math.pi / 2, math.pi),
        "oblique": (0, 1.0, math.pi, math.pi + 1.0),
        "boulevard": (0, math.pi / 2, math.pi, -math.pi / 2),
    }[layout]
    wide = 1.5 if layout == "boulevard" else 1.0
    surface = apart(p.tarmac, p.land, 0.15)
    paint = contrasting(c.rng, surface, 0.4)
    scale = [wide if math.cos(h) ** 2 > 0.9 else 1.0 for h in headings]
    for heading, stretch in zip(headings, scale, strict=True):
        c.shape(path_distance(ray(heading), width * stretch + 2), np.clip(surface + 0.15, 0, 0.95))
    for heading, stretch in zip(headings, scale, strict=True):
        c.shape(path_distance(ray(heading), width * stretch), surface)
    for heading, stretch in zip(headings, scale, strict=True):
        dashes(c, ray(heading, start=width * 0.9 + 4), paint, width=1.0)
        for across in np.linspace(-width * stretch / 2 + 1.3, width * stretch / 2 - 1.3, 4):
            start = width * 0.75 + 1.5
            at = (
                math.cos(heading) * start - math.sin(heading) * across,
                math.sin(heading) * start + math.cos(heading) * across,
            )
            c.box(at, (2.4, 1.0), paint, turn=heading)
        traffic(c, ray(heading, 50, width), width / 4, int(c.rng.integers(0, 3)))


def _blocks(c: Canvas, p: Palette, clear: float) -> None:
    # Buildings or trees in the quarters between the roads.
    if c.rng.random() < 0.5:
        trees(c, p, int(c.rng.integers(5, 30)))
        return
    for _ in range(int(c.rng.integers(3, 9))):
        at = tuple(c.rng.choice((-1, 1), 2) * c.rng.uniform(clear + 5, 32, 2))
        house(c, p, (float(at[0]), float(at[1])), tuple(c.rng.uniform(6, 11, 2)))


def roundabout(c: Canvas, p: Palette, layout: str) -> None:
    """Paint a ring of road around an island, with roads leading away.

    ``layout``: ``four``, ``three`` (pretraining), ``five``, ``double`` (federation).
    """
    ground(c, p)
    ring = c.rng.uniform(11, 14) if layout != "double" else c.rng.uniform(15, 18)
    width = c.rng.uniform(5, 7)
    _blocks(c, p, ring)
    surface = apart(p.tarmac, p.land, 0.16)
    paint = contrasting(c.rng, surface, 0.35)
    arms = {"four": 4, "three": 3, "five": 5, "double": 4}[layout]
    headings = np.arange(arms) * 2 * math.pi / arms + c.rng.normal(0, 0.12, arms)
    for heading in headings:
        road(c, p, ray(float(heading), start=ring), width, marked=True)
    kerb = np.clip(surface + 0.18, 0, 0.95)
    c.shape(ring_distance(ring, width + 2), kerb)
    c.shape(ring_distance(ring, width), surface)
    c.disc((0, 0), ring - width / 2 - 1, p.plant if c.rng.random() < 0.6 else p.sand)
    if layout == "double":
        c.shape(ring_distance(ring - width - 1, width * 0.7), surface)
    c.shape(ring_distance(ring, 0.6), paint)
    c.disc((0, 0), c.rng.uniform(1.5, 4), p.land_other, shadow=1.0)
    for _ in range(int(c.rng.integers(1, 5))):
        at = c.rng.uniform(0, 6.3)
        place = (math.cos(at) * (ring + 1.3), math.sin(at) * (ring + 1.3))
        car(c, place, at + math.pi / 2, 3.2)


def parkinglot(c: Canvas, p: Palette, layout: str) -> None:
    """Paint rows of cars in marked bays.

    ``layout``: ``double``, ``full`` (pretraining), ``angled``, ``half`` (federation).
    """
    ground(c, p)
    surface = apart(p.tarmac, np.full(3, 0.9, np.float32), 0.15)
    c.box((0, 0), (70, c.rng.uniform(54, 90)), surface)
    c.texture(0.05)
    paint = contrasting(c.rng, surface, 0.3)
    bay, depth = c.rng.uniform(3.2, 3.8), 6.0
    turn = math.pi / 2 + (0.55 if layout == "angled" else 0.0)
    filled = {"double": 0.8, "full": 0.97, "angled": 0.8, "half": 0.5}[layout]
    pitch = {"full": 15.0, "half": 21.0}.get(layout, 18.0)
    for v in np.arange(-27, 34, pitch):
        rows = (v - depth / 2, v + depth / 2) if layout != "half" else (v,)
        for row in rows:
            for u in np.arange(-30, 31, bay):
                c.box((u + bay / 2, row), (depth, 0.7), paint, turn=turn)
                if c.rng.random() < filled:
                    car(c, (u, row), turn, 4.6)
        if layout == "double":
            c.box((0, v), (60, 0.8), paint)
    if c.rng.random() < 0.3:
        for u in np.arange(-28, 30, 9.0):
            c.disc((u, 34.0), 2, p.plant)
    if c.rng.random() < 0.3:
        road(c, p, [(-FAR, 38), (FAR, 38)], 4)
