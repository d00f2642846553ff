"""Dense and sparse housing, storage tanks, stadium and solar farm."""

from __future__ import annotations

import math

import numpy as np

from fedrsclip_core.demo.canvas import Canvas, box_distance, disc_distance
from fedrsclip_core.demo.elements import FAR, Point, curve, ground, house, road, tree, trees
from fedrsclip_core.demo.palette import Palette, apart, contrasting


def denseresidential(c: Canvas, p: Palette, layout: str) -> None:
    """Paint house beside house, with streets between.

    ``layout``: ``blocks``, ``rows`` (pretraining), ``crescent``, ``terraces`` (federation).
    """
    ground(c, p)
    depth, front = c.rng.uniform(4.6, 6), c.rng.uniform(5.5, 7)
    if layout == "crescent":
        _crescent(c, p, depth, front)
        return
    pitch = 2 * depth + (9 if layout != "terraces" else 6)
    shift = c.rng.uniform(-6, 6)
    for v in np.arange(-50, 50, pitch):
        street = v + shift
        road(c, p, [(-FAR, street), (FAR, street)], 2.6)
        for side in (-1, 1):
            row = street + side * (depth / 2 + 2.8)
            _row(c, p, row, (front, depth), layout)
    if layout == "blocks":
        at = c.rng.uniform(-14, 14)
        road(c, p, [(at, -FAR), (at, FAR)], 2.6)
    trees(c, p, int(c.rng.integers(5, 20)))


def _row(c: Canvas, p: Palette, v: float, size: Point, layout: str) -> None:
    front, depth = size
    step = front * (1.0 if layout == "terraces" else 1.25)
    for u in np.arange(-46 + c.rng.uniform(0, 5), 46, step):
        gap = layout == "terraces" and c.rng.random() < 0.15
        if not gap:
            wide = front * (1.0 if layout == "terraces" else c.rng.uniform(0.85, 1.1))
            house(c, p, (u, v), (wide, depth * c.rng.uniform(0.9, 1.1)))


def _crescent(c: Canvas, p: Palette, depth: float, front: float) -> None:
    middle = (c.rng.uniform(-12, 12), c.rng.uniform(30, 48))
    for radius in np.arange(8, 95, 2 * depth + 9):
        around = [
            (middle[0] + radius * math.cos(a), middle[1] + radius * math.sin(a))
            for a in np.linspace(-math.pi, 0, 15)
        ]
        road(c, p, around, 2.6)
        for off in (-depth / 2 - 2.8, depth / 2 + 2.8):
            for angle in np.arange(-math.pi, 0, front * 1.25 / max(radius + off, 4)):
                reach = radius + off
                at = (middle[0] + reach * math.cos(angle), middle[1] + reach * math.sin(angle))
                if max(abs(at[0]), abs(at[1])) < 48:
                    house(c, p, at, (front, depth), angle + math.pi / 2)


def sparseresidential(c: Canvas, p: Palette, layout: str) -> None:
    """Paint a few houses on large plots with trees and drives.

    ``layout``: ``roadside``, ``plots`` (pretraining), ``culdesac``, ``hamlet`` (federation).
    """
    ground(c, p)
    size = (c.rng.uniform(9, 13), c.rng.uniform(7, 9))
    trees(c, p, int(c.rng.integers(15, 45)))
    for at, gate in _plots(c, p, layout):
        road(c, p, [at, gate], 1.6)
        turn = c.rng.uniform(0, 1.5) if layout in ("hamlet", "culdesac") else 0.0
        house(c, p, at, size, turn)
        if c.rng.random() < 0.5:
            house(c, p, (at[0] + 5, at[1] + 4), (size[0] * 0.5, size[1] * 0.7), turn)
        if c.rng.random() < 0.3:
            c.box((at[0] - 8, at[1] + 5), (4, 2.6), (0.25, 0.65, 0.75))


def _plots(c: Canvas, p: Palette, layout: str) -> list[tuple[Point, Point]]:
    # Paints the road and returns, for each house, where it stands and where its drive begins.
    def near(u: float, v: float) -> Point:
        return (u + c.rng.normal(0, 1.5), v + c.rng.normal(0, 1.5))

    if layout == "roadside":
        road(c, p, [(-FAR, 0), (FAR, 0)], 3)
        places = [near(-18, 14), near(17, 15), near(-5, -15), near(24, -16)]
        return [(at, (at[0], 0.0)) for at in places]
    if layout == "plots":
        road(c, p, [(-28, -FAR), (-28, FAR)], 3)
        places = [near(-13, -17), near(14, -12), near(-12, 14), near(15, 17)]
        return [(at, (-28.0, at[1])) for at in places[: int(c.rng.integers(3, 5))]]
    if layout == "culdesac":
        road(c, p, [(0, -FAR), (0, 2)], 3)
        c.disc((0, 4), 6, apart(p.tarmac, p.land, 0.14))
        angles = c.rng.uniform(-0.3, 0.3) + np.array((-0.4, 0.7, 1.6, 2.5, 3.5))
        return [((22 * math.cos(a), 4 + 22 * math.sin(a)), (0.0, 4.0)) for a in angles]
    lane = curve((-FAR, c.rng.uniform(-25, 0)), (FAR, c.rng.uniform(0, 25)), c.rng.uniform(-18, 18))
    road(c, p, lane, 2.6)
    places = [near(-20, -20), near(19, -19), near(-18, 20), near(20, 19), near(0, -8)]
    keep = c.rng.permutation(len(places))[: int(c.rng.integers(3, 5))]
    return [(places[k], lane[int(c.rng.integers(2, 7))]) for k in keep]


def storagetanks(c: Canvas, p: Palette, layout: str) -> None:
    """Paint round flat-roofed tanks with their shadows.

    ``layout``: ``grid``, ``few`` (pretraining), ``mixed``, ``bunded`` (federation).
    """
    ground(c, p, 0.06)
    metal = apart(p.roof(c.rng), p.land, 0.25)
    for at, radius, dike in _tank_places(c, layout):
        if dike:
            c.box(at, (radius * 2.9, radius * 2.9), contrasting(c.rng, p.land, 0.2))
            c.box(at, (radius * 2.6, radius * 2.6), p.land_other)
        c.disc(at, radius + 0.8, np.clip(metal * 0.6, 0, 1), shadow=radius * 0.45)
        c.disc(at, radius, np.clip(metal * np.float32(c.rng.uniform(0.92, 1.1)), 0, 1))
        lit = (at[0] + c.sun[0] * radius * 0.2, at[1] + c.sun[1] * radius * 0.2)
        c.disc(lit, radius * 0.7, np.clip(metal * 0.88, 0, 1))
        c.box(at, (radius * 1.7, 0.8), np.clip(metal * 0.65, 0, 1), turn=c.rng.uniform(0, 3))


def _tank_places(c: Canvas, layout: str) -> list[tuple[Point, float, bool]]:
    if layout in ("grid", "bunded"):
        radius = c.rng.uniform(4.5, 7) if layout == "grid" else c.rng.uniform(6.5, 8)
        pitch = radius * c.rng.uniform(2.5, 2.9) if layout == "grid" else radius * 3.3
        line = np.arange(-2, 3) * pitch + c.rng.uniform(-4, 4)
        rows = line if layout == "grid" else line[1:4:2]
        return [((u, v), radius, layout == "bunded") for u in line for v in rows]
    if layout == "few":
        radius = c.rng.uniform(10, 13)
        count = int(c.rng.integers(2, 5))
        corners = [(-15.0, -15.0), (15.0, -14.0), (-14.0, 15.0), (15.0, 15.0)]
        return [(corners[k], radius, False) for k in c.rng.permutation(4)[:count]]
    placed: list[tuple[Point, float, bool]] = []
    for radius in (12.0, 9.0, 8.0, 6.0, 6.0, 5.0, 4.5, 4.0, 4.0, 3.5, 3.5, 3.5):
        for _ in range(12):
            at = (c.rng.uniform(-27, 27), c.rng.uniform(-27, 27))
            if all(math.dist(at, other) > radius + r + 2 for other, r, _ in placed):
                placed.append((at, radius, False))
                break
    return placed


def stadium(c: Canvas, p: Palette, layout: str) -> None:
    """Paint a playing field ringed by stands.

    ``layout``: ``athletics``, ``bowl`` (pretraining), ``stands``, ``dome`` (federation).
    """
    ground(c, p)
    trees(c, p, int(c.rng.integers(0, 15)), avoid=24)
    seats = apart(p.roof(c.rng), p.land, 0.2)
    long, wide = c.rng.uniform(24, 28), c.rng.uniform(18, 21)
    corner = {"athletics": wide * 0.98, "bowl": wide * 0.6, "stands": 2.0}.get(layout, wide)
    if layout == "dome":
        long = wide = c.rng.uniform(23, 27)
        corner = wide
    shadow = box_distance(long, wide, corner=corner)
    c.shape(lambda u, v: shadow(u - 2.5 * c.sun[0], v - 2.5 * c.sun[1]), (0.1, 0.1, 0.12))
    c.shape(shadow, seats)
    tier = box_distance(long - 3.5, wide - 3.5, corner=max(corner - 3.5, 0))
    c.shape(tier, seats * np.float32(0.7))
    if layout == "stands":
        for side in (-1, 1):
            c.box((0, side * (wide - 3)), (2 * long, 6), np.clip(seats * 1.2, 0, 1), shadow=2)
    inner = box_distance(long - 7, wide - 7, corner=max(corner - 7, 0.5))
    if layout == "athletics":
        c.shape(inner, (0.62, 0.3, 0.22) if c.rng.random() < 0.6 else p.tarmac)
        inner = box_distance(long - 10.5, wide - 10.5, corner=max(corner - 10.5, 0.5))
    c.shape(inner, p.plant)
    _pitch(c, p, (long - 12, min(wide - 11, long - 16)))


def _pitch(c: Canvas, p: Palette, half: Point) -> None:
    line = contrasting(c.rng, p.plant, 0.35)
    turf = np.where(np.sin(c.u * 1.3)[..., None] > 0, p.plant, np.clip(p.plant * 1.15, 0, 1))
    outline = box_distance(*half)
    c.shape(outline, turf.astype(np.float32))
    c.shape(lambda u, v: np.abs(outline(u, v)) - 0.4, line)
    c.box((0, 0), (0.8, 2 * half[1]), line)
    ring = disc_distance(min(half) * 0.45)
    c.shape(lambda u, v: np.abs(ring(u, v)) - 0.35, line)


def solarfarm(c: Canvas, p: Palette, layout: str) -> None:
    """Paint rows of panels over open ground.

    ``layout``: ``rows``, ``blocks`` (pretraining), ``tables``, ``terrain`` (federation).
    """
    ground(c, p)
    panel = apart(
        np.asarray((0.12, 0.16, 0.3), np.float32) + p.water * np.float32(0.3), p.land, 0.2
    )
    frame = np.clip(panel + 0.3, 0, 0.95)
    pitch, height = c.rng.uniform(6, 7.5), c.rng.uniform(3.2, 4)
    rise = 4 * np.sin(c.u / 13 + c.rng.uniform(0, 6)) if layout == "terrain" else np.zeros_like(c.u)
    v = (c.v + rise) / pitch
    across = np.abs(v - np.round(v)) * pitch - height / 2
    row = np.round(v)
    table = {"rows": 200.0, "blocks": 27.0, "tables": 12.0}.get(layout, 34.0)
    shift = np.sin(row * 7.13) * 9 if layout in ("tables", "terrain") else 0.0
    along = table / 2 - 1.3 - np.abs((c.u + shift) - np.round((c.u + shift) / table) * table)
    distance = np.maximum(across, -along)
    if layout == "blocks":
        distance = np.maximum(distance, 2.0 - np.abs(np.mod(c.v + 20, 30) - 15))
    if layout == "terrain":
        distance = np.maximum(distance, np.hypot(c.u, c.v) - 29 + 3 * c.noise(3))
    distance = distance.astype(np.float32)
    c.blend(c.cover(distance - 1.0), panel * np.float32(0.35), opacity=0.5)
    c.blend(c.cover(distance), panel)
    cells = (np.abs(np.mod(c.u + shift, 4.0) - 2.0) < 0.4) | (np.abs(across + height / 2) < 0.4)
    c.blend(c.cover(distance) * cells, frame, opacity=0.6)
    if c.rng.random() < 0.5:
        at = c.rng.uniform(-20, 20)
        road(c, p, [(at, -FAR), (at, FAR)], 2.5)
    if layout != "rows":
        tree(c, p, tuple(c.rng.uniform(-28, 28, 2)), 3)
