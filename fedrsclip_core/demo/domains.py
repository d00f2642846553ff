"""What makes one client's imagery differ from another's: season, sensor, haze and resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedrsclip_core.demo.canvas import SIZE, Array, upsample
from fedrsclip_core.demo.rng import named_generator

# Calibrated so that the demo CLIP's zero-shot accuracy leaves room for prompts.
FEDERATION_STRENGTH = 1.0
PRETRAINING_STRENGTH = 0.35


@dataclass(frozen=True)
class DomainShift:
    """One sensor over one region in one season.

    Attributes
    ----------
    hue : float
        Turn of vegetation's hue, in parts of the colour circle.
    vigour : float
        Factor on vegetation's saturation.
    gain : tuple of float
        White balance, one factor per channel.
    gamma : float
        Exponent of the tone curve.
    contrast : float
        Factor on the distance from mid-grey.
    haze : float
        Share of the haze's colour, 0..1.
    haze_tint : tuple of float
        The haze's colour.
    blur : float
        Deviation of the blur, in pixels.
    stride : float
        Ground resolution: the picture is resampled to ``SIZE / stride`` and back.
    """

    hue: float
    vigour: float
    gain: tuple[float, float, float]
    gamma: float
    contrast: float
    haze: float
    haze_tint: tuple[float, float, float]
    blur: float
    stride: float

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float) -> DomainShift:
        """Draw a shift; ``strength`` 0 is none, 1 the federation's."""
        gain = np.exp(rng.normal(0, 0.14 * strength, 3))
        tint = rng.uniform((0.6, 0.6, 0.6), (0.95, 0.9, 0.95))
        return cls(
            hue=float(rng.uniform(-0.22, 0.12) * strength),
            vigour=float(np.exp(rng.uniform(-0.7, 0.25) * strength)),
            gain=(float(gain[0]), float(gain[1]), float(gain[2])),
            gamma=float(np.exp(rng.normal(0, 0.35 * strength))),
            contrast=float(np.exp(-abs(rng.normal(0, 0.3 * strength)))),
            haze=float(min(rng.uniform(0, 0.5) * strength, 0.7)),
            haze_tint=(float(tint[0]), float(tint[1]), float(tint[2])),
            blur=float(rng.uniform(0, 1.1) * strength),
            stride=float(1 + rng.uniform(0, 1.4) * strength),
        )


def client_domain(seed: int, domain: int, *, strength: float = FEDERATION_STRENGTH) -> DomainShift:
    """Return the shift of client ``domain`` in the federation of ``seed``."""
    return DomainShift.draw(named_generator("domain", seed, domain), strength)


def apply_domain(rgb: Array, shift: DomainShift) -> Array:
    """Return ``rgb``, ``(SIZE, SIZE, 3)`` in 0..1, as the shifted sensor sees it."""
    out = _season(rgb, shift.hue, shift.vigour)
    out = _resolution(out, shift.blur, shift.stride)
    out = np.clip(out * np.asarray(shift.gain, np.float32), 0, 1) ** np.float32(shift.gamma)
    out = 0.5 + (out - 0.5) * np.float32(shift.contrast)
    tint = np.asarray(shift.haze_tint, np.float32)
    hazy: Array = out + np.float32(shift.haze) * (tint - out)
    return hazy


def _season(rgb: Array, hue: float, vigour: float) -> Array:
    # Turns colours around the grey axis, the more the greener they are.
    grey = rgb.mean(-1, keepdims=True)
    green = rgb[..., 1:2] - np.maximum(rgb[..., 0:1], rgb[..., 2:3])
    weight = np.clip(0.4 + green * 12, 0, 1)
    angle = 2 * np.pi * hue
    cos, sin = np.cos(angle) / 3, np.sin(angle) / np.sqrt(3)
    third = 1 / 3 - cos
    turn = np.full((3, 3), third) + np.eye(3) * 3 * cos
    turn += sin * np.array(((0, -1, 1), (1, 0, -1), (-1, 1, 0)))
    turned = grey + ((rgb - grey) @ turn.T.astype(np.float32)) * np.float32(vigour)
    shifted: Array = np.clip(rgb + weight * (turned - rgb), 0, 1).astype(np.float32)
    return shifted


def _resolution(rgb: Array, blur: float, stride: float) -> Array:
    out = _blur(rgb, blur) if blur > 0.05 else rgb
    cells = round(SIZE / stride)
    if cells >= SIZE:
        return out
    edges = np.linspace(0, SIZE, cells + 2).astype(np.intp)[:-1]
    rows = np.add.reduceat(out, edges, axis=0) / np.diff(np.append(edges, SIZE))[:, None, None]
    coarse = np.add.reduceat(rows, edges, axis=1) / np.diff(np.append(edges, SIZE))[None, :, None]
    return np.stack([upsample(coarse[..., channel]) for channel in range(3)], -1)


def _blur(rgb: Array, deviation: float) -> Array:
    offsets = np.arange(-3, 4)
    kernel = np.exp(-(offsets**2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)
    out = rgb
    for axis in (0, 1):
        pad = [(3, 3) if k == axis else (0, 0) for k in range(3)]
        wide = np.pad(out, pad, mode="edge")
        parts = [np.take(wide, range(k, k + SIZE), axis) * kernel[k] for k in range(7)]
        out = np.sum(parts, axis=0)
    return out
