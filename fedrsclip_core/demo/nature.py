"""Farmland, forest, river, lake and beach."""

from __future__ import annotations

import math

import numpy as np

from fedrsclip_core.demo.canvas import Array, Canvas, path_distance
from fedrsclip_core.demo.elements import FAR, ground, house, road, trees, water_surface
from fedrsclip_core.demo.palette import LAND, Palette, apart, contrasting, jitter


def farmland(c: Canvas, p: Palette, layout: str) -> None:
    """Paint adjoining fields, each in its own colour and with its own furrows.

    ``layout``: ``grid``, ``strips`` (pretraining), ``bricks``, ``polygons`` (federation).
    """
    ground(c, p)
    cell, edge = _field_cells(c, layout)
    cells, index = np.unique(cell, return_inverse=True)
    index = index.reshape(cell.shape)
    tints = np.stack([jitter(c.rng, LAND[c.rng.integers(len(LAND))][1:]) for _ in cells])
    turns = c.rng.choice((0.0, math.pi / 2), len(cells)) + (layout == "polygons") * c.rng.uniform(
        0, math.pi, len(cells)
    )
    period, depth = c.rng.uniform(2.6, 5.0, len(cells)), c.rng.uniform(0.06, 0.3, len(cells))
    along = c.u * np.cos(turns)[index] + c.v * np.sin(turns)[index]
    furrow = 1 + depth[index] * np.sin(2 * np.pi * along / period[index])
    c.rgb[:] = tints[index] * furrow[..., None]
    border = contrasting(c.rng, p.land, 0.2)
    c.blend(c.cover(edge - c.rng.uniform(0.5, 1.1)), border, opacity=0.85)
    c.texture(0.06, cells=20)
    if c.rng.random() < 0.35:
        house(c, p, tuple(c.rng.uniform(-22, 22, 2)), (6, 4))


def _field_cells(c: Canvas, layout: str) -> tuple[Array, Array]:
    # A number per field, (SIZE, SIZE), and the distance to the nearest border.
    if layout == "polygons":
        seeds = c.rng.uniform(-46, 46, (int(c.rng.integers(12, 20)), 2)).astype(np.float32)
        gaps = np.hypot(c.u[..., None] - seeds[:, 0], c.v[..., None] - seeds[:, 1])
        nearest = np.sort(gaps, axis=-1)
        return gaps.argmin(-1).astype(np.float32), (nearest[..., 1] - nearest[..., 0]) / 2
    width, height = {
        "grid": c.rng.uniform((15, 15), (25, 25)),
        "strips": c.rng.uniform((70, 6), (110, 11)),
        "bricks": c.rng.uniform((22, 10), (34, 16)),
    }[layout]
    shift_u, shift_v = c.rng.uniform(0, 40, 2)
    row = np.floor((c.v + shift_v) / height)
    stagger = np.sin(row * 12.9898) * width if layout == "bricks" else np.zeros_like(row)
    u, v = (c.u + shift_u + stagger) / width, (c.v + shift_v) / height
    edge = np.minimum(np.abs(u - np.round(u)) * width, np.abs(v - np.round(v)) * height).astype(
        np.float32
    )
    return (np.floor(u) + 100 * row).astype(np.float32), edge


def forest(c: Canvas, p: Palette, layout: str) -> None:
    """Paint crown beside crown.

    ``layout``: ``closed``, ``clearing`` (pretraining), ``path``, ``slope`` (federation).
    """
    dark = p.plant * np.float32(0.45)
    c.rgb[:] = dark
    scale = c.rng.uniform(2.0, 2.7) * (1.35 if layout == "slope" else 1.0)
    spacing = scale * 1.75
    mixed = jitter(c.rng, LAND[c.rng.integers(len(LAND))][1:]) * np.float32(0.9)
    hole = _clearing(c, layout)
    for u in np.arange(-46, 46, spacing):
        for v in np.arange(-46, 46, spacing):
            at = (u + c.rng.normal(0, spacing * 0.3), v + c.rng.normal(0, spacing * 0.3))
            tint = p.plant if c.rng.random() < 0.8 else mixed
            tint = np.clip(tint * np.float32(c.rng.uniform(0.75, 1.35)), 0, 1)
            radius = scale * c.rng.uniform(0.75, 1.2)
            c.disc(at, radius, tint * np.float32(0.7))
            lit = (at[0] - c.sun[0] * radius * 0.3, at[1] - c.sun[1] * radius * 0.3)
            c.disc(lit, radius * 0.55, tint)
    if hole is not None:
        c.blend(c.cover(hole, 3.0), apart(p.land, p.plant, 0.2))
    if layout == "slope":
        c.rgb *= (1 + 0.35 * np.tanh(c.noise(2, 1)))[..., None]


def _clearing(c: Canvas, layout: str) -> Array | None:
    if layout == "clearing":
        at = c.rng.uniform(-16, 16, 2)
        reach = c.rng.uniform(5, 10)
        hole: Array = np.hypot(c.u - at[0], c.v - at[1]) - np.float32(reach) + 2.5 * c.noise(5)
        return hole
    if layout == "path":
        bend, phase = c.rng.uniform(3, 10), c.rng.uniform(0, 6)
        middle = bend * np.sin(c.u / 14 + phase) + c.rng.uniform(-14, 14)
        return (np.abs(c.v - middle) - 1.4).astype(np.float32)
    return None


def river(c: Canvas, p: Palette, layout: str) -> None:
    """Paint a band of water that crosses the picture.

    ``layout``: ``meander``, ``stream`` (pretraining), ``confluence``, ``island`` (federation).
    """
    ground(c, p, 0.12)
    trees(c, p, int(c.rng.integers(0, 25)))
    width = c.rng.uniform(3.5, 8)
    bank = 1.2 * c.noise(7)
    distance = _course(c, width, layout) + bank
    _flood(c, p, distance)
    if c.rng.random() < 0.25:
        road(c, p, [(-6, -FAR), (4, FAR)], 3)


def _course(c: Canvas, width: float, layout: str) -> Array:
    phase, shift = c.rng.uniform(0, 6.3), c.rng.uniform(-8, 8)
    if layout == "confluence":
        joint = (c.rng.uniform(-8, 8), c.rng.uniform(-5, 5))
        spread = c.rng.uniform(16, 34)
        trunk = path_distance([joint, (FAR, c.rng.uniform(-8, 8))], width * 2)
        upper = path_distance([joint, (-22, spread * 0.6), (-FAR, spread * 1.3)], width * 1.5)
        lower = path_distance([joint, (-24, -spread * 0.6), (-FAR, -spread)], width * 1.2)
        wobble = c.v + 4 * np.sin(c.u / 9 + phase)
        arms = np.minimum(upper(c.u, wobble), lower(c.u, wobble))
        joined: Array = np.minimum(trunk(c.u, wobble), arms)
        return joined
    swing = {"meander": c.rng.uniform(9, 17), "stream": c.rng.uniform(2, 6)}.get(layout, 6.0)
    period = {"meander": c.rng.uniform(6, 9), "stream": c.rng.uniform(14, 22)}.get(layout, 13.0)
    middle = swing * np.sin(c.u / period + phase) + shift
    slope = swing / period * np.cos(c.u / period + phase)
    away = np.abs(c.v - middle) / np.sqrt(1 + slope**2)
    if layout != "island":
        band: Array = away - width
        return band
    place, length = c.rng.uniform(-10, 10), c.rng.uniform(9, 16)
    swell = np.exp(-(((c.u - place) / length) ** 2))
    bars = away - width * 0.9 * swell + width * 0.25
    around: Array = np.maximum(away - width * (1 + 0.9 * swell), -bars)
    return around


def lake(c: Canvas, p: Palette, layout: str) -> None:
    """Paint a closed sheet of water with land all round.

    ``layout``: ``round``, ``long`` (pretraining), ``lobes``, ``islets`` (federation).
    """
    ground(c, p, 0.12)
    trees(c, p, int(c.rng.integers(0, 30)))
    u0, v0 = c.rng.uniform(-5, 5, 2)
    u, v = c.u - u0, c.v - v0
    reach = c.rng.uniform(14, 20)
    if layout == "lobes":
        other = np.hypot(u - reach * 0.8, v - 6) - reach * 0.55
        distance = np.minimum(np.hypot(u + 6, v) - reach * 0.7, other)
    else:
        ratio = {"long": c.rng.uniform(1.7, 2.3), "round": 1.1}.get(layout, 1.4)
        stretch = math.sqrt(ratio)
        distance = np.hypot(u / stretch, v * stretch) - reach
    distance = distance + c.rng.uniform(1.5, 3.0) * c.noise(4)
    if layout == "islets":
        for _ in range(int(c.rng.integers(1, 4))):
            at = c.rng.uniform(-9, 9, 2)
            distance = np.maximum(distance, c.rng.uniform(1.8, 4) - np.hypot(u - at[0], v - at[1]))
    _flood(c, p, distance.astype(np.float32))


def _flood(c: Canvas, p: Palette, distance: Array) -> None:
    # Water where the distance is negative, with a wet rim.
    p_water = apart(p.water, p.land, 0.16)
    picture = water_surface(c, p) + (p_water - p.water)
    c.blend(c.cover(distance - 1.3, 2.5), p.sand * np.float32(0.8), opacity=0.7)
    c.blend(c.cover(distance), picture)


def beach(c: Canvas, p: Palette, layout: str) -> None:
    """Paint water, surf, sand and land side by side.

    ``layout``: ``straight``, ``wavy`` (pretraining), ``bay``, ``headland`` (federation).
    """
    ground(c, p, 0.12)
    trees(c, p, int(c.rng.integers(5, 40)))
    shore = c.rng.uniform(-8, 6)
    bend = {
        "straight": np.zeros_like(c.u),
        "wavy": c.rng.uniform(3, 5) * np.sin(c.u / c.rng.uniform(6, 9) + c.rng.uniform(0, 6)),
        "bay": c.rng.uniform(0.013, 0.025) * (c.u - c.rng.uniform(-10, 10)) ** 2 - 8,
        "headland": 10 - c.rng.uniform(0.016, 0.03) * (c.u - c.rng.uniform(-10, 10)) ** 2,
    }[layout]
    v = (c.v - shore - bend + 0.8 * c.noise(6)).astype(np.float32)
    strand = c.rng.uniform(7, 14)
    sand = apart(p.sand, p.land, 0.15)
    c.blend(c.cover(v - strand - 1.2 * c.noise(8), 2.0), sand)
    wet = apart(p.water, sand, 0.25)
    c.blend(c.cover(v, 2.0), water_surface(c, p) + (wet - p.water))
    shallow = c.cover(v) * np.exp(np.minimum(v, 0) / 7)
    c.blend(shallow, wet * np.float32(0.5) + np.float32(0.4), opacity=0.5)
    for line in (0.0, -4.5 - 2 * c.rng.random(), -10.0 - 3 * c.rng.random()):
        crest = np.abs(v - line + 0.9 * c.noise(9)) - 0.5
        c.blend(c.cover(crest), (0.93, 0.94, 0.93), opacity=0.9 if line == 0 else 0.5)
    for _ in range(int(c.rng.integers(0, 9))):
        at = (c.rng.uniform(-30, 30), shore + strand * 0.6)
        c.disc(at, 1.1, c.rng.uniform(0.2, 0.95, 3), shadow=0.8)
